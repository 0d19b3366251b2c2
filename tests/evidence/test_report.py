"""`audit report`: what it says is so, each line can be repeated, and nothing in it is taken for markup."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shlex
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest
from markdown_it import MarkdownIt

from audit_toolkit.cli.whole_file import write_whole
from audit_toolkit.config import Mask
from audit_toolkit.errors import AuditError
from audit_toolkit.evidence import (
    PROFILES,
    EvidenceReport,
    Line,
    Period,
    Section,
    Verification,
    as_html,
    as_markdown,
    gather,
)
from audit_toolkit.evidence.sections import SECTIONS
from audit_toolkit.findings import FINDINGS
from audit_toolkit.printable import visible
from tests.plugins.command import Audit
from tests.plugins.trail import SCHEMA, Trail

HOSTILE = 'pay<script>alert("1")</script>|`b`\n# *x* [y](z)\x1b[31m'
"""A name and a reason that HTML, Markdown and terminals would obey."""
UMASK = os.umask(0o022)
os.umask(UMASK)
STORY = """
    create table orders (id int primary key, email text, note text);
    create table logs (id int);
"""


def report(audit: Audit, *words: str, code: int = 0) -> dict[str, Any]:
    shown = audit("report", "--from", "1 hour ago", "--format", "json", *words, code=code).stdout
    return dict(json.loads(shown))


def section(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    [one] = [each for each in found["sections"] if each["name"] == name]
    return list(one["lines"])


def said(found: dict[str, Any], name: str) -> str:
    return "\n".join(line["text"] for line in section(found, name))


@pytest.fixture
def shop(trail: Trail, audit: Audit) -> Trail:
    trail.execute(STORY)
    rule: dict[str, Any] = {"mask": (Mask.parse("email=sha256"),), "exclude": ("note",)}
    trail.audit("orders", **rule)
    trail.execute("select audit.note_coverage()")
    trail.execute("insert into orders values (1, 'a@b', 'n')")
    audit("pause", "--table", "orders", "--reason", "import of 2026")
    audit("resume", "--table", "orders", "--reason", "done")
    trail.execute("update orders set email = 'c@d'; delete from orders")
    trail.execute("alter table orders add column total numeric")
    trail.execute("select audit.note_changes()")
    trail.audit("orders", **rule)
    return trail


def test_what_happened_is_in_its_section(shop: Trail, audit: Audit) -> None:
    found = report(audit)
    assert found["alarms"] == 0
    assert "public.orders: captured since" in said(found, "coverage")
    assert "import of 2026 (postgres)" in said(found, "coverage")
    assert "public.orders: recorded: id, total; masked: email (sha256); left out: note" in said(
        found, "tables"
    )
    assert "public.logs: not audited: capture is not installed" in said(found, "tables")
    assert said(found, "gaps").splitlines() == [
        "capture of public.orders was paused by postgres: import of 2026",
        "capture of public.orders was resumed by postgres: done",
    ]
    assert "postgres: 1 insert, 1 update, 1 delete" in said(found, "activity")
    assert 'columns, by postgres: {"added": {"total": "numeric"}' in said(found, "ddl")
    assert "postgres can read the trail" in said(found, "access")
    assert "nothing was sealed" in said(found, "seals")
    assert "the trail has events from" in said(found, "retention")
    assert said(found, "reviews").startswith("nobody recorded a review in this period; ")
    assert "pgAudit" in said(found, "limits")


def test_every_line_can_be_repeated(shop: Trail, audit: Audit) -> None:
    found = report(audit)
    lines = [line for one in found["sections"] for line in one["lines"]]
    assert all(line["command"] for line in lines)
    for sql in {line["sql"] for line in lines if line["sql"]}:
        shop.connection.execute(sql)
    for command in {line["command"] for line in lines}:
        audit(*shlex.split(command)[1:], code=0)
    events = {line["event_id"] for line in lines if line["event_id"]}
    assert events <= {event["event_id"] for event in shop.events()}
    again = audit(*shlex.split(found["made_by"])[1:]).stdout
    assert json.loads(again)["sections"] == found["sections"]


def test_what_lies_outside_of_the_period_is_left_out(shop: Trail, audit: Audit) -> None:
    found = report(audit, "--to", "30 minutes ago")
    begun = r"; the trail has no events before \S+ \S+ UTC"
    nothing = "no gap, no pause, and the guard was not switched"
    assert re.fullmatch(nothing + begun, said(found, "gaps"))
    nothing = "no audited table was changed in this period"
    assert re.fullmatch(nothing + begun, said(found, "activity"))


def test_a_period_ends_when_it_is_read(shop: Trail, audit: Audit) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=40)).isoformat()
    found = report(audit, "--to", soon)
    assert found["to"] <= found["made_at"]
    [line] = section(found, "activity")
    shop.execute("insert into orders values (9)")
    assert [row[4] for row in shop.execute(line["sql"])] == [3]
    words = ("--from", soon, "--to", (datetime.now(UTC) + timedelta(seconds=50)).isoformat())
    assert "--from is in the future: the server's clock" in audit("report", *words, code=2).stderr


def test_what_left_the_trail_is_not_taken_for_what_never_was(shop: Trail, audit: Audit) -> None:
    shop.execute(
        "insert into audit.partition_lifecycle (leaf, leaf_name, lower_bound, upper_bound, state, dropped_at)"
        " select 0::regclass, 'gone_' || n, now() - n * interval '1 hour', now() - (n - 1) * interval '1 hour',"
        " 'dropped', now() from generate_series(1, 9) as n"
    )
    found = report(audit, "--from", "3 hours ago", "--to", "2 hours ago", code=FINDINGS)
    nothing = "no audited table was changed in this period, in what the trail still has of it"
    text, away = said(found, "activity").splitlines()
    assert text == nothing
    assert away.endswith("gone_3 (dropped, not archived), gone_2 (dropped, not archived)")
    assert section(found, "activity")[-1]["alarm"]
    assert "and 4 more" in said(report(audit, "--from", "1 day ago", code=FINDINGS), "redactions")
    assert "not all of the period" not in said(report(audit, "--from", "now", code=0), "gaps")


def test_an_unannounced_gap_is_something_to_look_at(shop: Trail, audit: Audit) -> None:
    shop.execute('alter table orders disable trigger "00_audit_row"')
    shop.execute('alter table orders enable always trigger "00_audit_row"')
    shop.execute("select audit.note_coverage()")
    found = report(audit, code=FINDINGS)
    assert "capture was off at some time" in said(found, "gaps")
    assert [line["alarm"] for line in section(found, "gaps")] == [False, False, True]


def test_a_pause_that_began_before_the_period_is_told(shop: Trail, audit: Audit) -> None:
    audit("pause", "--table", "orders", "--reason", "second import")
    shop.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, new_row) values"
        """ ('audit', 'logged_actions', 'M', '{"change": "guard", "guard": "off", "reason": "release"}')"""
    )
    found = report(audit, "--from", "now", code=FINDINGS)
    assert "the guard was off when the period began, turned off by postgres: release" in said(
        found, "gaps"
    )
    assert "public.orders: not captured since " in said(found, "gaps")
    assert "second import (postgres)" in said(found, "gaps")


def test_capture_that_is_off_unannounced_is_told_before_and_after_it_is_noted(
    shop: Trail, audit: Audit
) -> None:
    shop.execute('alter table orders disable trigger "00_audit_row"')
    found = report(audit, code=FINDINGS)
    assert "public.orders: capture is off now; nobody said since when" in said(found, "gaps")
    shop.execute("select audit.note_coverage()")
    found = report(audit, code=FINDINGS)
    assert "public.orders: capture was off at some time since" in said(found, "gaps")
    assert [line["alarm"] for line in section(found, "gaps")][-2:] == [True, True]
    assert [line["alarm"] for line in section(found, "coverage")][-2:] == [True, True]


def test_events_that_are_not_ours_are_passed_over(shop: Trail, audit: Audit) -> None:
    shop.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, new_row)"
        " select 'public', 'orders', action, said::jsonb from unnest(array['[1]', 'null',"
        """ '{"change": "drill", "events": "abc"}', '{"change": "drill", "events": [1]}']) as said,"""
        " unnest(array['M', 'G', 'R', 'B']) as action"
    )
    audit("report", "--from", "1 hour ago", code=FINDINGS)


def test_maintenance_that_fails_for_days_is_something_to_look_at(shop: Trail, audit: Audit) -> None:
    shop.execute(
        "insert into audit.maintenance (command, last_run_at, last_success_at, summary)"
        " values ('failing', now(), now() - interval '3 days', '{}'), ('never', now(), null, '{}'),"
        " ('well', now(), now(), '{}'), ('busy', now(), now() - interval '1 hour', '{}')"
    )
    alarms = {
        line["text"].partition(":")[0]: line["alarm"]
        for line in section(report(audit, code=3), "checks")
    }
    assert alarms == {"busy": False, "failing": True, "never": True, "well": False}


def test_a_profile_selects_orders_and_cites(shop: Trail) -> None:
    now = datetime.now(UTC)
    for name, profile in PROFILES.items():
        found = gather(shop.connection, SCHEMA, Period(begin=now, end=now), profile=name)
        assert {one.name: one.controls for one in found.sections} == profile.sections
        assert [one.name for one in found.sections] == list(profile.sections)
        assert {"coverage", "gaps", "access", "seals", "limits"} <= set(profile.sections)
        assert any(profile.sections.values()) == (name != "all")


class Text(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 - html.parser's name
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(html: str) -> Text:
    page = Text()
    page.feed(html)
    return page


@pytest.fixture
def hostile(trail: Trail, audit: Audit) -> Trail:
    name = psycopg.sql.Identifier(HOSTILE).as_string()
    trail.execute(f"create table {name} (id int primary key)")
    trail.audit(name)
    trail.execute("select audit.note_coverage()")
    trail.execute(f"insert into {name} values (1)")
    audit("pause", "--table", name, "--reason", HOSTILE)
    audit("resume", "--table", name, "--reason", HOSTILE)
    audit("review", "--by", HOSTILE, "--note", HOSTILE)
    return trail


SHOWN = HOSTILE.replace("\n", "\\n").replace("\x1b", "\\u001b")


def test_nothing_is_markup_in_html(hostile: Trail, audit: Audit) -> None:
    plain = read_page(
        audit("report", "--from", "1 hour ago", "--to", "50 minutes ago", "--format", "html").stdout
    )
    html = audit("report", "--from", "1 hour ago", "--format", "html").stdout
    page = read_page(html)
    assert set(page.tags) == set(plain.tags) | {"time"}
    assert "script" not in page.tags
    assert page.text.count(SHOWN) >= 4
    assert "\x1b" not in html
    assert re.findall(r"(?:src|href)=\"(?!#)", html) == []


def test_nothing_is_markup_in_markdown(hostile: Trail, audit: Audit) -> None:
    text = audit("report", "--from", "1 hour ago").stdout
    page = read_page(MarkdownIt("commonmark").enable("table").render(text))
    assert set(page.tags) <= {
        *("h1", "h2", "p", "ul", "li", "strong", "code", "pre", "br"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert page.text.count(SHOWN) >= 4
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") == len(SECTIONS) + 1
    assert "\x1b" not in text


def test_no_text_becomes_markup_or_gets_lost() -> None:
    pieces = (
        *(
            "`",
            "``",
            "*",
            "_",
            "[",
            "](",
            "](x)",
            "!",
            "<",
            "&amp;",
            "|",
            "\\",
            "~~~",
            "#",
            "- ",
            "1. ",
            "    ",
        ),
        *(
            "\t",
            "\n",
            "\r",
            "\u2028",
            "\x1b",
            "\u202e",
            "a",
            "é",
            "@",
            "http://x.y",
            "<!--",
            "---",
            "{{",
            '"',
        ),
    )
    generator = random.Random(7)
    now = datetime.now(UTC)
    for _ in range(100):
        name, word, sql = (
            "".join(generator.choices(pieces, k=generator.randint(1, 8))) for _ in range(3)
        )
        command = shlex.join(["audit", word])
        lines = (
            Line(text=name, command=command, sql=sql),
            Line(text=name, at=now, alarm=True),
        )
        found = EvidenceReport(
            title="T",
            profile="all",
            period=Period(begin=now, end=now),
            made_at=now,
            database=name,
            login=name,
            server_version="18",
            toolkit="1",
            command=command,
            sections=(Section(name="s", title="S", about="A", lines=lines),),
        )
        shown, typed = (" ".join(visible(text).split()) for text in (name, command))
        markdown = MarkdownIt("commonmark").enable("table").render(as_markdown(found))
        for page in (read_page(markdown), read_page(as_html(found))):
            text = " ".join(page.text.split())
            assert text.count(shown) >= 4, name
            assert typed in text or not command.isprintable(), command
            tags = Counter(page.tags)
            assert (tags["li"], tags["td"], tags["h1"], tags["pre"]) in (
                (2, 5, 1, 1),
                (2, 10, 1, 1),
            ), name


def test_commands_run_as_they_are_printed(hostile: Trail, audit: Audit) -> None:
    """Whatever they name: bash is asked what it makes of them."""
    found = json.loads(audit("report", "--from", "1 hour ago", "--format", "json").stdout)
    [wanted] = [line["command"] for line in section(found, "activity")]
    html = audit("report", "--from", found["from"], "--to", found["to"], "--format", "html").stdout
    printed = [
        unescape(one) for one in re.findall(r"<code>(audit history --table.*?)</code>", html)
    ]
    assert printed
    environment = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}
    for command in printed:
        assert command.isprintable()
        ran = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {command}"],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        assert ran.stdout.decode().split("\0")[:-1] == shlex.split(wanted)


def test_times_are_read_back_from_every_page(shop: Trail, audit: Audit) -> None:
    html = audit("report", "--from", "0007-08-09 00:00 UTC", "--format", "html").stdout
    assert "0007-08-09 00:00:00 UTC to " in html
    times = re.findall(r'datetime="([^"]*)"', html)
    assert times
    # As HTML demands: three digits at most.
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    found = json.loads(audit("report", "--from", "0007-08-09 00:00 UTC", "--format", "json").stdout)
    again = json.loads(audit(*shlex.split(found["made_by"])[1:], code=0).stdout)
    assert (again["from"], again["to"]) == (found["from"], found["to"])


def test_one_snapshot(shop: Trail) -> None:
    now = datetime.now(UTC)
    with shop.database.connect() as other, shop.database.connect() as connection:

        def write_meanwhile() -> tuple[()]:
            other.execute("insert into orders values (7, 'late', null)")
            return ()

        period = Period(begin=now - timedelta(hours=1), end=now + timedelta(hours=1))
        profile = "pci"  # checks come last
        first = gather(connection, SCHEMA, period, profile="soc2", check=write_meanwhile)
        second = gather(connection, SCHEMA, period, profile=profile)

    def inserts(found: Any) -> str:
        [one] = [each for each in found.sections if each.name == "activity"]
        return str(one.lines[0].text)

    assert "1 insert" in inserts(first)
    assert "2 inserts" in inserts(second)
    assert as_html(first).startswith("<!doctype html>")
    assert as_markdown(first).startswith("# SOC 2")


def test_changes_are_those_of_a_table_whatever_it_was_called(trail: Trail, audit: Audit) -> None:
    trail.execute("create table a (id int primary key); create table b (id int primary key)")
    trail.audit("a")
    trail.audit("b")
    trail.execute("insert into a values (1); insert into b values (1), (2), (3)")
    trail.execute(
        "begin; alter table a rename to tmp; alter table b rename to a; alter table tmp rename to b;"
        " commit; select audit.note_changes()"
    )
    trail.execute("insert into a values (4); delete from b")
    found = section(report(audit, code=FINDINGS), "activity")  # audit check tells of renames
    assert [line["text"] for line in found] == [
        "public.a: postgres: 4 inserts",
        "public.b: postgres: 1 insert, 1 delete",
    ]
    assert [row[4] for row in trail.execute(found[0]["sql"])] == [4, 2]
    for line, number in zip(found, (4, 2), strict=True):
        words = shlex.split(line["command"])[1:]
        assert len(json.loads(audit(*words, "--format", "json").stdout)["events"]) == number


def test_a_restore_is_told_whatever_became_of_its_hold(shop: Trail, audit: Audit) -> None:
    shop.execute(
        "insert into audit.partition_lifecycle (leaf, leaf_name, state, detached_at, archived_at, archive,"
        " archive_digest, hold_reason, held_by, held_at) values"
        " (1::regclass, 'released', 'detached', now(), now(), 'a', 'd', null, null, null),"
        " (2::regclass, 'kept', 'detached', now(), now(), 'a', 'd', 'a law suit', 'al', now()),"
        " (3::regclass, 'back', 'detached', now(), now(), 'a', 'd', 'restored from the archive', 'jo', now()),"
        " (4::regclass, 'never', 'detached', now() - interval '1 s', now(), 'a', 'd',"
        " 'restored from the archive', 'mallory', now())"
    )
    found = report(audit, code=FINDINGS)
    names = re.findall(
        r"^partition (\w+) restored from a(?: by (\w+))?$", said(found, "restores"), re.M
    )
    assert sorted(names) == [("back", "jo"), ("kept", ""), ("released", "")]
    fates = re.findall(r"^partition (\w+) (archived|detached)", said(found, "retention"), re.M)
    assert fates == [("never", "detached"), ("never", "archived")]


def test_commands_say_all_that_a_line_depends_on(shop: Trail, audit: Audit, tmp_path: Path) -> None:
    file = tmp_path / "no folder"
    file.touch()
    url = str(file / "archive")
    found = report(audit, "--archive", url, code=FINDINGS)
    [line] = [one for one in section(found, "checks") if "archive_unreachable" in one["text"]]
    assert "archive_unreachable" in audit(*shlex.split(line["command"])[1:], code=FINDINGS).stdout


def test_events_that_are_not_sealed_stay_the_same_number(
    shop: Trail, audit: Audit, tmp_path: Path
) -> None:
    key = tmp_path / "seal.key"
    audit("keys", "new", "--key", str(key), "--name", "example.com/orders")
    audit("seal", "--key", str(key))
    shop.execute("insert into orders values (2), (3)")
    found = report(audit)
    [line] = [one for one in section(found, "seals") if "not sealed yet" in one["text"]]
    assert line["text"] == "2 events of the period not sealed yet"
    shop.execute("insert into orders values (4)")
    audit("seal", "--key", str(key))
    assert shop.execute(line["sql"]) == [(2,)]
    size = shop.execute("select max(tree_size) from audit.seal_checkpoints")
    audit(*shlex.split(line["command"])[1:], code=0)
    assert shop.execute("select max(tree_size) from audit.seal_checkpoints") == size


def test_a_time_that_no_calendar_has_spoils_no_other_section(shop: Trail, audit: Audit) -> None:
    shop.execute(
        "insert into audit.logged_actions (action_tstamp, schema_name, table_name, action, row_key, new_row)"
        " values ('infinity', 'public', 'orders', 'I', '9', '{}')"
    )
    found = report(audit, code=FINDINGS)
    assert "not known: it cannot be read: timestamp too large" in said(found, "retention")
    assert "1 insert" in said(found, "activity")


def test_what_a_reader_may_not_know_is_said(shop: Trail, audit: Audit, tmp_path: Path) -> None:
    role = f"reader_{shop.database.name[-8:]}"
    shop.execute(f"create role {role}; grant usage on schema audit to {role}")
    shop.execute(
        f"grant select on audit.logged_actions, audit.seal_checkpoints, audit.seal_keys to {role}"
    )
    key = str(tmp_path / "seal.key")
    audit("keys", "new", "--key", key, "--name", "example.com/orders")
    audit("seal", "--key", key)
    try:
        with shop.database.connect() as connection:
            connection.execute(f"set role {role}")
            now = datetime.now(UTC)
            period = Period(begin=now - timedelta(hours=1), end=now)
            found = gather(connection, SCHEMA, period, verification=Verification())
        lines = {one.name: one.lines for one in found.sections}
        assert "not known: this role may not read it" in lines["retention"][-1].text
        assert lines["retention"][-1].alarm
        assert "1 insert" in lines["activity"][0].text
        told = [line.text.split(" ")[0] for line in lines["seals"]]
        assert (told[:2], told[-1]) == (["key", "1"], "not")
    finally:
        shop.execute(f"drop owned by {role}; drop role {role}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from", "nonsense"), "--from: 'nonsense' is not a valid time"),
        (("--from", "2999-01-01"), "is in the future"),
        (("--from", "now", "--to", "1 hour ago"), "--from must be earlier than --to"),
        (("--from", "1 hour ago", "--key", "k"), "add --verify"),
        ((), "--from"),
    ],
)
def test_usage(audit: Audit, words: tuple[str, ...], message: str) -> None:
    assert message in audit("report", *words, code=2).output


def test_a_file_is_written(shop: Trail, audit: Audit, tmp_path: Path) -> None:
    file = tmp_path / "out.html"
    done = audit("report", "--from", "1 hour ago", "--format", "html", "-o", str(file), code=0)
    assert (done.stdout, done.stderr) == ("", f"wrote {file}\n")
    assert file.read_text("utf-8").startswith("<!doctype html>")
    assert file.stat().st_mode & 0o777 == 0o666 & ~UMASK
    link = tmp_path / "link"
    link.symlink_to(file)
    file.chmod(0o640)
    audit("report", "--from", "1 hour ago", "-o", str(link), code=0)
    assert file.read_text("utf-8").startswith("# Audit trail report")
    assert (link.is_symlink(), file.stat().st_mode & 0o777) == (True, 0o640)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "out.html"]


def test_a_report_is_utf_8_wherever_it_goes(shop: Trail, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "audit_toolkit",
        "report",
        "--from",
        "1 hour ago",
        "--profile",
        "hipaa",
    ]
    environment = {
        **os.environ,
        "PYTHONIOENCODING": "ascii",
        "AUDIT_DATABASE_URL": shop.database.dsn,
    }
    for words in ([], ["-o", "/dev/stdout"]):
        ran = subprocess.run(
            [*command, *words], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, check=True
        )
        assert "§164.312" in ran.stdout.decode("utf-8")


def test_a_report_without_a_place_is_refused_before_it_is_read(
    shop: Trail, audit: Audit, tmp_path: Path
) -> None:
    words = ("--from", "1 hour ago", "--dsn", "postgresql://nowhere.invalid/", "-o")
    assert "could not write" in audit("report", *words, str(tmp_path / "no" / "f"), code=1).stderr
    assert "could not write" in audit("report", *words, str(tmp_path), code=1).stderr


def test_a_file_that_cannot_be_written_to_its_end_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out.md"
    file.write_text("former")

    def full(path: Path, text: str, encoding: str) -> None:
        with path.open("w", encoding=encoding) as opened:
            opened.write(text[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(AuditError, match="No space left"):
        write_whole(file, "a long report", "-o")
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"former"]


def test_a_review_names_the_file_that_was_looked_at(
    shop: Trail, audit: Audit, tmp_path: Path
) -> None:
    file = tmp_path / "october.html"
    file.write_text("what was looked at")
    audit("review", "--by", "jo", "--note", "all gaps are explained", "--file", str(file), code=0)
    audit("review", "--by", "al", "--note", "fine", "--from", "1 hour ago", "--to", "now", code=0)
    first, second = said(report(audit), "reviews").splitlines()
    digest = hashlib.sha256(b"what was looked at").hexdigest()
    assert f"all gaps are explained [october.html, SHA-256 {digest}]" in first
    assert re.fullmatch(r"reviewed by al of \S+ to \S+: fine \(recorded by postgres\)", second)
    assert "reviewed by jo: all gaps are explained" in audit("history").stdout
    assert (
        "a review needs a conclusion" in audit("review", "--by", "jo", "--note", " ", code=2).stderr
    )
    assert (
        "belong together"
        in audit("review", "--by", "a", "--note", "b", "--to", "now", code=2).stderr
    )


def test_a_review_of_nothing_or_by_nobody_is_refused(
    shop: Trail, audit: Audit, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.html"
    empty.touch()
    undecodable = tmp_path / os.fsdecode(b"caf\xe9.html")
    undecodable.write_text("x")

    def refused(by: str, note: str, *words: str) -> str:
        return audit("review", "--by", by, "--note", note, *words, code=2).stderr

    assert "needs the name of the reviewer" in refused("\u200b\u00a0", "fine")
    assert "needs a conclusion" in refused("jo", "\u2060")
    assert "empty.html is empty" in refused("jo", "fine", "--file", str(empty))
    assert "Is a directory" in refused("jo", "fine", "--file", str(tmp_path))
    assert "--file: 'caf\\udce9.html' is not text" in refused(
        "jo", "fine", "--file", str(undecodable)
    )
    assert "--by: 'j\\udcff' is not text" in refused("j\udcff", "fine")
    assert not [e for e in shop.events() if e["table_name"] == "logged_actions"]


def test_seals_are_listed_and_verified(shop: Trail, audit: Audit, tmp_path: Path) -> None:
    key = tmp_path / "seal.key"
    audit("keys", "new", "--key", str(key), "--name", "example.com/orders")
    audit("seal", "--key", str(key), "--checkpoint-to", str(tmp_path / "outside"))
    lines = said(report(audit), "seals")
    assert "1 checkpoint signed" in lines
    assert "were not compared with their seals for this report" in lines
    options = ("--verify", "--key", f"{key}.pub", "--checkpoints", str(tmp_path / "outside"))
    assert "match their seals; 1 checkpoint kept outside agrees" in said(
        report(audit, *options), "seals"
    )
    shop.execute("alter table audit.logged_actions disable trigger all")
    leaves = shop.execute("select leaf::text from audit.leaves()")
    for (leaf,) in leaves:
        shop.execute(f"alter table {leaf} disable trigger all")
    shop.execute("update audit.logged_actions set context = '{}' where action = 'D'")
    found = report(audit, *options, code=FINDINGS)
    assert any(line["alarm"] and "changed" in line["text"] for line in section(found, "seals"))


def test_redactions_are_told_without_values(shop: Trail, audit: Audit) -> None:
    shop.execute("insert into orders values (2, 'zoe@example.com', 'n', 7.5)")
    words = ("--column", "total", "--column", "email", "--query", "--reason", "asked to")
    audit("redact", "orders", "2", *words, "--ticket", "DPO-17", "--apply")
    told = said(report(audit, "--profile", "gdpr"), "redactions")
    assert re.search(r"orders: os:\w+ erased .*total.* in 1 event: asked to, DPO-17", told)
    assert "7.5" not in told
    shop.execute(
        "insert into audit.logged_actions (schema_name, table_name, action, new_row)"
        """ values ('public', 'orders', 'R', '{"columns": 7, "reason": {}}')"""
    )
    assert "orders: " in said(report(audit, "--profile", "gdpr"), "redactions")
