-- One statement a row, in the server, in one transaction.
do $bench$
declare
    changed orders;
    row_before jsonb;
    row_after jsonb;
begin
    {context};
    for number in {first} .. {last} loop
        {statement};
    end loop;
end
$bench$
