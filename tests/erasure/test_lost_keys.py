"""Rows of which values are redacted, and whose key column has another name since, or is gone."""

from __future__ import annotations

import pytest

from tests.completeness.conftest import Audit
from tests.erasure.test_time_travel import people, redact
from tests.plugins.command import audit
from tests.plugins.trail import Trail

__all__ = ["audit", "people"]
ANOTHER_KEY = "alter table people add column key int generated always as identity primary key"
ROW_1 = "select {}(event_id) from audit.logged_actions where row_key = '1'"


@pytest.mark.thorough
@pytest.mark.parametrize("redacted_first", [True, False])
@pytest.mark.parametrize("is_dropped", [True, False])
def test_what_was_redacted_is_shown_as_such_and_put_back_by_nothing(
    people: Trail, audit: Audit, is_dropped: bool, redacted_first: bool
) -> None:
    people.execute("update people set n = 2, code = 'b' where id = 1")
    [[first], [last]] = [people.execute(ROW_1.format(which))[0] for which in ("min", "max")]
    number = redact(people, "e,mail", "n") if redacted_first else 0
    people.execute(
        f"alter table people {'drop column id' if is_dropped else 'rename id to number'};"
        + (ANOTHER_KEY if is_dropped else "")
    )
    people.audit("people")
    number = number or redact(people, "e,mail", "n")
    people.execute("update people set mood = 'sad' where code = 'b'")
    mark = f"redacted (event {number})"

    assert audit("history", "people", "1").stdout.count(mark) == 4  # as inserted, before and after
    assert mark in audit("show", str(last)).stdout
    assert mark in audit("diff", "people", "--from", "2020-01-01", code=0).stdout or not is_dropped
    seen = audit("row-at", "people", "1", "--at", "now", code=3 if is_dropped else 0).stdout
    assert (mark in seen, "zoe" in seen) == (is_dropped, not is_dropped)

    why = "no longer has a column id" if is_dropped else f"n was {mark}"
    for words in (
        ("revert", "--event", str(last), "--force", "--apply"),
        ("restore", "people", "1", "--event", str(first), "--apply"),
    ):
        assert why in audit(*words, code=2).stderr
    assert people.execute("select n::text, \"e,mail\" from people where code = 'b'") == [
        ("2", "zoe")
    ]
    audit("baseline", "--table", "people")
    audit("reconcile")
