"""Mutation testing: the code is changed in one place, and the tests that reach the place have to notice.

    nox -s mutation                                    all targets, a sample of each
    nox -s mutation -- plan migrations --sample 100    these, more places

The tests of a target run once under coverage, which tells what tests reach which line, and how long each takes.
Each change then runs in a copy of the project, with the tests that reach it, quickest first, in a process of its
own against a real PostgreSQL: mutmut runs the tests inside one process, where databases outlive a mutant. Printed
are the changes that no test noticed, and the score: how many of the changes were noticed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import CoverageData

from audit_toolkit.demo.cluster import throwaway_cluster

ROOT = Path(__file__).parents[1]
COPIED = (
    *("audit_toolkit", "sql_templates", "tests", "docs", "deploy", "benchmarks"),
    *("pyproject.toml", "noxfile.py", "README.md", "CHANGELOG.md", "ARCHITECTURE.md"),
)
SECONDS = 300
"""After this a change is taken for noticed: it made the tests wait for ever."""
MOST_TESTS = 150
"""Of the tests that reach a line; those that take longest are left out."""


@dataclass(frozen=True, slots=True)
class Target:
    """Modules or packages, and the tests that have to notice, as pytest takes them."""

    code: str
    tests: str


TARGETS = {
    "names": Target("audit_toolkit/names.py", "tests/rendering tests/install tests/trail"),
    "condition": Target("audit_toolkit/condition.py", "tests/capture/test_conditions.py"),
    "exact_json": Target("audit_toolkit/exact_json.py", "tests/trail"),
    "plan": Target("audit_toolkit/plan.py", "tests/test_plan.py tests/partitions"),
    "plurals": Target("audit_toolkit/plurals.py", "tests/test_plurals.py"),
    "templates": Target("audit_toolkit/templates.py", "tests/rendering tests/install"),
    "trail": Target(
        "audit_toolkit/trail",
        "tests/trail tests/timetravel tests/sources tests/erasure tests/cli",
    ),
    "migrations": Target(
        "audit_toolkit/migrations", "tests/migrations tests/autogenerate tests/cli/test_install.py"
    ),
}

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

    file: str
    lines: range
    """Of the statement, or of the head of one that holds others."""
    what: str
    source: str


def mutants(file: str) -> Iterator[Mutant]:
    """The module with each change that makes sense, one at a time."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    lines = _statement_lines(tree)
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
            yield Mutant(file, lines[id(node)], what, ast.unparse(changed))


def _statement_lines(tree: ast.Module) -> dict[int, range]:
    """For each node, by its identity, the lines of the innermost statement that holds it."""
    lines: dict[int, range] = {}
    for statement in ast.walk(tree):  # outer statements come first
        if isinstance(statement, ast.stmt):
            body = getattr(statement, "body", None)
            last = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
            within = range(statement.lineno, max(last, statement.lineno) + 1)
            lines.update((id(node), within) for node in ast.walk(statement))
    return lines


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
        case ast.If(test=test) if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield f"if {ast.unparse(test)[:60]}: negated", _negate_condition
        case ast.Raise(exc=ast.Call()):
            yield f"{ast.unparse(node)[:60]}: not raised", _raise_nothing
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


def _negate_condition(node: ast.If) -> None:
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _raise_nothing(node: ast.Raise) -> None:
    # Evaluated and thrown away, because a statement cannot be taken out from where it stands.
    node.__class__ = ast.Expr  # type: ignore[assignment]
    node.value = node.exc  # type: ignore[attr-defined]


def _drop_keyword(node: ast.Call) -> None:
    node.keywords.pop()


def _negate(node: ast.Constant) -> None:
    node.value = not node.value


def _add_one(node: ast.Constant) -> None:
    node.value = int(node.value) + 1  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Reach:
    """What tests reach which line."""

    coverage: CoverageData
    project: Path
    seconds: dict[str, float]
    """Of each test."""

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that reach it, quickest first; all tests for what runs at import only."""
        reached = self.coverage.contexts_by_lineno(str(self.project / mutant.file))
        contexts = {context for line in mutant.lines for context in reached.get(line, ())}
        found = {context.rpartition("|")[0] for context in contexts if context}
        if not found and "" in contexts:
            found = set(self.seconds)
        by_time = sorted(found, key=lambda test: self.seconds.get(test, SECONDS))
        return by_time[:MOST_TESTS]


@dataclass(frozen=True, slots=True)
class Bench:
    """A copy of the project, and the server its tests talk to."""

    project: Path
    dsn: str

    def reach(self, tests: str) -> Reach:
        """Run the tests without any change, and note what they reach."""
        measured = ("--cov=audit_toolkit", "--cov-context=test", "--cov-report=")
        done = self._pytest(*measured, "--junitxml=times.xml", "-m", "not thorough", *tests.split())
        if done.returncode != 0:
            sys.exit(f"{tests} fails without any change\n{done.stdout[-3000:]}")
        coverage = CoverageData(str(self.project / ".coverage"))
        coverage.read()
        return Reach(coverage, self.project, dict(_times(self.project / "times.xml")))

    def notices(self, mutant: Mutant, tests: list[str]) -> bool:
        """Whether a test fails with the change."""
        file = self.project / mutant.file
        original = file.read_text(encoding="utf-8")
        (self.project / "tests.txt").write_text("\n".join(tests), encoding="utf-8")
        file.write_text(mutant.source, encoding="utf-8")
        try:
            return self._pytest("-x", "@tests.txt").returncode != 0
        except subprocess.TimeoutExpired:
            return True
        finally:
            file.write_text(original, encoding="utf-8")

    def _pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=self.project,
            env={**os.environ, "AUDIT_TEST_DSN": self.dsn, "PYTHONPATH": str(self.project)},
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=None if "--junitxml=times.xml" in arguments else SECONDS,
        )


def _times(junit: Path) -> Iterator[tuple[str, float]]:
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 - written by pytest just now
        module = case.attrib["classname"].replace(".", "/") + ".py"
        yield f"{module}::{case.attrib['name']}", float(case.attrib["time"])


def _test(bench: Bench, target: Target, sample: int, seed: int) -> tuple[int, int]:
    place = ROOT / target.code
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    found = [mutant for file in files for mutant in mutants(str(file.relative_to(ROOT)))]
    chosen = random.Random(seed).sample(found, min(sample, len(found)))
    reach = bench.reach(target.tests)
    noticed = 0
    for mutant in sorted(chosen, key=lambda m: (m.file, m.lines.start)):
        tests = reach.tests(mutant)
        if tests and bench.notices(mutant, tests):
            noticed += 1
        else:
            why = f"survived {len(tests)} tests" if tests else "not reached"
            print(f"{why}: {mutant.file}:{mutant.lines.start}: {mutant.what}", flush=True)
    print(f"{target.code}: {noticed} of {len(chosen)} noticed ({len(found)} places)", flush=True)
    return noticed, len(chosen)


def main() -> None:
    """Test the targets that were named."""
    parser = argparse.ArgumentParser(description="change the code, and see what tests notice")
    parser.add_argument("names", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--sample", type=int, default=40, help="places of each target")
    parser.add_argument("--seed", type=int, default=0, help="chooses other places")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(TARGETS)):
        parser.error(f"no such target: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as folder, throwaway_cluster() as cluster:
        for name in COPIED:
            copier = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copier(ROOT / name, Path(folder, name))
        bench = Bench(Path(folder).resolve(), cluster.dsn())
        scores = [
            _test(bench, TARGETS[name], options.sample, options.seed)
            for name in options.names or TARGETS
        ]
    noticed, tried = (sum(column) for column in zip(*scores, strict=True))
    print(f"score: {noticed} of {tried}, {100 * noticed / max(tried, 1):.0f} percent")


if __name__ == "__main__":
    main()
