"""Writing a revision: frozen SQL that needs Alembic to run, and nothing of this package.

The file is made by `ScriptDirectory.generate_revision` from the project's own template, without
running env.py. Then it is loaded to see whether the SQL comes out as it went in.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script as AlembicScript
from alembic.util import rev_id

from audit_toolkit.errors import ProjectError
from audit_toolkit.migrations.project import Project, no_bytecode, reported, shown
from audit_toolkit.migrations.revision.record import Statements
from audit_toolkit.migrations.revision.shared_text import share
from audit_toolkit.migrations.revision.text import Revision, render
from audit_toolkit.names import comment_text


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRevision:
    """A revision that is in the project now."""

    revision: str
    path: Path
    message: str


def write_revisions(
    project: Project, revisions: Sequence[Revision], head: str | None
) -> list[WrittenRevision]:
    """Write revisions one after the other behind `head`: all of them, or none.

    Raises `AuditError` where no file can be written, and `ProjectError` when the template of the
    project, or one of its post-write hooks, loses what the revision is to do.
    """
    if not revisions:
        return []
    project.check_writable(head)
    project.check_template()
    directory = project.version_directory(head)
    identifiers = [rev_id() for _ in revisions]
    parents = [head, *identifiers]
    before = _contents(directory)
    try:
        return [
            _write(project, *each) for each in zip(revisions, identifiers, parents, strict=False)
        ]
    except BaseException:
        _remove(_contents(directory) - before, identifiers)
        raise


def _write(
    project: Project, revision: Revision, identifier: str, parent: str | None
) -> WrittenRevision:
    revision = share(revision)
    body = render(revision)
    works = "check that `alembic revision -m test` works"
    with (
        reported("the revision", hint=works),
        no_bytecode(),
        redirect_stdout(sys.stderr),
        project.reading(),
    ):
        script = project.scripts.generate_revision(
            identifier,
            _docstring_safe(revision.message),
            head=parent or "head",
            version_path=project.version_path and project.version_path.absolute(),
            imports=body.imports,
            upgrades=body.upgrades,
            downgrades=body.downgrades,
            config=project.config,
        )
    if script is None:
        raise ProjectError(
            "Alembic does not recognise the file that file_template names as a revision",
            hint="check file_template in the Alembic configuration",
        )
    template = Path(project.scripts.dir, "script.py.mako")
    _check(script, revision, template, run=project.runs_code)
    return WrittenRevision(revision=identifier, path=Path(script.path), message=revision.message)


def _docstring_safe(message: str) -> str:
    """The message as templates print it: between triple quotes, on one line."""
    line = comment_text(" ".join(message.split()))
    return re.sub(r'\\|"(?="")|"$', r"\\\g<0>", line)


def _check(script: AlembicScript, revision: Revision, template: Path, *, run: bool) -> None:
    """Raise `ProjectError` when the file would not do what `revision` says, both ways.

    Without `run`, only its text is looked at.
    """
    text = Path(script.path).read_text(encoding="utf-8")
    written = Statements(script.module)
    for direction, scripts in (("upgrade", revision.upgrade), ("downgrade", revision.downgrade)):
        if any(written[s.name] != s.statements for s in scripts):
            raise ProjectError(
                "the revision does not contain the SQL that was written to it",
                hint=f"{shown(template)} has to print ${{imports}} at the start of a line, "
                "and no post-write hook may change strings",
            )
        statements = [sql for s in scripts for sql in s.statements]
        called = all(text.count(s.name) > 1 for s in revision.constants)
        if not (_runs(script.module, direction, statements) if run else called):
            raise ProjectError(
                f"the {direction}() of the revision would not run its SQL",
                hint=f"{shown(template)} has to print ${{{direction}s}} in {direction}(), "
                "and to import op and sa, as Alembic's own does",
            )


def _runs(module: ModuleType, direction: str, statements: Iterable[str]) -> bool:
    """Whether the function prints these statements, in this order, with `--sql`."""
    printed = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": printed}
    )
    try:
        with Operations.context(context):
            getattr(module, direction)()
    except Exception:
        # The user's template produced the code, so it may raise anything.
        return False
    rest = printed.getvalue()
    for statement in statements:
        _, found, rest = rest.partition(f"{statement};\n")
        if not found:
            return False
    return True


def _contents(directory: Path) -> set[Path]:
    return {directory, *directory.rglob("*")} if directory.exists() else set()


def _remove(made: Iterable[Path], identifiers: Sequence[str]) -> None:
    """Take back what a run made: its own files, and directories that are empty without them."""
    for path in sorted(made, reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif not (text := path.read_bytes()) or any(i.encode() in text for i in identifiers):
            path.unlink()
