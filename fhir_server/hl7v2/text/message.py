"""One HL7 v2 message as it came: separators, segments, fields, repetitions, components and subcomponents, nothing lost and nothing guessed.

https://www.hl7.eu/refactored/ch02.html (chapter 2: control)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from .charset import decode
from .escapes import undo
from .separators import Separators, separators_of
from .unreadable import Unreadable

LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a message, on whatever way it comes or goes."""
_HEADERS: Final = frozenset({"MSH"})
_NULL: Final = '""'
_MOST: Final = 100_000
"""Segments of a message, and repetitions in all of its fields: a million of the shortest would take 500 MB."""


@dataclass(slots=True)
class Repetition:
    """One repetition of a field, or a component of one. `separator` is what stands between its components."""

    raw: str
    separator: str
    _separators: Separators
    _codec: str
    _components: list[str] | None = None

    @property
    def components(self) -> list[str]:
        """Its components as they stand."""
        components = self._components
        if components is None:
            components = self._components = self.raw.split(self.separator)
        return components

    def piece(self, number: int) -> str:
        """A component as it stands, counted from 1; empty where it is absent."""
        components = self._components
        if components is None:
            components = self._components = self.raw.split(self.separator)
        return components[number - 1] if number <= len(components) else ""

    def component(self, number: int) -> str:
        """The first subcomponent of a component, counted from 1, its escapes undone; empty where it is absent."""
        text = self.piece(number)
        separators = self._separators
        if separators.subcomponent in text:
            text = text.partition(separators.subcomponent)[0]
        return undo(text, separators, self._codec) if separators.escape in text else text

    def whole(self, number: int) -> str:
        """A component as one text, what separates its subcomponents included: senders leave `&` in names as it is."""
        text = self.piece(number)
        return undo(text, self._separators, self._codec) if self._separators.escape in text else text

    def sub(self, number: int, part: int) -> str:
        """A subcomponent of a component, both counted from 1, its escapes undone; empty where it is absent."""
        parts = self.piece(number).split(self._separators.subcomponent)
        return undo(parts[part - 1], self._separators, self._codec) if part <= len(parts) else ""

    def part(self, number: int) -> Repetition:
        """A component as if it were a field of its own, with its subcomponents as components."""
        # Its escapes still mean the separators of the message: that of components stays one.
        return Repetition(self.piece(number), self._separators.subcomponent, self._separators, self._codec)

    @property
    def is_null(self) -> bool:
        """Whether it says by two quotes that there is no value, which is more than to say nothing."""
        return self.raw == _NULL

    @property
    def text(self) -> str:
        """All of it with its escapes undone, separators included: for text that was not meant to have components."""
        return undo(self.raw, self._separators, self._codec)


@dataclass(slots=True)
class Segment:
    """One segment.

    `fields` are the texts as they stand, at the places that the standard counts from 1; `number` is the place among all segments of the message,
    `sequence` that among those of the same name, both from 1.
    """

    name: str
    number: int
    sequence: int
    fields: list[str]
    separators: Separators
    codec: str
    _parsed: dict[int, tuple[Repetition, ...]] = field(default_factory=dict, repr=False, compare=False)
    _firsts: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def repetitions(self, number: int) -> tuple[Repetition, ...]:
        """The repetitions of a field that say something, two quotes included; empty and blank ones between them are left out."""
        found = self._parsed.get(number)
        if found is None:
            found = self._parsed[number] = self._parse(number)
        return found

    def _parse(self, number: int) -> tuple[Repetition, ...]:
        text = self.fields[number] if number < len(self.fields) else ""
        if not text or text.isspace():
            return ()
        separators, codec = self.separators, self.codec
        if separators.repetition not in text or self._is_header_field(number):
            return (Repetition(text, separators.component, separators, codec),)
        texts = text.split(separators.repetition)
        return tuple(Repetition(each, separators.component, separators, codec) for each in texts if each and not each.isspace())

    def get(self, number: int) -> str:
        """The first component of the first repetition of a field, decoded; empty where it is absent."""
        text = self.fields[number] if number < len(self.fields) else ""
        if text.isalnum():
            # Most say one thing, without any separator.
            return text
        found = self.repetitions(number)
        return found[0].component(1) if found else ""

    def first(self, number: int) -> str:
        """The same, and empty too where the field says that there is no value; remembered."""
        found = self._firsts.get(number)
        if found is None:
            found = self.get(number)
            found = self._firsts[number] = "" if found == _NULL else found
        return found

    @property
    def raw(self) -> str:
        """The segment as it stands in the message."""
        if self.name in _HEADERS:
            return self.name + self.separators.field + self.separators.field.join(self.fields[2:])
        return self.separators.field.join(self.fields)

    def _is_header_field(self, number: int) -> bool:
        # MSH-1 and MSH-2 are the separators themselves.
        return self.name in _HEADERS and number <= 2  # noqa: PLR2004 - fields of the standard


@dataclass(frozen=True, slots=True)
class Header:
    """What MSH says: of each field the first component, decoded; empty where it is absent."""

    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    time: str
    type: str
    event: str
    structure: str
    control_id: str
    processing: str
    version: str
    accept_ack: str
    application_ack: str
    charset: str
    language: str


@dataclass(frozen=True)
class Message:
    """A message that could be read. `codec` is the Python name of its character set, `text` what its bytes say."""

    raw: bytes
    text: str
    codec: str
    separators: Separators
    segments: tuple[Segment, ...]

    @cached_property
    def header(self) -> Header:
        """What its first segment says."""
        msh = self.segments[0]
        kind = msh.repetitions(9)
        type_, event, structure = (kind[0].component(number) if kind else "" for number in (1, 2, 3))
        before = (msh.get(3), msh.get(4), msh.get(5), msh.get(6), msh.get(7))
        return Header(*before, type_, event, structure, *map(msh.get, (10, 11, 12, 15, 16, 18, 19)))

    def all(self, name: str) -> list[Segment]:
        """The segments of a name, in their order."""
        return [segment for segment in self.segments if segment.name == name]


def read(raw: bytes) -> Message:
    """The message in some bytes: segments end with CR, LF or both. Costs about 1 µs a segment and what is read of it.

    Raises Unreadable where there is no MSH with separators at the start, the bytes are not of the character set that MSH-18 names, or there are more
    than 100,000 segments or repetitions.
    """
    text, codec = decode(raw)
    body = text.lstrip("\r\n\0 \ufeff").rstrip("\r\n\0")
    if not body.startswith("MSH"):
        raise Unreadable("The message does not begin with MSH")
    lines = [line for line in body.replace("\r\n", "\r").replace("\n", "\r").split("\r") if line.strip()]
    separators = separators_of(lines[0])
    if len(lines) > _MOST or body.count(separators.repetition) > _MOST:
        raise Unreadable(f"The message has more than {_MOST} segments or repetitions", code="104")
    counts: dict[str, int] = {}
    segments: list[Segment] = []
    for number, line in enumerate(lines, 1):
        fields = line.split(separators.field)
        name = fields[0].strip()
        if name == "MSH":
            if number > 1:
                raise Unreadable("A second MSH follows in the same message")
            # MSH-1 is the separator itself, which the split has taken away.
            fields.insert(1, separators.field)
        counts[name] = counts.get(name, 0) + 1
        segments.append(Segment(name, number, counts[name], fields, separators, codec))
    return Message(raw, text, codec, separators, tuple(segments))
