"""One task of a run: what it is about, and the plan that does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from audit_toolkit.errors import PermissionDeniedError
from audit_toolkit.names import QualifiedName
from audit_toolkit.partitions.model import Entry, Leaf, Partitions, PartitionState
from audit_toolkit.plan import Plan, Step, Wait
from audit_toolkit.templates import render_statements

_FOR_MAINTAINERS = frozenset(
    [
        "cap",
        "create",
        "detach_blocking",
        "drop",
        "ensure_past",
        "extend",
        "finalize",
        "finished",
        "hold",
        "mark_gone",
        "put_tail_back",
        "record",
        "relabel",
        "set_interval",
        "uncap",
        "validate_cap",
    ]
)
"""The templates that have a counterpart in `sql_templates/maintainer/`, which calls a function of the trail."""


class Stage(StrEnum):
    """The stages of a run, in their order."""

    FINALIZE = "finalize"
    CREATE = "create"
    DETACH = "detach"
    ARCHIVE = "archive"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Something that succeeds or fails by itself: the others go on."""

    stage: Stage
    what: str
    """In words, without a final period."""
    plan: Plan
    """Its SQL; empty for what is archived."""
    leaf: QualifiedName | None = None
    oid: int | None = None
    deferred: str = ""
    """Why it is not done now; empty when it is."""
    refused: str = ""
    """Why it is not done before somebody has looked: a finding, with its remedy."""
    undo_on_failure: tuple[Step, ...] = ()
    """What must not stay when the task fails for a reason that another run would meet again."""

    def as_dict(self) -> dict[str, Any]:
        """The task as JSON values."""
        return {
            "stage": self.stage.value,
            "what": self.what,
            "leaf": str(self.leaf) if self.leaf else None,
            "deferred": self.deferred or None,
            "refused": self.refused or None,
            **self.plan.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Steps:
    """Makes the steps of one trail from the templates in `sql_templates/partitions/`.

    For a maintainer who does not own the trail from `sql_templates/maintainer/`, which call functions of it.
    """

    partitions: Partitions

    def render(self, template: str, **values: Any) -> tuple[str, ...]:
        """The statements of a template; raises where only the owner of the trail can do it."""
        partitions = self.partitions
        if partitions.by_function and template not in _FOR_MAINTAINERS:
            raise PermissionDeniedError(
                "only the owner of the trail can do this, but this role is a maintainer",
                hint="connect as the owner of the trail, or as a member of it",
            )
        folder = "maintainer" if partitions.by_function else "partitions"
        return tuple(
            render_statements(
                f"{folder}/{template}",
                **{"schema": partitions.schema, "trail": partitions.trail} | values,
            )
        )

    def step(self, why: str, template: str, *, lock: str = "none", **values: Any) -> Step:
        """A step in a transaction of its own, which waits at most the lock timeout."""
        return Step(why=why, statements=self.render(template, **values), lock=lock)

    def patient(self, why: str, template: str, *, lock: str, **values: Any) -> Step:
        """A step that may wait for long transactions, while nobody's writes wait for it."""
        return Step(why=why, statements=self.render(template, **values), lock=lock, wait=Wait.LONG)

    def concurrently(self, why: str, template: str, *, lock: str, **values: Any) -> Step:
        """A step outside a transaction, as CONCURRENTLY asks for."""
        return Step(
            why=why,
            statements=self.render(template, **values),
            lock=lock,
            wait=Wait.LONG,
            transactional=False,
        )

    def record(self, leaf: Leaf | Entry, state: PartitionState) -> Step:
        """Note the state of a leaf; the quarantine of a detached one begins now."""
        name = leaf.name.name if isinstance(leaf, Leaf) else leaf.name
        return self.step(
            f"Record that {name} is {state}",
            "record",
            oid=leaf.oid,
            name=name,
            lower=leaf.lower,
            upper=leaf.upper,
            state=state.value,
            detached_at=self.partitions.now if state is PartitionState.DETACHED else None,
        )


def one_by_one(*steps: Step) -> Plan:
    """A plan whose steps commit one by one."""
    return Plan(steps=steps, atomic=False)
