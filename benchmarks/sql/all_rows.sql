-- One statement over all rows.
do $bench$
declare
    changed orders;
begin
    {context};
    {statement};
end
$bench$
