-- Values that differ from row to row as those of a shop do, and are the same in each run.
create function pick(words text[], number bigint, n int) returns text
language sql immutable parallel safe
return words[1 + (hashint8extended(number, n) & 1073741823) % cardinality(words)];

create function figure(number bigint, n int, below int) returns bigint
language sql immutable parallel safe
return (hashint8extended(number, n) & 1073741823) % below;

create function remark(number bigint, n int) returns text
language sql immutable parallel safe
return (
    select string_agg(pick(array[
        'please', 'ring', 'twice', 'and', 'leave', 'it', 'at', 'the', 'door', 'customer', 'asked', 'for', 'a', 'later',
        'delivery', 'called', 'back', 'on', 'Monday', 'wants', 'invoice', 'by', 'post', 'neighbour', 'has', 'key',
        'damaged', 'box', 'replaced', 'from', 'stock', 'no', 'discount', 'given', 'before', 'noon', 'second', 'floor'
    ], number, 1000 * n + word), ' ' order by word)
    from generate_series(1, 5 + figure(number, n, 6)::int) as word
);

create function mailbox(number bigint, n int) returns text
language sql immutable parallel safe
return pick(array['anna', 'ben', 'carla', 'david', 'emma', 'felix', 'grace', 'hugo', 'iris', 'jon'], number, n)
    || '.' || pick(array['smith', 'jones', 'meyer', 'rossi', 'novak', 'silva', 'dubois', 'larsen'], number, n + 100)
    || '.' || figure(number, n + 200, 10000) || '@example.com';

create function basket(number bigint, n int) returns jsonb
language sql immutable parallel safe
return jsonb_build_array(
    jsonb_build_object('sku', 'A-' || figure(number, n, 9999), 'n', figure(number, n + 10, 9)),
    jsonb_build_object('sku', 'B-' || figure(number, n + 20, 9999), 'n', figure(number, n + 30, 9))
);
