"""The version, in one place."""

import re

__version__ = "0.3.0"


def is_newer(version: str) -> bool:
    """Whether a release is newer than this one."""
    return _numbers(version) > _numbers(__version__)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
