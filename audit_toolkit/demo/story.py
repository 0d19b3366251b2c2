"""The story that `audit demo` tells: a shop gets an audit trail, and somebody asks what happened.

Every step runs, in a project of its own, the command that it prints.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from audit_toolkit.connection import connect
from audit_toolkit.demo.binaries import psql_path
from audit_toolkit.demo.cluster import Cluster
from audit_toolkit.errors import AuditError

SHOP = Path(__file__).parent / "shop"

LOOK = (
    "select event_id, action, row_key, context ->> 'actor' as actor,"
    " old_row ->> 'total' as old_total, new_row ->> 'total' as new_total"
    " from audit.logged_actions order by event_id"
)


@dataclass(frozen=True, slots=True)
class Chapter:
    """A sentence, the command that shows it, and how that command is run here."""

    sentence: str
    shown: str
    command: tuple[str, ...]
    code: int = 0
    """The exit code that it is to end with."""


def make_shop(directory: Path) -> None:
    """Put the sample project (models, a script) into an empty directory."""
    for file in ("models.py", "day.py", "tamper.py"):
        shutil.copy(SHOP / file, directory / file)


def add_revisions(directory: Path) -> None:
    """Put the shop's own three revisions into its Alembic project."""
    for file in sorted((SHOP / "versions").glob("*.py")):
        shutil.copy(file, directory / "migrations" / "versions" / file.name)


def chapters(cluster: Cluster) -> list[Chapter]:
    """The story, in order; a look with psql is left out where there is no psql."""
    audit = (sys.executable, "-m", "audit_toolkit")
    alembic = (sys.executable, "-m", "alembic")
    told = [
        Chapter(
            "A shop with three migrations of its own.",
            "alembic upgrade head",
            (*alembic, "upgrade", "head"),
        ),
        Chapter(
            "The table orders gets an audit trail, as two ordinary migrations.",
            "audit install --table orders --upgrade",
            (*audit, "install", "--table", "orders", "--upgrade"),
        ),
        Chapter(
            "A day passes: a customer orders and pays, support corrects an order by hand.",
            "python day.py",
            (sys.executable, "day.py"),
        ),
        Chapter(
            "Who changed order 1, when, from what to what?",
            "audit history orders 1",
            (*audit, "history", "orders", "1"),
        ),
    ]
    if psql := psql_path(cluster.bin_dir):
        told.append(
            Chapter(
                "The trail is one ordinary table.",
                f'psql "$DATABASE_URL" -c "{LOOK}"',
                (str(psql), "-X", "-P", "pager=off", cluster.dsn("shop"), "-c", LOOK),
            )
        )
    return told


def sealed_chapters() -> list[Chapter]:
    """What comes behind it about seals: seal, tamper as a superuser, and see it found."""
    audit = (sys.executable, "-m", "audit_toolkit")
    seal = ("seal", "--checkpoint-to", "kept")
    verify = ("verify", "--checkpoints", "kept", "--key", "audit-seal.key.pub")
    return [
        Chapter(
            "A key to seal with. It stays outside of the database.",
            "audit keys new --name example.com/shop",
            (*audit, "keys", "new", "--name", "example.com/shop"),
        ),
        Chapter(
            "Seal the events. The checkpoint goes where the database cannot reach it.",
            f"audit {shlex.join(seal)}",
            (*audit, *seal),
        ),
        Chapter(
            "Does the trail still match its seal?",
            f"audit {shlex.join(verify)}",
            (*audit, *verify),
        ),
        Chapter(
            "A superuser switches the guard off, rewrites event 4, and switches it on again.",
            "python tamper.py",
            (sys.executable, "tamper.py"),
        ),
        Chapter(
            "The trail looks as before. Verify finds the event, with exit code 3.",
            f"audit {shlex.join(verify)}",
            (*audit, *verify),
            code=3,
        ),
    ]


def tell(
    cluster: Cluster, directory: Path, say: Callable[[str], None], *, sealed: bool = False
) -> None:
    """Tell the whole story on a running server, in an empty directory; with `sealed`, also that of seals.

    Raises `AuditError` when one of its commands fails; that command has said why.
    """
    with connect(cluster.dsn(), purpose="demo") as connection:
        connection.execute("create database shop")
    environment = {"DATABASE_URL": cluster.dsn("shop")}
    make_shop(directory)
    _run((sys.executable, "-m", "audit_toolkit", "init"), directory, environment, quiet=True)
    add_revisions(directory)
    told = chapters(cluster) + (sealed_chapters() if sealed else [])
    for number, chapter in enumerate(told, 1):
        say(f"{number}. {chapter.sentence}\n   $ {chapter.shown}\n")
        _run(chapter.command, directory, environment, code=chapter.code)
        say("")


def tell_of_stream(cluster: Cluster, directory: Path, say: Callable[[str], None]) -> None:
    """After `tell`: a webhook on this machine gets the changes of the shop. Raises as `tell` does."""
    from audit_toolkit.demo.webhook import listening
    from audit_toolkit.stream.sinks.webhook import SECRET_VARIABLE

    with listening() as webhook:
        words = ("stream", "run", "warehouse", "--to", webhook.url, "--table", "orders", "--once")
        say(f"A webhook gets every change, signed.\n   $ audit {shlex.join(words)}\n")
        environment = {"DATABASE_URL": cluster.dsn("shop"), SECRET_VARIABLE: webhook.secret}
        _run((sys.executable, "-m", "audit_toolkit", *words), directory, environment)
        say("\nWhat it got:")
        for line in webhook.told():
            say(line)
        say("")


def _of_nobody() -> dict[str, str]:
    """The environment without what is about a database or project of the user's: the demo is about its own."""
    own = ("AUDIT_", "ALEMBIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


def _run(
    command: tuple[str, ...],
    directory: Path,
    environment: Mapping[str, str],
    *,
    quiet: bool = False,
    code: int = 0,
) -> None:
    sys.stdout.flush()
    answer = subprocess.run(
        command,
        cwd=directory,
        env={**_of_nobody(), **environment},
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT,  # what a command says stays where it was said
        check=False,
    )
    if answer.returncode != code:
        if quiet:
            sys.stdout.buffer.write(answer.stdout)
        raise AuditError(
            f"a step of the demo failed: {shlex.join(command)}",
            hint="if the message above does not help, please report it with `audit --version`",
        )
