"""Celery: the context travels in the headers of the message, and holds while the task runs."""

from __future__ import annotations

from typing import Any

from celery import signals  # type: ignore[import-untyped]

from audit_toolkit.attribution.current import Block, current_context, nested

HEADER = "audit_context"


def carry_context() -> None:
    """Make every task run in the context that it was sent in, with `task` and `task_id` added.

    Call it once where both senders and workers import it, such as the module of the Celery
    application.
    """
    signals.before_task_publish.connect(_pack, weak=False, dispatch_uid="audit_toolkit.pack")
    signals.task_prerun.connect(_enter, weak=False, dispatch_uid="audit_toolkit.enter")
    signals.task_postrun.connect(_leave, weak=False, dispatch_uid="audit_toolkit.leave")


def _pack(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None and (values := current_context()):
        headers[HEADER] = values


def _enter(task_id: str, task: Any, **_: Any) -> None:
    # A message comes from outside: its values are checked like any others.
    claimed = task.request.get(HEADER) or {}
    block = nested({**claimed, "task": task.name, "task_id": task_id})
    block.__enter__()
    task.request.audit_block = block


def _leave(task: Any, **_: Any) -> None:
    block: Block | None = task.request.get("audit_block")
    if block is not None:
        block.__exit__(None, None, None)
