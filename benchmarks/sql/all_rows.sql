-- One statement over all rows.
do $bench$
declare
    changed orders;
    row_before jsonb;
    row_after jsonb;
begin
    {context};
    {statement};
end
$bench$
