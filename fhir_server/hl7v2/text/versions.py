"""The versions of the standard that there are, and which of them a message is read by."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

USUAL: Final = "2.5.1"
"""What a message is read by that names no version: most senders write it."""

VERSIONS: Final = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
_LONGEST: Final = 16
_WRITTEN: Final = re.compile(r"[vV]?\s*(\d{1,3}(?:\.\d{1,3}){0,3})")


def nearest(written: str) -> str:
    """The version that a text of MSH-12 is read by: itself, else the last one before it, else the first; 2.5.1 where there is no number."""
    return _nearest(written.strip()[:_LONGEST])


@lru_cache(maxsize=256)
def _nearest(written: str) -> str:
    match = _WRITTEN.match(written)
    if match is None:
        return USUAL
    wanted = _numbers(match[1])
    return next((version for version in reversed(VERSIONS) if _numbers(version) <= wanted), VERSIONS[0])


@lru_cache(maxsize=256)
def since(version: str, first: str) -> bool:
    """Whether a version is `first` or a later one."""
    return _numbers(version) >= _numbers(first)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
