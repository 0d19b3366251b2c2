"""What `docs/completeness.md` shows is what the commands print."""

from __future__ import annotations

import re
from pathlib import Path

from tests.completeness.conftest import Audit
from tests.completeness.story import ORDERS, STORY
from tests.plugins.trail import Trail

PAGE = (Path(__file__).parents[2] / "docs" / "completeness.md").read_text("utf-8")


def test_the_page_shows_what_reconcile_prints(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    trail.execute(STORY)
    [shown] = re.findall(r"```console\n\$ audit reconcile\n(.*?)```", PAGE, re.DOTALL)
    assert audit("reconcile").stdout == shown


def test_the_commands_of_the_page_run(trail: Trail, audit: Audit) -> None:
    trail.execute(ORDERS)
    trail.audit("orders")
    [block] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines():
        audit(*line.removeprefix("audit ").split())
