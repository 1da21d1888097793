"""Texts that come a line a segment: comments, and results of the types TX and FT. They are one text, in the order in which they come.

https://www.hl7.eu/refactored/ch02a.html (TX: each repetition is another line), https://www.hl7.eu/refactored/ch07.html (OBX-4: what belongs together)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.hl7v2.text.message import Message, Segment

_TEXTS: Final = frozenset({"TX", "FT"})
_ALIKE: Final = (2, 3, 4, 11)
"""Fields of OBX that are the same in all lines of a result: type, what was observed, sub-id and status."""
_VALUE: Final = 5
_COMMENT: Final = 3
_CONTROLS: Final = bytes({*range(32)} - {*b"\t\n\r"})
"""Characters that no text of FHIR may have; printers and instruments leave them in what they send."""
_BLANKS: Final = dict.fromkeys(_CONTROLS, " ")


def joined(message: Message) -> list[Segment]:
    """The segments with lines of one text made one segment of many lines, where they follow each other. Those that have none are the same objects.

    Blanks stand for control characters, but for those that the message splits its parts with.
    """
    found: list[Segment] = []
    last: Segment | None = None
    for segment in _printable(message):
        if segment.name == "OBX" and _at(segment, 2) in _TEXTS:
            if last is not None and last.name == "OBX" and all(_at(segment, number) == _at(last, number) for number in _ALIKE):
                _append(last, segment, _VALUE)
                continue
            last = _as_lines(segment, _VALUE)
        elif segment.name == "NTE":
            if last is not None and last.name == "NTE" and _others(segment) == _others(last):
                _append(last, segment, _COMMENT)
                continue
            last = _as_lines(segment, _COMMENT)
        else:
            last = segment
        found.append(last)
    return found


def _printable(message: Message) -> Sequence[Segment]:
    # 0.5 µs a kB; in wide texts every other byte is one, and their fields are gone through.
    if len(message.raw.translate(None, _CONTROLS)) == len(message.raw):
        return message.segments
    table = {code: blank for code, blank in _BLANKS.items() if chr(code) not in message.separators}
    return [replace(segment, fields=[field.translate(table) for field in segment.fields], _parsed={}, _firsts={}) for segment in message.segments]


def _at(segment: Segment, number: int) -> str:
    return segment.fields[number] if number < len(segment.fields) else ""


def _others(segment: Segment) -> list[str]:
    """Who says a comment, and when and of what kind it is."""
    fields = [segment.fields[number] for number in range(2, len(segment.fields)) if number != _COMMENT]
    while fields and not fields[-1]:
        fields.pop()
    return fields


def _as_lines(segment: Segment, number: int) -> Segment:
    """The segment with the repetitions of a field as lines of one value."""
    fields = segment.fields + [""] * (number + 1 - len(segment.fields))
    fields[number] = fields[number].replace(segment.separators.repetition, _line_end(segment))
    return Segment(segment.name, segment.number, segment.sequence, fields, segment.separators, segment.codec)


def _append(first: Segment, segment: Segment, number: int) -> None:
    lines = _at(segment, number).replace(segment.separators.repetition, _line_end(segment))
    first.fields[number] += _line_end(segment) + lines


def _line_end(segment: Segment) -> str:
    mark = segment.separators.escape
    return f"{mark}.br{mark}"
