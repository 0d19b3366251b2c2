"""How much the proofs do, and the figures they reached: printed at the end of the run.

pytest --replay-examples 20000   examples of the state machine (default 25)
pytest --crash-kills 50          kills of the server (default 3)
pytest --hostile-names 5000      names of the identifier fuzz (default 60)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

FIGURES = "figures"

ShowFigures = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options above."""
    group = parser.getgroup("proofs")
    group.addoption("--replay-examples", type=int, default=25)
    group.addoption("--crash-kills", type=int, default=3)
    group.addoption("--hostile-names", type=int, default=60)


@pytest.fixture
def show_figures(record_property: Callable[[str, object], None]) -> ShowFigures:
    """Call it with what a proof has reached."""

    def show(text: str) -> None:
        record_property(FIGURES, text)

    return show


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of all proofs, also those that ran in workers of pytest-xdist."""
    lines = [
        f"{report.nodeid.partition('::')[2]}: {text}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, text in report.user_properties
        if name == FIGURES
    ]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join(lines) + "\n")
