"""What `docs/evidence.md` says is so: sections, profiles, commands, and pgAudit beside the trail."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from audit_toolkit.connection import connect
from audit_toolkit.demo.cluster import Cluster, throwaway_cluster
from audit_toolkit.evidence import PROFILES
from audit_toolkit.evidence.sections import SECTIONS
from tests.plugins.trail import audit as put_capture_on
from tests.plugins.trail import install_trail

PAGE = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text("utf-8")
DEBIAN = Path("/usr/lib/postgresql/15")
LIBRARY = Path(os.environ.get("LIBRARY_OF_PGAUDIT", DEBIAN / "lib" / "pgaudit.so"))
"""Of the package `postgresql-15-pgaudit`; unpacked elsewhere (`dpkg-deb -x`), the variable says where."""


def test_the_tables_have_every_section_and_profile() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert named == [*SECTIONS, *PROFILES]


@pytest.fixture(scope="module")
def pgaudit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not LIBRARY.is_file() or not (DEBIAN / "bin" / "postgres").is_file():
        pytest.skip(
            "needs Debian's postgresql-15 and postgresql-15-pgaudit (or LIBRARY_OF_PGAUDIT)"
        )
    [block] = re.findall(r"```text\n(shared_preload_libraries.*?)```", PAGE, re.DOTALL)
    settings = dict(line.split(" = ", 1) for line in block.strip().splitlines())
    settings = {name: value.strip("'") for name, value in settings.items()}
    settings["shared_preload_libraries"] = str(LIBRARY.with_suffix(""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_PG_BIN", str(DEBIAN / "bin"))
        with throwaway_cluster(settings=settings) as cluster:
            yield cluster


def test_pgaudit_and_the_trail_side_by_side(pgaudit: Cluster) -> None:
    dsn = pgaudit.dsn()
    install_trail(dsn)
    with connect(dsn) as connection:
        connection.execute("create table orders (id int primary key, email text)")
        put_capture_on(connection, "orders")
        connection.execute("insert into orders values (1, 'a@b')")
    [block] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    with psycopg.connect(dsn, autocommit=True) as application:
        application.execute(block)
        application.execute("select email from orders where id = 1")
        application.execute("update orders set email = 'c@d' where id = 1")
        with pytest.raises(psycopg.errors.NotNullViolation):
            application.execute("update orders set id = null")
        application.execute("grant select on orders to public")
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select context ->> 'session', transaction_id::text, action_tstamp::text, old_row ->> 'email',"
            " new_row ->> 'email' from audit.logged_actions where action = 'U'"
        ).fetchall()
    [(session, transaction, _at, before, after)] = found
    assert (before, after) == ("a@b", "c@d")
    lines = [line for line in pgaudit.log.read_text("utf-8").splitlines() if f"[{session}]" in line]
    # Number of the statement and of the one within it: those of functions have others than 1.
    audited = [line.partition("AUDIT: SESSION,")[2].split(",", 2) for line in lines]
    said = [text for _, within, text in filter(lambda one: len(one) == 3, audited) if within == "1"]
    assert said[-4:] == [
        "READ,SELECT,,,select email from orders where id = 1,<not logged>",
        "WRITE,UPDATE,,,update orders set email = 'c@d' where id = 1,<not logged>",
        "WRITE,UPDATE,,,update orders set id = null,<not logged>",
        "ROLE,GRANT,,,grant select on orders to public,<not logged>",
    ]
    # The page shows the same statements.
    shown = re.findall(r"`AUDIT: SESSION,\d+,1,(.*?)`", PAGE)
    assert [f"{text},<not logged>" for text in shown] == said[-4:]
    assert any("ERROR:  null value in column" in line for line in lines)
    assert transaction.isdecimal()
