"""Fields of a message that no row is about: what is in them stays in the message, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from fhir_server.hl7v2.text.message import Segment

from .functions import READ
from .rows import Row
from .rules import Place

_FIELD: Final = re.compile(r"\b([A-Z][A-Z0-9]{2})-([1-9]\d?)")
_MAP: Final = re.compile(r"([A-Z][A-Z0-9]{2})\[(.+)\]")
_NULL: Final = '""'
_COUNTED: Final = re.compile(r"\d{1,4}")
"""What the first field of most segments has: their number in the message."""


def read_by(rows: Iterable[Row], maps: Mapping[str, Sequence[Row]]) -> frozenset[Place]:
    """The fields that rows of a message, and the segments' maps that they name, are about or go by; `maps` are rows by the name of their file."""
    found: set[Place] = set(READ)
    waiting, seen = list(rows), set[str]()
    while waiting:
        row = waiting.pop()
        for text in row.cells.values():
            found |= {(name, int(number)) for name, number in _FIELD.findall(text)}
        match = _MAP.fullmatch(row["map"])
        file = f"{match[1]}-{match[2]}" if match is not None else ""
        if file in maps and file not in seen:
            seen.add(file)
            waiting += maps[file]
    return frozenset(found)


def unread(segments: Iterable[Segment], read: frozenset[Place], handled: frozenset[str]) -> Iterator[str]:
    """The fields, as `PID-23`, of those segments that are handled which say something and are not read."""
    for segment in segments:
        if segment.name in handled:
            for number, text in enumerate(segment.fields[1:], 1):
                says = text.strip() not in {"", _NULL} and not (number == 1 and _COUNTED.fullmatch(text))
                if says and (segment.name, number) not in read:
                    yield f"{segment.name}-{number}"
