select data
from pg_catalog.pg_logical_slot_peek_binary_changes(
    %(slot)s::text, %(upto)s::pg_lsn, %(at_least)s::int,
    'proto_version', '1', 'publication_names', %(publications)s::text
)
