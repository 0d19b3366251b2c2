select data
from pg_catalog.pg_logical_slot_peek_binary_changes(
    %(slot)s::text, null, %(at_least)s::int,
    'proto_version', '1', 'publication_names', pg_catalog.quote_ident(%(publication)s::text),
    'messages', 'true'
)
