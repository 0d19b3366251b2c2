"""Mutation testing: the code is changed in one place, and the tests of that module have to notice.

    nox -s mutation                                all targets, a sample of each
    nox -s mutation -- plan names --sample 100     these modules, more places

Each change runs in a copy of the project, with pytest in a process of its own and a real PostgreSQL: mutmut
runs the tests inside one process, where a server and its databases outlive a mutant. Printed are the changes
that no test noticed, and the score: how many of the changes were noticed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COPIED = ("audit_toolkit", "sql_templates", "tests", "docs", "pyproject.toml", "README.md")
SECONDS = 600

TARGETS = {
    "names": ("audit_toolkit/names.py", "tests/rendering/test_names.py"),
    "condition": ("audit_toolkit/condition.py", "tests/capture/test_conditions.py"),
    "exact_json": ("audit_toolkit/exact_json.py", "tests/trail/test_exact_json.py"),
    "plan": ("audit_toolkit/plan.py", "tests/test_plan.py"),
    "plurals": ("audit_toolkit/plurals.py", "tests/test_plurals.py"),
    "templates": ("audit_toolkit/templates.py", "tests/rendering"),
    "ordering": ("audit_toolkit/trail/history/ordering.py", "tests/trail/test_order.py"),
    "json_diff": ("audit_toolkit/trail/json_diff.py", "tests/trail"),
    "revert": ("audit_toolkit/trail/revert/selection.py", "tests/timetravel"),
    "revision_text": (
        "audit_toolkit/migrations/revision/text.py",
        "tests/migrations/test_revision_file.py",
    ),
    "changes": ("audit_toolkit/migrations/changes.py", "tests/migrations"),
}
"""Modules, and the tests that have to notice."""

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change."""

    line: int
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """The module with each change that makes sense, one at a time."""
    tree = ast.parse(source)
    decorators = {
        id(below)
        for node in ast.walk(tree)
        for decorator in getattr(node, "decorator_list", ())
        for below in ast.walk(decorator)
    }
    for place, node in enumerate(ast.walk(tree)):
        for what, change in () if id(node) in decorators else _changes(node):
            changed = copy.deepcopy(tree)
            twin = next(n for i, n in enumerate(ast.walk(changed)) if i == place)
            change(twin)
            yield Mutant(getattr(node, "lineno", 0), what, ast.unparse(changed))


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPPED:
            yield f"{ast.unparse(node)}: other comparison", _swap_comparison
        case ast.BoolOp(op=op):
            yield f"{ast.unparse(node)}: and/or swapped", _swap_operator
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left) if not isinstance(left, ast.Constant):
            yield f"{ast.unparse(node)}: plus/minus swapped", _swap_operator
        case ast.UnaryOp(op=ast.Not()):
            yield f"{ast.unparse(node)}: not removed", _remove_not
        case ast.Call(keywords=[*_, ast.keyword(arg=str(name))]):
            yield f"{ast.unparse(node)[:60]}: without {name}", _drop_keyword
        case ast.Constant(value=bool(value)):
            yield f"{value} negated", _negate
        case ast.Constant(value=int(value)):
            yield f"{value} plus one", _add_one


def _swap_comparison(node: ast.Compare) -> None:
    node.ops = [SWAPPED[type(node.ops[0])]()]  # type: ignore[list-item]


def _swap_operator(node: ast.BoolOp | ast.BinOp) -> None:
    node.op = SWAPPED[type(node.op)]()  # type: ignore[assignment]


def _remove_not(node: ast.UnaryOp) -> None:
    node.op = ast.UAdd()
    node.operand = ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])


def _drop_keyword(node: ast.Call) -> None:
    node.keywords.pop()


def _negate(node: ast.Constant) -> None:
    node.value = not node.value


def _add_one(node: ast.Constant) -> None:
    node.value = int(node.value) + 1  # type: ignore[arg-type]


def _is_noticed(project: Path, tests: str) -> bool:
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
    try:
        done = subprocess.run(
            command, cwd=project, capture_output=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def _test(project: Path, name: str, sample: int, seed: int) -> tuple[int, int]:
    file, tests = TARGETS[name]
    original = (ROOT / file).read_text(encoding="utf-8")
    if _is_noticed(project, tests):
        sys.exit(f"{tests} fails without any change")
    found = list(mutants(original))
    chosen = random.Random(seed).sample(found, min(sample, len(found)))
    noticed = 0
    for mutant in sorted(chosen, key=lambda m: m.line):
        (project / file).write_text(mutant.source, encoding="utf-8")
        if _is_noticed(project, tests):
            noticed += 1
        else:
            print(f"survived: {file}:{mutant.line}: {mutant.what}", flush=True)
    (project / file).write_text(original, encoding="utf-8")
    print(f"{name}: {noticed} of {len(chosen)} noticed ({len(found)} places)", flush=True)
    return noticed, len(chosen)


def main() -> None:
    """Test the modules that were named."""
    parser = argparse.ArgumentParser(description="change the code, and see what tests notice")
    parser.add_argument("names", nargs="*", metavar="MODULE", help=", ".join(TARGETS))
    parser.add_argument("--sample", type=int, default=40, help="places of each module")
    parser.add_argument("--seed", type=int, default=0, help="chooses other places")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            copier = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copier(ROOT / name, Path(folder, name))
        scores = [
            _test(Path(folder), name, options.sample, options.seed)
            for name in options.names or TARGETS
        ]
    noticed, tried = (sum(column) for column in zip(*scores, strict=True))
    print(f"score: {noticed} of {tried}, {100 * noticed / max(tried, 1):.0f} percent")


if __name__ == "__main__":
    main()
