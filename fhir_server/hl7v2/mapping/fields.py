"""What a row means by `OBX-5.2` or `CX.4`, and conditions on it.

A condition is clauses with `and` between them: `OBX-2 = NM`, `OBX-2 in ST|TX`, `OBX-8 valued`, `OBX-5 repeats`, and their opposites `!=`, `not in`,
`not valued`, `single`; `numeric` tells numbers from what senders write in their place, of which `bounded` are those as `>10`, and both have opposites
with `not`; `SPM present` and `SPM absent` ask whether a segment is in the group of the one at hand, or in the groups in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fhir_server.hl7v2.text.message import Repetition, Segment
from fhir_server.hl7v2.text.separators import Separators

from .rows import MappingFault, Row

_FIELD: Final = re.compile(r"([A-Z][A-Z0-9]{2})-([1-9]\d?)(?:\.([1-9]\d?))?(?:\.([1-9]\d?))?")
_COMPONENT: Final = re.compile(r"([A-Z][A-Z0-9]{1,2})(?:\.([1-9]\d?)(?:\.([1-9]\d?))?)?")
_NUMERIC: Final = re.compile(r"[+-]?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_BOUNDED: Final = re.compile(r"[<>]=?\s*[+-]?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_NULL: Final = '""'
_CLAUSE: Final = re.compile(r"(\S+) (valued|not valued|repeats|single|(?:not )?numeric|(?:not )?bounded|present|absent|(?:=|!=|in|not in) (\S+))")


class Field(NamedTuple):
    """A place: of a segment (`OBX-5.2`) or of the value that a data type's map is given (`CX.4`, or `CX` for all of it, whose `number` is 0)."""

    segment: str
    number: int
    component: int | None = None
    sub: int | None = None

    @property
    def place(self) -> tuple[str, int]:
        """The whole field of a segment."""
        return self.segment, self.number


class Surroundings(Protocol):
    """What is around a segment: the group of its message that it is in."""

    def nearest(self, name: str) -> Segment | None:
        """The nearest segment of another name: MSH, or what stands in the same group or one around it."""

    def has(self, name: str) -> bool:
        """Whether there is a segment of a name in the group, or in those in it."""


class View(dict[str, Segment]):
    """What the rows of a segment's map look at: the segment, and those around it, by name; an empty one where there is none."""

    __slots__ = ("_around",)

    def __init__(self, segment: Segment, around: Surroundings) -> None:
        """Looks at the segment."""
        self[segment.name] = segment
        self._around = around

    def has(self, name: str) -> bool:
        """Whether there is a segment of a name beside or below the one at hand."""
        return self._around.has(name)

    def __missing__(self, name: str) -> Segment:
        """The nearest segment of another name."""
        found = self[name] = self._around.nearest(name) or _ABSENT
        return found


class _Alone:
    """Around a segment of which nothing else is looked at."""

    def nearest(self, name: str) -> Segment | None:  # noqa: ARG002 - whatever it is called
        return None

    def has(self, name: str) -> bool:  # noqa: ARG002 - whatever it is called
        return False


ALONE: Final = _Alone()
_ABSENT: Final = Segment("", 0, 0, [], Separators("|", "^", "~", "\\", "&"), "ascii")

Values = Callable[[Any], tuple[Repetition, ...]]
Text = Callable[[Any], str]
Test = Callable[[Any], bool]
"""These are given a View where the place is one of a segment, and a Repetition where it is one of a data type: rows of one map name either."""


def values_at(field: Field) -> Values:
    """Gives the repetitions at a place that say something, each cut down to the component that the place names."""
    name, number, component, sub = field
    if not number:
        return _part(component, sub) if component is not None else lambda value: (value,) if value.raw else ()
    if component is None:
        return lambda view: view[name].repetitions(number)
    return lambda view: tuple(each.part(component) for each in view[name].repetitions(number) if each.piece(component))


def _part(component: int, sub: int | None) -> Values:
    def values(value: Repetition) -> tuple[Repetition, ...]:
        text = value.piece(component)
        if not text or text.isspace():
            return ()
        part = value.part(component) if sub is None else value.part(component).part(sub)
        return (part,) if part.raw else ()

    return values


def text_at(field: Field) -> Text:
    """Gives the first text at a place, empty where there is none."""
    name, number, component, sub = field
    if not number:
        first = component or 1
        return lambda value: value.component(first) if sub is None else value.sub(first, sub)
    if component is None:
        return lambda view: view[name].first(number)

    def text(view: View) -> str:
        found = view[name].repetitions(number)
        if not found or found[0].is_null:
            return ""
        return found[0].component(component) if sub is None else found[0].sub(component, sub)

    return text


def is_field(text: str) -> bool:
    """Whether a text names a field of a segment, as `OBX-4` does."""
    return _FIELD.fullmatch(text) is not None


def parse_field(text: str, row: Row) -> Field:
    """The place that a cell names. Raises MappingFault."""
    of_value = row.kind == "datatype"
    if not of_value and (match := _FIELD.fullmatch(text)):
        return Field(match[1], int(match[2]), int(match[3]) if match[3] else None, int(match[4]) if match[4] else None)
    if of_value and (match := _COMPONENT.fullmatch(text)):
        return Field(match[1], 0, int(match[2]) if match[2] else None, int(match[3]) if match[3] else None)
    wanted = "component (as CX.4) and no data type (as CX, for all of it)" if of_value else "field (as OBX-5 or OBX-5.2)"
    raise MappingFault(f"'{text}' is no {wanted}", row)


def parse_choice(text: str, row: Row) -> tuple[Field, tuple[str, ...], str] | None:
    """A condition that begins with what a field has to be, as `OBX-2 in ST|TX and …`: the field, its values, and the rest; None for any other."""
    first, _, rest = text.partition(" and ")
    match = _CLAUSE.fullmatch(first.strip())
    if match is None or match[3] is None or match[2].startswith(("!=", "not in")):
        return None
    return parse_field(match[1], row), tuple(match[3].split("|")), rest


class Clause(NamedTuple):
    """A part of a condition, and the place that it asks about; None where it asks whether there are segments."""

    test: Test
    asks: Field | None


def parse_clauses(text: str, row: Row) -> tuple[Clause, ...]:
    """The clauses of a condition, all of which have to hold. Raises MappingFault."""
    return tuple(_clause(clause.strip(), row) for clause in text.split(" and ")) if text else ()


def together(tests: Sequence[Test]) -> Test | None:
    """The test that all tests pass; None for none."""
    if len(tests) <= 1:
        return next(iter(tests), None)
    first, second, *others = tests
    if not others:
        return lambda view: first(view) and second(view)
    return lambda view: first(view) and second(view) and all(test(view) for test in others)


def compared(text: str, row: Row) -> frozenset[Field]:
    """The places that a condition compares with words: they hold codes."""
    matches = [match for clause in text.split(" and ") if (match := _CLAUSE.fullmatch(clause.strip()))]
    return frozenset(parse_field(match[1], row) for match in matches if match[3] is not None)


def _clause(text: str, row: Row) -> Clause:
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise MappingFault(f"'{text}' is no condition, as 'OBX-2 = NM', 'OBX-2 in ST|TX', 'OBX-8 valued' and 'OBX-5 repeats' are", row)
    if match[2] in {"present", "absent"}:
        if row.kind == "datatype":
            raise MappingFault("there are no segments in a data type", row)
        name, wanted_there = match[1], match[2] == "present"
        return Clause(lambda view: view.has(name) is wanted_there, None)
    field = parse_field(match[1], row)
    if match[3] is None:
        return Clause(_counted(field, match[2]), field)
    said, wanted = text_at(field), frozenset(match[3].split("|"))
    if match[2].startswith(("!=", "not in")):
        return Clause(lambda view: said(view) not in wanted, field)
    return Clause(lambda view: said(view) in wanted, field)


def _counted(field: Field, word: str) -> Test:
    text, values, is_valued = text_at(field), values_at(field), _is_valued(field)
    tests: dict[str, Test] = {
        "valued": is_valued,
        "numeric": lambda view: _NUMERIC.fullmatch(text(view).strip()) is not None,
        "bounded": lambda view: _BOUNDED.fullmatch(text(view).strip()) is not None,
        "repeats": lambda view: len(values(view)) > 1,
        "single": lambda view: len(values(view)) <= 1,
    }
    test = tests[word.removeprefix("not ")]
    return (lambda view: not test(view)) if word.startswith("not ") else test


def _is_valued(field: Field) -> Test:
    """Whether there is a value, which two quotes are not."""
    values, component = values_at(field), field.component
    if not field.number and component is not None and field.sub is None:

        def is_valued_part(value: Repetition) -> bool:
            text = value.piece(component)
            return text not in {"", _NULL} and not text.isspace()

        return is_valued_part

    def is_valued(view: Any) -> bool:
        found = values(view)
        return bool(found) and (found[0].raw != _NULL or any(not each.is_null for each in found))

    return is_valued
