"""Segments as text: what the grammar of a version has room for, with escapes. https://www.hl7.eu/refactored/ch02.html (2.7)

The grammar is hl7apy's: which fields a segment has in a version, how many components each. Its own objects are not used to build: they check the
message at each assignment, which takes 30 ms for a small one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from hl7apy import load_library

Component = str | Sequence[str]
Repetition = Sequence[Component]
"""Components of one repetition of a field; one that is not a text is a list of subcomponents."""
Fields = Mapping[int, Sequence[Repetition]]

_WITHDRAWN: Final = frozenset({"WD", None})
_TEXT_OF_CWE: Final = 9
_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\n": "\\.br\\"}
_SPECIAL: Final = re.compile(r"[\\|^&~\n]")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x85\u2028\u2029]")


def escaped(text: str) -> str:
    """A text as it may stand in a message. Characters that would end a segment or a frame, and other control characters, are left out."""
    plain = _CONTROL.sub("", text.replace("\r\n", "\n"))
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], plain)


def segment(version: str, name: str, fields: Fields) -> str:
    """One segment, cut to what the version knows of it; what it has no room for is left out."""
    room = _room(version, name)
    last = max((number for number, values in fields.items() if values and number in room), default=0)
    written = [_field(room[number], fields.get(number, ())) if number in room else "" for number in range(1, last + 1)]
    return "|".join([name, *written]).rstrip("|")


def has(version: str, name: str) -> bool:
    """Whether a version has a segment."""
    return name in _library(version).SEGMENTS


def _field(room: _Room, values: Sequence[Repetition]) -> str:
    if room.size == 0:
        return ""
    written = [_repetition(room, value) for value in values]
    kept = [text for text in written if text]
    return "~".join(kept if room.repeats else kept[:1])


def _repetition(room: _Room, value: Repetition) -> str:
    components = list(value)
    if room.type in ("CE", "CF") and len(components) >= _TEXT_OF_CWE and not components[0] and not components[1]:
        # A CE has no place of its own for a text without a code.
        components[1] = components[_TEXT_OF_CWE - 1]
    if room.size == 1:
        first = components[0] or (components[1] if len(components) > 1 and room.type in ("ST", "IS", "TX", "FT") else "")
        return escaped(first if isinstance(first, str) else first[0] if first else "")
    limit = room.size if room.size > 0 else len(components)
    return "^".join("" if number in room.gaps else _component(each) for number, each in enumerate(components[:limit])).rstrip("^")


def _component(value: Component) -> str:
    return escaped(value) if isinstance(value, str) else "&".join(map(escaped, value)).rstrip("&")


class _Room:
    """What a field has room for: its type, how many components (0: withdrawn, -1: any), which of them are withdrawn, and whether it repeats."""

    __slots__ = ("gaps", "repeats", "size", "type")

    def __init__(self, declared: Any) -> None:
        _, content, (_, most), _ = declared
        self.type: str | None = content[2]
        self.repeats = most != 1
        parts = content[1] if content[0] == "sequence" else None
        self.gaps = frozenset(number for number, part in enumerate(parts or ()) if part[1][2] in _WITHDRAWN)
        if self.type in _WITHDRAWN:
            self.size = 0
        elif self.type == "varies" or (content[0] == "sequence" and parts is None):
            self.size = -1
        else:
            self.size = len(parts) if parts is not None else 1


@cache
def _room(version: str, name: str) -> dict[int, _Room]:
    # Some versions leave withdrawn fields out, so that a place in the list tells no number.
    return {int(field[0].rpartition("_")[2]): _Room(field) for field in _library(version).SEGMENTS[name][1]}


@cache
def _library(version: str) -> Any:
    return load_library(version)
