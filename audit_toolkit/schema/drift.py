"""Drift of the schema of the trail: whatever it holds that this version does not make is a finding."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import groupby

from audit_toolkit.catalog import parse_comment
from audit_toolkit.catalog.schema import HOME, Fact
from audit_toolkit.catalog.trail import TrailObjects
from audit_toolkit.findings import Finding, FindingKind, Severity
from audit_toolkit.names import quote_identifier, replay_function
from audit_toolkit.remedies import UPGRADE_DATABASE, psql_command
from audit_toolkit.schema.expected import Shape, expected_shape
from audit_toolkit.schema.install import (
    ARCHIVER_FUNCTIONS,
    INSTALLER_FUNCTIONS,
    MAINTAINER_FUNCTIONS,
    READER_FUNCTIONS,
    RECORDER_FUNCTIONS,
    REDACTOR_FUNCTIONS,
    SEALER_FUNCTIONS,
    trail_hash,
)

TRAIL = "logged_actions"
GUARD = "00_audit_append_only"

_LEAF_CHECK = re.compile(
    r"CHECK \(\(*(action_tstamp (IS NOT NULL|(>=|<) '[^']+'::timestamp with time zone)\)*( AND \(*)?)+\)( NOT VALID)?"
)
"""A bound that DETACH CONCURRENTLY or a relabelling leaves on a leaf."""

_OF_CONSUMERS = (
    *("name", "event_id", "event_tstamp", "system_identifier", "timeline", "lease_pid"),
    *("leased_at", "options", "delivered", "delivered_at", "failures", "last_error"),
    *("last_error_at", "hold_for", "created_at"),
)
"""What readers may see of consumers: not the numbers of their locks."""
_OF_CAPTURE = (
    *(
        "slot_name",
        "commit_lsn",
        "read_until",
        "system_identifier",
        "timeline",
        "publication",
        "events",
    ),
    *("ran_at", "caught_up_at", "last_error", "last_error_at", "created_at"),
)
"""What readers may see of the worker that reads the WAL: not the number of its lock."""
_MAY_BE_GRANTED = {
    (None, "usage"),
    (TRAIL, "select"),
    # To maintainers: when events happened, and nothing else.
    (TRAIL, "select (event_id)"),
    (TRAIL, "select (action_tstamp)"),
    ("maintenance", "select"),
    ("captured_tables", "select"),
    ("home", "select"),
    ("seal_checkpoints", "select"),
    ("seal_keys", "select"),
    ("seal_tiles", "select"),
    (f"{TRAIL}_event_id_seq", "select"),
    ("partition_lifecycle", "select"),
    *(
        (function, "execute")
        for functions in (
            READER_FUNCTIONS,
            MAINTAINER_FUNCTIONS,
            ARCHIVER_FUNCTIONS,
            INSTALLER_FUNCTIONS,
            RECORDER_FUNCTIONS,
            REDACTOR_FUNCTIONS,
            SEALER_FUNCTIONS,
        )
        for function in functions
    ),
    *(
        (table, privilege)
        for table in ("consumers", "dead_letters")
        for privilege in ("select", "insert", "update", "delete")
    ),
    *(("consumers", f"select ({column})") for column in _OF_CONSUMERS),
    ("dead_letters", "select (consumer)"),
    *(("capture_progress", f"select ({column})") for column in _OF_CAPTURE),
}
"""What may be granted: `audit grants` does."""


def schema_findings(objects: TrailObjects) -> Iterator[Finding]:
    """What the schema holds and should not, lacks and should have, or has otherwise.

    A trail of an older release is judged by what it has too much alone: what it lacks, its upgrade brings.
    """
    trail = next((table for table in objects.tables if table.name == TRAIL), None)
    if trail is None or not objects.facts or not (recorded := parse_comment(trail.comment)):
        return
    captures = {f.name for f in objects.functions if "table" in parse_comment(f.comment)}
    captures |= {replay_function(name) for name in captures}
    facts = [fact for fact in objects.facts if not _is_capture(fact, captures)]
    yield from _owner_findings(facts, trail.owner)
    comparison = _Comparison(objects.schema, facts)
    known = captures | {relation for _, relation, _ in comparison.expected if relation}
    yield from _grant_findings(
        fact
        for fact in objects.facts
        if fact.kind == "grant" and (fact.is_leaf or not fact.relation or fact.relation in known)
    )
    yield from comparison.leaf_findings()
    is_present = recorded.get("hash") == trail_hash(objects.schema)
    yield from comparison.findings(is_present=is_present)
    yield from _event_trigger_findings(objects)


def _is_capture(fact: Fact, captures: set[str]) -> bool:
    """Whether it is about a capture function, or one named so: those are held against their tables."""
    if fact.kind == "owner" and fact.object.startswith("function "):
        return fact.relation in captures
    return fact.kind == "function" and (
        (fact.relation or "").startswith("capture_") or fact.relation in captures
    )


def _owner_findings(facts: Iterable[Fact], owner: str) -> Iterator[Finding]:
    for fact in facts:
        if fact.kind == "owner" and fact.definition != owner:
            yield Finding(
                kind=FindingKind.WRONG_OWNER,
                severity=Severity.ERROR,
                subject=fact.object.removeprefix("table "),
                message=f"it belongs to {fact.definition}, the trail to {owner}",
                remedy=psql_command(f"alter {fact.object} owner to {quote_identifier(owner)}"),
            )


def _grant_findings(grants: Iterable[Fact]) -> Iterator[Finding]:
    unwanted = [
        f
        for f in grants
        if f.is_leaf or (f.relation, f.name) not in _MAY_BE_GRANTED or _is_for_everybody(f)
    ]
    by_grantee = sorted(unwanted, key=lambda fact: (fact.object, fact.definition))
    for (shown, grantee), group in groupby(by_grantee, key=lambda f: (f.object, f.definition)):
        facts = list(group)
        privileges = [str(fact.name) for fact in facts]
        yield Finding(
            kind=_grant_kind(facts[0], privileges),
            severity=Severity.ERROR,
            subject=shown.removeprefix("table ").removeprefix("function "),
            message=", ".join(f"{grantee} {privilege}" for privilege in privileges)
            + f": {_grant_meaning(facts[0], privileges)}",
            remedy=psql_command(
                f"revoke {', '.join(privileges)} on {shown} from {grantee} cascade"
            ),
        )


def _is_for_everybody(fact: Fact) -> bool:
    """Whether all roles of the database may read events: a reader is a role that somebody named."""
    return (fact.relation, fact.name, fact.definition) == (TRAIL, "select", "public")


def _grant_kind(fact: Fact, privileges: list[str]) -> FindingKind:
    if fact.is_leaf:
        return FindingKind.GRANT_ON_LEAF
    if fact.object.startswith("function "):
        return (
            FindingKind.EXECUTABLE_BY_PUBLIC
            if fact.definition == "public"
            else FindingKind.EXECUTABLE_BY_OTHERS
        )
    if all(p.split(" ")[0] in ("select", "references", "usage") for p in privileges):
        return FindingKind.READABLE_BY_OTHERS
    return FindingKind.WRITABLE_BY_OTHERS


def _grant_meaning(fact: Fact, privileges: list[str]) -> str:
    match _grant_kind(fact, privileges):
        case FindingKind.GRANT_ON_LEAF:
            return "granted past the parent, around row security"
        case FindingKind.EXECUTABLE_BY_PUBLIC | FindingKind.EXECUTABLE_BY_OTHERS:
            return "only the owner of the trail needs it"
        case FindingKind.READABLE_BY_OTHERS if _is_for_everybody(fact):
            return "every role can read every event; grant it to named readers: audit grants"
        case FindingKind.READABLE_BY_OTHERS:
            return "no reader of the trail needs it"
    return "others than its owner could write to it"


class _Comparison:
    """The facts of a schema beside those that this version makes."""

    def __init__(self, schema: str, facts: Iterable[Fact]) -> None:
        self.schema = schema
        self.facts = [fact for fact in facts if fact.kind not in ("owner", "grant")]
        self.expected = {(kind, relation, name): d for kind, relation, name, d in expected_shape()}
        self.parent = {
            (fact.kind, fact.name): fact.definition
            for fact in self.facts
            if fact.relation == TRAIL and not fact.is_leaf
        }

    def findings(self, *, is_present: bool) -> Iterator[Finding]:
        """What differs, the leaves apart."""
        present = {}
        for fact in self.facts:
            if fact.is_leaf:
                continue
            key = (fact.kind, fact.relation, fact.name)
            present[key] = fact.definition
            if key not in self.expected:
                # An object that only an older release creates is removed by the upgrade.
                if is_present or fact.kind not in ("function", "index", "constraint"):
                    yield from self._unexpected(fact)
            elif self.expected[key] != fact.definition and is_present:
                yield from self._changed(fact, self.expected[key])
        missing = self.expected.keys() - present.keys() if is_present else ()
        gone = {relation for kind, relation, _ in missing if kind == "relation"}
        for kind, relation, name in sorted(missing, key=str):
            if relation not in gone or kind == "relation":
                yield from self._missing(
                    (kind, relation, name, self.expected[kind, relation, name])
                )

    def leaf_findings(self) -> Iterator[Finding]:
        """Where a leaf is not like the trail that it belongs to."""
        leaves: dict[str, list[Fact]] = {}
        for fact in self.facts:
            if fact.is_leaf and fact.relation is not None:
                leaves.setdefault(fact.relation, []).append(fact)
        for facts in leaves.values():
            shown = next(fact.object for fact in facts if fact.kind == "relation")
            yield from self._leaf(facts)
            guard = ("trigger", GUARD)
            if guard not in {(fact.kind, fact.name) for fact in facts}:
                yield self._unguarded(shown)

    def _leaf(self, facts: list[Fact]) -> Iterator[Finding]:
        for fact in facts:
            match fact.kind:
                case "relation":
                    if fact.definition != "table":
                        yield self._odd_leaf(fact)
                case "constraint":
                    if not self._is_bound_or_key(fact):
                        yield from self._unexpected(fact)
                case "index":
                    yield from self._unexpected(fact)
                case _:
                    yield from self._like_parent(fact)

    def _is_bound_or_key(self, fact: Fact) -> bool:
        key = self.parent.get(("constraint", f"{TRAIL}_pkey"))
        return fact.definition == key or _LEAF_CHECK.fullmatch(fact.definition) is not None

    def _like_parent(self, fact: Fact) -> Iterator[Finding]:
        if fact.kind == "trigger" and fact.name == GUARD:
            if fact.definition != self.expected["trigger", TRAIL, GUARD]:
                yield self._unguarded(fact.object.partition(" on ")[2])
        elif (wanted := self.parent.get((fact.kind, fact.name))) is None:
            yield from self._unexpected(fact)
        elif wanted != fact.definition:
            is_ours = fact.kind in ("column", "trigger")
            yield from self._changed(fact, wanted) if is_ours else self._unexpected(fact)

    def _odd_leaf(self, fact: Fact) -> Finding:
        unlogged = "unlogged" in fact.definition
        return Finding(
            kind=FindingKind.LEAF_CHANGED,
            severity=Severity.ERROR,
            subject=fact.object,
            message=f"it is a {fact.definition}" + (": a crash would empty it" if unlogged else ""),
            remedy=psql_command(f"alter table {fact.object} set logged")
            if unlogged
            else "find out who made it; to remove it: audit partitions plan",
        )

    def _unguarded(self, shown: str) -> Finding:
        trigger, schema = quote_identifier(GUARD), quote_identifier(self.schema)
        return Finding(
            kind=FindingKind.NOT_APPEND_ONLY,
            severity=Severity.ERROR,
            subject=shown,
            message="UPDATE, DELETE and TRUNCATE of it are not refused",
            remedy=psql_command(
                f"create or replace trigger {trigger} before update or delete or truncate on {shown} "
                f"for each statement execute function {schema}.refuse_change(); "
                f"alter table {shown} enable always trigger {trigger}"
            ),
        )

    def _unexpected(self, fact: Fact) -> Iterator[Finding]:
        if fact.kind == "index" and not _is_harmful_index(fact.definition):
            return  # made by the user, as with `audit indexes create`
        if fact.kind in (
            "column",
            "constraint",
            "trigger",
            "rule",
            "policy",
            "index",
            "sequence",
        ) and (
            ("relation", fact.relation, fact.relation) not in self.expected and not fact.is_leaf
        ):
            return  # its table is not expected either
        yield Finding(
            kind=FindingKind(f"unexpected_{fact.kind.replace(' ', '_')}"),
            severity=Severity.ERROR,
            subject=fact.object,
            message=f"audit-toolkit did not create it{_danger(fact)}",
            remedy=self._removal(fact),
        )

    def _removal(self, fact: Fact) -> str:
        name, _, on = fact.object.rpartition(" on ")
        match fact.kind:
            case "trigger" | "rule" | "policy":
                return psql_command(f"drop {fact.kind} {fact.object}")
            case "constraint" | "foreign key":
                return psql_command(f"alter table {on} drop constraint {name}")
            case "column":
                column = quote_identifier(str(fact.name))
                return psql_command(
                    f"alter table {self._table(fact.relation)} drop column {column}"
                )
            case "index":
                return psql_command(f"drop index {fact.object}")
            case "function":
                word = fact.definition.partition(" ")[0]
                return psql_command(f"drop {word} {fact.object}")
            case "relation":
                word = fact.definition.partition(",")[0].removeprefix("partitioned ")
                # Sequences that a column owns go with its table.
                return psql_command(f"alter {word} if exists {fact.object} set schema public")
            case "child":
                return psql_command(
                    f"alter table {fact.object} no inherit {self._table(fact.relation)}"
                )
            case "default privileges":
                return self._default_privileges(fact)
        return psql_command(f"drop {fact.object}")

    def _table(self, name: str | None) -> str:
        return f"{quote_identifier(self.schema)}.{quote_identifier(str(name))}"

    def _default_privileges(self, fact: Fact) -> str:
        role, _, kind = (fact.name or "").rpartition(" ")
        kinds = {"r": "tables", "S": "sequences", "f": "functions", "T": "types"}
        grantees = sorted(
            {g or "public" for g in re.findall(r"[{,](\"[^\"]*\"|[^=,{]*)=", fact.definition)}
        )
        statement = (
            f"alter default privileges for role {quote_identifier(role)} in schema "
            f"{quote_identifier(self.schema)} revoke all on {kinds.get(kind, 'tables')} "
            f"from {', '.join(grantees)}"
        )
        return psql_command(statement)

    def _changed(self, fact: Fact, wanted: str) -> Iterator[Finding]:
        if fact.kind == "trigger" and fact.name == GUARD:
            yield self._unguarded(fact.object.partition(" on ")[2])
            return
        if fact.kind == "index" and ("constraint", fact.relation, fact.name) in self.expected:
            return  # that of a constraint, which has a finding of its own
        yield Finding(
            kind=FindingKind.SCHEMA_OUTDATED
            if fact.kind == "function"
            else FindingKind(f"{fact.kind}_changed"),
            severity=Severity.ERROR,
            subject=fact.object,
            message=_difference(fact, wanted),
            remedy=self._restoration(fact, wanted),
        )

    def _restoration(self, fact: Fact, wanted: str) -> str:
        table, name = self._table(fact.relation), quote_identifier(fact.name or "")
        match fact.kind:
            case "column":
                return self._column_remedy(table, fact, wanted)
            case "function":
                return UPGRADE_DATABASE
            case "sequence":
                return _sequence_remedy(fact, wanted)
            case "relation":
                return self._relation_remedy(fact)
            case "trigger" if _without_state(fact.definition) == _without_state(wanted):
                return psql_command(_always(table, name))
            case "trigger":
                return self._trigger_remedy(table, name, wanted)
            case "constraint":
                return psql_command(
                    f"alter table {table} drop constraint {name}, "
                    f"add constraint {name} {self._here(wanted)}"
                )
            case "index":
                return psql_command(
                    f"drop index {fact.object}; {self._here(wanted).replace(' ON ONLY ', ' ON ')}"
                )
        return f"restore it from a backup; it was {self._here(wanted)}"

    def _trigger_remedy(self, table: str, name: str, wanted: str) -> str:
        """Makes a trigger of ours as it is to be, whether another has its name or none has."""
        statement = (
            self._here(_without_state(wanted))
            .replace("CREATE TRIGGER", "create or replace trigger", 1)
            .replace(" ON relation ", f" ON {table} ", 1)
        )
        return psql_command(f"{statement}; {_always(table, name)}")

    def _relation_remedy(self, fact: Fact) -> str:
        if "row security forced" in fact.definition:
            return psql_command(f"alter table {fact.object} no force row level security")
        if "row security without a policy" in fact.definition:
            return psql_command(f"alter table {fact.object} disable row level security")
        if "unlogged" in fact.definition:
            return psql_command(f"alter table {fact.object} set logged")
        return "restore it from a backup"

    def _column_remedy(self, table: str, fact: Fact, wanted: str) -> str:
        column = quote_identifier(fact.name or "")
        steps = []
        default, had = _default_of(wanted), _default_of(fact.definition)
        if default != had:
            change = f"set default {self._here(default)}" if default else "drop default"
            steps.append(f"alter column {column} {change}")
        if (" not null" in wanted) != (" not null" in fact.definition):
            steps.append(
                f"alter column {column} {'set' if ' not null' in wanted else 'drop'} not null"
            )
        if not steps:
            type_name = _type_of(wanted)
            steps.append(f"alter column {column} type {type_name} using {column}::{type_name}")
        return psql_command(f"alter table {table} {', '.join(steps)}")

    def _missing(self, shape: Shape) -> Iterator[Finding]:
        kind, relation, name, definition = shape
        table = self._table(relation) if relation else quote_identifier(self.schema)
        shown = f"{table}.{name}" if kind == "column" else f"{name} of {table}"
        if kind == "trigger" and name == GUARD:
            yield self._unguarded(table)
            return
        if kind == "index" and ("constraint", relation, name) in self.expected:
            return  # that of a constraint, which has a finding of its own
        if kind in ("foreign key", "sequence"):
            return  # as seen from what it refers to, or the numbers of a relation: these have their own
        remedies = {
            "index": "audit indexes create "
            + shlex.quote(self._here(definition).replace(" ON ONLY ", " ON ")),
            "function": UPGRADE_DATABASE,
            "trigger": self._trigger_remedy(table, quote_identifier(name or ""), definition),
            "constraint": psql_command(
                f"alter table {table} add constraint {quote_identifier(name or '')} {definition}"
            ),
        }
        if relation != TRAIL and kind == "index":
            remedies["index"] = psql_command(self._here(definition))
        yield Finding(
            kind=FindingKind.SCHEMA_OUTDATED
            if kind == "function"
            else FindingKind(f"{kind}_missing"),
            severity=Severity.ERROR,
            subject=shown if kind not in ("relation", "function") else table,
            message="it is missing",
            remedy=remedies.get(kind, f"restore it from a backup; it was {self._here(definition)}"),
        )

    def _here(self, definition: str) -> str:
        """A definition as this schema has it."""
        return re.sub(
            rf"(?<![\w\".]){HOME}\.(?={TRAIL}|mask_key|maintenance|partition_lifecycle|captured_tables|consumers|dead_letters|refuse_\w+\()",
            lambda _: f"{quote_identifier(self.schema)}.",
            definition,
        )


def _sequence_remedy(fact: Fact, wanted: str) -> str:
    words = wanted.replace("min ", "minvalue ").replace("max ", "maxvalue ")
    kind, _, rest = words.partition(" ")
    cycle = "" if rest.endswith(" cycle") else " no cycle"
    return psql_command(f"alter sequence {fact.object} as {kind} {rest}{cycle}")


def _difference(fact: Fact, wanted: str) -> str:
    if fact.kind == "trigger" and _without_state(fact.definition) == _without_state(wanted):
        return (
            "it is disabled: it refuses nothing"
            if fact.definition.endswith(" disabled")
            else "it is not ENABLE ALWAYS, so some sessions can bypass it"
        )
    return f"it is {fact.definition!r}, but was installed as {wanted!r}"


def _always(table: str, trigger: str) -> str:
    return f"alter table {table} enable always trigger {trigger}"


def _without_state(trigger: str) -> str:
    """The definition of a trigger, whatever it is enabled for."""
    return re.sub(r" (always|disabled|replica)$", "", trigger)


def _type_of(column: str) -> str:
    """`text` of `text not null default ''`."""
    return re.split(r" (?:collate|not null|generated|identity|default) ?", column, maxsplit=1)[0]


def _default_of(definition: str) -> str:
    return definition.partition(" default ")[2]


def _is_harmful_index(definition: str) -> bool:
    """Whether an index could make writes fail, or run code of others in them."""
    primary = "(event_id, action_tstamp)" in definition
    return (definition.startswith("CREATE UNIQUE") and not primary) or definition.endswith(
        " by functions of others"
    )


def _danger(fact: Fact) -> str:
    words = {
        "trigger": ": it may change, refuse or forge events",
        "rule": ": it may suppress events",
        "policy": ": it decides which events a reader sees",
        "constraint": ": it may refuse events",
        "foreign key": ": it may prevent partitions from being dropped",
        "child": ": its rows would appear in the trail",
        "default privileges": ": future objects would be granted to others",
        "function": ": its name is reserved for the toolkit",
        "relation": ": its name is reserved for the toolkit",
    }
    return words.get(fact.kind, "")


def _event_trigger_findings(objects: TrailObjects) -> Iterator[Finding]:
    for trigger in objects.event_triggers:
        if not trigger.owner_is_trusted:
            name = quote_identifier(trigger.name)
            yield Finding(
                kind=FindingKind.EVENT_TRIGGER_OF_OTHERS,
                severity=Severity.WARNING,
                subject=f"event trigger {name}",
                message=f"{trigger.owner} can replace its function {trigger.function}, which runs with the rights "
                "of whoever installs or maintains the trail",
                remedy=psql_command(f"alter event trigger {name} disable"),
            )
