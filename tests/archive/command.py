"""A command in a process of its own, and the memory that it took."""

from __future__ import annotations

import subprocess
import sys

# The peak of a process includes that of its imports, so each size has a process of its own. Its ru_maxrss would
# also include what the process that started it had in memory.
COMMAND = """
import pathlib, re, sys
from audit_toolkit.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1], file=sys.stderr)
sys.exit(code)
"""


def audit(*arguments: str) -> tuple[str, float]:
    """Run the command line in a process of its own: its output, and its peak in MB."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, int(done.stderr.splitlines()[-1]) / 1024
