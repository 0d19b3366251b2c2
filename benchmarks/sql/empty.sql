create function nothing() returns trigger language plpgsql as $empty$
begin
    return null;
end
$empty$;

create trigger nothing
    after insert or update or delete on orders
    for each row execute function nothing();
