"""What a row means by `OBX-5.2` or `CX.4`, and conditions on it.

A condition is clauses with `and` between them: `OBX-2 = NM`, `OBX-2 in ST|TX`, `OBX-8 valued`, `OBX-5 repeats`, and their opposites `!=`, `not in`,
`not valued`, `single`; `numeric` and `not numeric` tell numbers from what senders write in their place, as `>10`; `SPM present` and `SPM absent` ask
whether a segment is in the group of the one at hand, or in the groups in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from fhir_server.hl7v2.message import Repetition, Segment

from .rows import MappingFault, Row

_FIELD: Final = re.compile(r"([A-Z][A-Z0-9]{2})-(\d{1,2})(?:\.(\d{1,2}))?(?:\.(\d{1,2}))?")
_COMPONENT: Final = re.compile(r"([A-Z][A-Z0-9]{1,2})(?:\.(\d{1,2})(?:\.(\d{1,2}))?)?")
_NUMERIC: Final = re.compile(r"[+-]?(\d+(?:\.\d*)?|\.\d+)")
_CLAUSE: Final = re.compile(r"(\S+) (valued|not valued|repeats|single|numeric|not numeric|present|absent|(?:=|!=|in|not in) (\S+))")


class Field(NamedTuple):
    """A place: of a segment (`OBX-5.2`) or of the value that a data type's map is given (`CX.4`, or `CX` for all of it, whose `number` is 0)."""

    segment: str
    number: int
    component: int | None = None
    sub: int | None = None


class View(Protocol):
    """What the rows of a map look at."""

    def values(self, field: Field) -> tuple[Repetition, ...]:
        """The repetitions of a field that say something, each cut down to the component that the place names."""

    def text(self, field: Field) -> str:
        """The first text at a place, empty where there is none."""

    def has(self, name: str) -> bool:
        """Whether there is a segment of a name beside or below the one at hand."""


class Surroundings(Protocol):
    """What is around a segment: the group of its message that it is in."""

    def nearest(self, name: str) -> Segment | None:
        """The nearest segment of another name: MSH, or what stands in the same group or one around it."""

    def has(self, name: str) -> bool:
        """Whether there is a segment of a name in the group, or in those in it."""


class SegmentView:
    """A segment, and the segments around it by their names."""

    __slots__ = ("_around", "_segment")

    def __init__(self, segment: Segment, around: Surroundings) -> None:
        """Looks at the segment."""
        self._segment = segment
        self._around = around

    def has(self, name: str) -> bool:
        """See View."""
        return self._around.has(name)

    def _of(self, field: Field) -> Segment | None:
        return self._segment if field.segment == self._segment.name else self._around.nearest(field.segment)

    def values(self, field: Field) -> tuple[Repetition, ...]:
        """See View."""
        segment = self._of(field)
        if segment is None:
            return ()
        found = segment.repetitions(field.number)
        if field.component is None or not found:
            return found
        return tuple(each.part(field.component) for each in found if each.piece(field.component))

    def text(self, field: Field) -> str:
        """See View."""
        segment = self._of(field)
        if segment is None:
            return ""
        if field.component is None:
            return segment.first(field.number)
        found = segment.repetitions(field.number)
        if not found or found[0].is_null:
            return ""
        if field.sub is not None:
            return found[0].sub(field.component, field.sub)
        return found[0].component(field.component)


class ValueView:
    """A repetition of a field, or a component of one, that a data type's map is given."""

    __slots__ = ("_value",)

    def __init__(self, value: Repetition) -> None:
        """Looks at the value."""
        self._value = value

    def has(self, name: str) -> bool:  # noqa: ARG002 - of its face
        """See View: there are no segments in a value."""
        return False

    def values(self, field: Field) -> tuple[Repetition, ...]:
        """See View."""
        if field.component is None:
            return (self._value,) if self._value.raw else ()
        if not self._value.piece(field.component).strip():
            return ()
        part = self._value.part(field.component)
        if field.sub is not None:
            part = part.part(field.sub)
        return (part,) if part.raw else ()

    def text(self, field: Field) -> str:
        """See View."""
        if field.sub is not None:
            return self._value.sub(field.component or 1, field.sub)
        return self._value.component(field.component or 1)


def is_field(text: str) -> bool:
    """Whether a text names a field of a segment, as `OBX-4` does."""
    return _FIELD.fullmatch(text) is not None


def parse_field(text: str, row: Row) -> Field:
    """The place that a cell names. Raises MappingFault."""
    if match := _FIELD.fullmatch(text):
        return Field(match[1], int(match[2]), int(match[3]) if match[3] else None, int(match[4]) if match[4] else None)
    if match := _COMPONENT.fullmatch(text):
        return Field(match[1], 0, int(match[2]) if match[2] else None, int(match[3]) if match[3] else None)
    raise MappingFault(f"'{text}' is no field (as OBX-5 or OBX-5.2), no component (as CX.4) and no data type (as CX, for all of it)", row)


def parse_choice(text: str, row: Row) -> tuple[Field, tuple[str, ...], str] | None:
    """A condition that begins with what a field has to be, as `OBX-2 in ST|TX and …`: the field, its values, and the rest; None for any other."""
    first, _, rest = text.partition(" and ")
    match = _CLAUSE.fullmatch(first.strip())
    if match is None or match[3] is None or match[2].startswith(("!=", "not in")):
        return None
    return parse_field(match[1], row), tuple(match[3].split("|")), rest


def parse_condition(text: str, row: Row) -> Callable[[View], bool] | None:
    """The test that a cell asks for, None for an empty one. Raises MappingFault."""
    if not text:
        return None
    tests = [_clause(clause.strip(), row) for clause in text.split(" and ")]
    first, others = tests[0], tests[1:]
    if not others:
        return first
    if len(others) == 1:
        second = others[0]
        return lambda view: first(view) and second(view)
    return lambda view: first(view) and all(test(view) for test in others)


def _clause(text: str, row: Row) -> Callable[[View], bool]:
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise MappingFault(f"'{text}' is no condition, as 'OBX-2 = NM', 'OBX-2 in ST|TX', 'OBX-8 valued' and 'OBX-5 repeats' are", row)
    if match[2] in {"present", "absent"}:
        name, wanted_there = match[1], match[2] == "present"
        return lambda view: view.has(name) is wanted_there
    field = parse_field(match[1], row)
    if match[3] is None:
        return _counted(field, match[2])
    wanted = frozenset(match[3].split("|"))
    if match[2].startswith(("!=", "not in")):
        return lambda view: view.text(field) not in wanted
    return lambda view: view.text(field) in wanted


def _counted(field: Field, word: str) -> Callable[[View], bool]:
    match word:
        case "valued":
            return lambda view: any(not each.is_null for each in view.values(field))
        case "not valued":
            return lambda view: all(each.is_null for each in view.values(field))
        case "numeric":
            return lambda view: _NUMERIC.fullmatch(view.text(field).strip()) is not None
        case "not numeric":
            return lambda view: _NUMERIC.fullmatch(view.text(field).strip()) is None
        case "repeats":
            return lambda view: len(view.values(field)) > 1
        case _:
            return lambda view: len(view.values(field)) <= 1
