"""`from audit_toolkit.alembic import op`: type checkers know what the directives take (mypy checks this file)."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import alembic.op
from alembic.operations import MigrateOperation

import audit_toolkit.alembic
from audit_toolkit.alembic import op
from audit_toolkit.migrations import concurrently, operations

STUB = Path(audit_toolkit.alembic.__file__).with_suffix(".pyi")


def revision() -> None:
    """What a revision may say, and what it may not; nobody runs it."""
    op.add_column("orders", None)  # type: ignore[arg-type]
    op.audit_table("orders", exclude=["note"], mask={"email": "sha256"}, capture="statement")
    op.audit_table("orders", excluding=["note"])  # type: ignore[call-arg]
    op.audit_table("orders", capture="rows")  # type: ignore[arg-type]
    op.unaudit_table("orders", audit_schema="trail")
    op.create_audit_trail(interval="day")
    op.drop_audit_trail(interval="year")  # type: ignore[arg-type]
    op.create_partitioned_index("create index i on orders (id)", lock_timeout="1s")
    op.drop_partitioned_index("i")


def test_it_is_the_op_of_alembic() -> None:
    assert vars(audit_toolkit.alembic)["op"] is alembic.op


def test_the_stub_has_what_is_registered() -> None:
    directives = {
        function.__name__: inspect.signature(function)
        for module in (operations, concurrently)
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, MigrateOperation)
        for function in vars(one).values()
        if isinstance(function, classmethod)
        for function in [function.__func__]
    }
    tree = ast.parse(STUB.read_text("utf-8"))
    [declared] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    functions = {node.name: node for node in declared.body if isinstance(node, ast.FunctionDef)}
    assert set(functions) == set(directives)
    for name, signature in directives.items():
        assert callable(getattr(alembic.op, name))
        taken = [p for p in signature.parameters if p not in ("cls", "operations")]
        given = functions[name].args
        named = [a.arg for a in (*given.args[1:], *given.kwonlyargs)]
        named += [given.kwarg.arg] if given.kwarg else []
        assert named == taken
        defaults = [ast.literal_eval(d) for d in given.kw_defaults if d is not None]
        own = [p.default for p in signature.parameters.values()]
        assert defaults == [d for d in own if d is not inspect.Parameter.empty]
