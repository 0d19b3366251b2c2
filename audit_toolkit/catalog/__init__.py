"""PostgreSQL's catalogues, read into frozen values: one query for each kind of thing."""

from audit_toolkit.catalog.model import (
    Column,
    Installed,
    InstalledTrigger,
    Kind,
    Numbering,
    Relation,
    Table,
)
from audit_toolkit.catalog.read import (
    find_relation,
    parse_comment,
    read_column_names,
    read_installed,
    read_relations,
    read_table,
    read_tables,
    read_trail,
    resolve,
)

__all__ = [
    "Column",
    "Installed",
    "InstalledTrigger",
    "Kind",
    "Numbering",
    "Relation",
    "Table",
    "find_relation",
    "parse_comment",
    "read_column_names",
    "read_installed",
    "read_relations",
    "read_table",
    "read_tables",
    "read_trail",
    "resolve",
]
