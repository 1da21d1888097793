"""What the standard of a message's version asks of it: segments, fields and the way that data types are written.

The facts are hl7apy's (MIT), which has them of 2.1 to 2.8.2 as Python data. They are brought into plain look-ups once for each version, structure
and segment that comes. https://www.hl7.eu/refactored/msg.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import hl7apy

from .escapes import undo
from .faults import Fault, Severity
from .formats import FORMATS, Format
from .message import Message, Repetition, Segment
from .versions import nearest

_MOST: Final = 50
"""Faults that are told of one message, and repetitions that are looked at of one field."""

_ESSENTIAL_SEGMENTS: Final = frozenset({"PID", "MRG", "OBR", "SCH", "TXA", "FT1"})
"""Without these, where the structure wants them, nobody can say what the message is about."""

_ESSENTIAL_FIELDS: Final = frozenset({("MRG", 1), ("OBR", 4), ("OBX", 3), ("RXA", 5), ("FT1", 7)})
"""What was ordered, measured, given, charged or merged."""

_SAME: Final[dict[str, tuple[str, ...]]] = {
    "ADT_A01": ("ADT_A04", "ADT_A08", "ADT_A13"),
    "ADT_A05": ("ADT_A14", "ADT_A28", "ADT_A31"),
    "ADT_A06": ("ADT_A07",),
    "ADT_A09": ("ADT_A10", "ADT_A11"),
    "ADT_A21": ("ADT_A22", "ADT_A23", "ADT_A25", "ADT_A26", "ADT_A27", "ADT_A29", "ADT_A32", "ADT_A33"),
    "ADT_A30": ("ADT_A34", "ADT_A35", "ADT_A36", "ADT_A46", "ADT_A47", "ADT_A48", "ADT_A49"),
    "ADT_A39": ("ADT_A40", "ADT_A41", "ADT_A42"),
    "ADT_A43": ("ADT_A44",),
    "ADT_A50": ("ADT_A51",),
    "ADT_A54": ("ADT_A55",),
    "ADT_A61": ("ADT_A62",),
    "MDM_T01": ("MDM_T03", "MDM_T05", "MDM_T07", "MDM_T09", "MDM_T11"),
    "MDM_T02": ("MDM_T04", "MDM_T06", "MDM_T08", "MDM_T10"),
    "ORU_R30": ("ORU_R31", "ORU_R32"),
    "RDE_O11": ("RDE_O25",),
    "PPR_PC1": ("PPR_PC2", "PPR_PC3"),
    "REF_I12": ("REF_I13", "REF_I14", "REF_I15"),
    "SIU_S12": tuple(f"SIU_S{number}" for number in (*range(13, 25), 26, 27)),
}
"""Structures and the events that have them; which were given one of their own in early versions is seen by what the version knows."""

_STRUCTURES: Final = {event: structure for structure, events in _SAME.items() for event in events}
_BEFORE_STRUCTURES: Final = {"ADT_A28": "ADT_A01", "ADT_A31": "ADT_A01", "ADT_A05": "ADT_A01", "ADT_A14": "ADT_A01"}
"""What 2.3 and 2.3.1 use where later versions have ADT_A05."""

_ALONE: Final = {"DFT": "DFT_P03", "ORM": "ORM_O01", "ORU": "ORU_R01", "VXU": "VXU_V04"}
"""The structures of types that old senders write without an event."""

_CONDITIONAL: Final = frozenset({("OBX", 4)})
"""Fields that hl7apy takes for required in some version, where the standard has a condition."""

_NAME: Final = re.compile("[A-Z][A-Z0-9]{2}")
_CODE: Final = 8
_LETTERS: Final = 3
_NULL: Final = '""'
_VALUE_TYPE, _VALUE = 2, 5
_NUMBERS_OF_SN: Final = (2, 4)


@dataclass(frozen=True, slots=True)
class Structure:
    """A message structure: the segments that it knows, those that it always needs, and for a segment those that have to stand before it."""

    name: str
    known: frozenset[str]
    required: tuple[str, ...]
    before: dict[str, frozenset[str]]


class _Field(NamedTuple):
    """What is checked of a field: the format of a primitive one, or those of components, with the number of a subcomponent or 0 for all of it.

    `first` is the first of the components; nothing of a field that has only one has to be looked at where that is a later one.
    """

    number: int
    format: Format | None
    type: str
    first: int
    components: tuple[tuple[int, int, str, Format], ...]


@dataclass(frozen=True, slots=True)
class _Rules:
    required: tuple[int, ...]
    fields: tuple[_Field, ...]


def check(message: Message) -> list[Fault]:
    """What a message breaks of the standard, in the order of its segments, 50 faults at most. Costs 6 to 9 µs a segment.

    E, for which it is refused, is said only where something is missing that it is about; of the rest, which real senders break daily, W.
    A version that is not known is read as the last before it, a structure by MSH-9.1 and 9.2 before 9.3; segments beginning with Z are free.
    """
    version = nearest(message.header.version)
    structure = _structure(version, structure_of(message))
    faults = list(_order(message, structure)) if structure else []
    types = _types(version)
    for segment in message.segments:
        if len(faults) >= _MOST:
            break
        rules = _rules(version, segment.name) if len(segment.name) == _LETTERS else None
        if rules is not None:
            faults += _segment(segment, rules)
            if segment.name == "OBX":
                faults += _value(segment, types)
    return faults[:_MOST]


def structure_of(message: Message) -> str:
    """The name of the structure of a message in its version, as ADT_A01 for ADT^A04; empty where the version knows none for it."""
    header = message.header
    # Cut to what a code may have, as a cache is asked.
    return _named(nearest(header.version), header.type[:_CODE], header.event[:_CODE], header.structure[:_CODE])


@lru_cache(maxsize=1024)
def _named(version: str, kind: str, event: str, structure: str) -> str:
    messages = hl7apy.load_library(version).MESSAGES
    own = f"{kind}_{event}"
    # In versions that know the event by itself, it may differ from the structure that later ones share.
    for name in (own, _STRUCTURES.get(own, ""), _BEFORE_STRUCTURES.get(own, ""), structure, kind if event else _ALONE.get(kind, kind)):
        if name in messages:
            return name
    return ""


@lru_cache(maxsize=256)
def _structure(version: str, name: str) -> Structure | None:
    """The look-ups of a structure; some 50 ms when it is the first of its version, as hl7apy's data is loaded, and 0.1 ms else."""
    if not name:
        return None
    root = hl7apy.load_library(version).MESSAGES[name]
    before: dict[str, frozenset[str]] = {}
    required: list[str] = []
    _walk(root, frozenset(), before, required, needed=True)
    return Structure(name, frozenset(before), tuple(dict.fromkeys(required)), before)


def _walk(group: Any, passed: frozenset[str], before: dict[str, frozenset[str]], required: list[str], *, needed: bool) -> frozenset[str]:
    """Collects a group's segments; `passed` are those that have to have come by then. What must have come at its end, if the group comes."""
    names = {child[0] for child in group[1]}
    # 2.1 lists the details of an order as if all had to be there.
    choice = group[0] == "choice" or {"OBR", "RX1"} <= names
    here = passed
    for name, child, (least, _), kind in group[1]:
        must = least > 0 and not choice
        if kind == "GRP":
            inside = _walk(child, here, before, required, needed=needed and must)
            here |= inside if must else frozenset()
            continue
        before[name] = before.get(name, here) & here
        if must:
            here |= {name}
            if needed:
                required.append(name)
    return here


@lru_cache(maxsize=4096)
def _rules(version: str, name: str) -> _Rules | None:
    """What a version asks of a segment's fields; None for segments that it does not know."""
    segment = hl7apy.load_library(version).SEGMENTS.get(name)
    if segment is None:
        return None
    numbered = [(int(field[0].rpartition("_")[2]), field) for field in segment[1]]
    # MSH-1 and MSH-2 are the separators: without them there is no message.
    first = 3 if name == "MSH" else 1
    required = tuple(number for number, field in numbered if number >= first and field[2][0] > 0 and (name, number) not in _CONDITIONAL)
    found = (_field(number, field[1]) for number, field in numbered)
    return _Rules(required, tuple(each for each in found if each))


def _field(number: int, reference: Any) -> _Field | None:
    if reference[2] in FORMATS:
        # A TS of early versions has a second component, for its precision.
        return _Field(number, FORMATS[reference[2]], reference[2], 0, ())
    if reference[0] != "sequence":
        return None
    components: list[tuple[int, int, str, Format]] = []
    for place, (_, component, *_) in enumerate(reference[1], 1):
        if component[2] in FORMATS:
            components.append((place, 0, component[2], FORMATS[component[2]]))
        elif component[0] == "sequence":
            parts = ((part, each[1][2]) for part, each in enumerate(component[1], 1))
            components += [(place, part, kind, FORMATS[kind]) for part, kind in parts if kind in FORMATS]
    return _Field(number, None, reference[2], components[0][0], tuple(components)) if components else None


@lru_cache(maxsize=16)
def _types(version: str) -> frozenset[str]:
    library = hl7apy.load_library(version)
    return frozenset(library.DATATYPES_STRUCTS) | frozenset(library.BASE_DATATYPES) | {"CE", "CWE", "CNE", "DTM", "TS"}


def _order(message: Message, structure: Structure) -> Iterator[Fault]:
    present = {segment.name for segment in message.segments}
    for name in structure.required:
        if name not in present:
            yield Fault("100", f"{structure.name} needs {_an(name)}", name, severity="E" if name in _ESSENTIAL_SEGMENTS else "W")
    seen: set[str] = set()
    for segment in message.segments:
        name = segment.name
        if name in seen:
            continue
        if name not in structure.known:
            if not _NAME.fullmatch(name):
                yield Fault("100", f"Line {segment.number} is no segment", severity="W")
            elif name[0] != "Z":
                yield Fault("100", f"{structure.name} has no {name}", name, segment.sequence, severity="W")
        else:
            # What is missing throughout has been told above, or its group is not there at all.
            for missing in sorted(structure.before[name] - seen):
                if missing in present or missing not in structure.required:
                    severe = missing in _ESSENTIAL_SEGMENTS and missing not in present
                    yield Fault("100", f"{_an(missing)} has to stand before {name}", name, segment.sequence, severity="E" if severe else "W")
        seen.add(name)


def _an(name: str) -> str:
    return f"{'an' if name[0] in 'AEFHILMNORSX' else 'a'} {name}"


def _segment(segment: Segment, rules: _Rules) -> Iterator[Fault]:
    fields = segment.fields
    count = len(fields)
    name = segment.name
    for number in rules.required:
        if number >= count or not fields[number]:
            severity: Severity = "E" if (name, number) in _ESSENTIAL_FIELDS else "W"
            yield Fault("101", f"{name}-{number} is missing", name, segment.sequence, number, severity=severity)
    separator = segment.separators.component
    for number, written, kind, first, components in rules.fields:
        if number >= count:
            break
        text = fields[number]
        if not text:
            continue
        if written is not None:
            if not written(text):
                yield from _primitive(segment, number, kind, written)
        elif first == 1 or separator in text:
            yield from _composite(segment, number, components)


def _composite(segment: Segment, field: int, components: tuple[tuple[int, int, str, Format], ...]) -> Iterator[Fault]:
    separators = segment.separators
    for place, whole in enumerate(_repeated(segment, field), 1):
        parts = whole.split(separators.component)
        count = len(parts)
        for number, part, kind, written in components:
            if number > count:
                break
            said = parts[number - 1]
            if said and part:
                said = _subcomponent(said, part, separators.subcomponent)
            if said and said != _NULL and not written(said) and said.strip() and not written(undo(said, separators, segment.codec).strip()):
                yield _unlike(segment, field, place, number, kind)


def _repeated(segment: Segment, field: int) -> list[str]:
    return segment.fields[field].split(segment.separators.repetition, _MOST)[:_MOST]


def _subcomponent(text: str, number: int, separator: str) -> str:
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""


def _primitive(segment: Segment, number: int, kind: str, written: Format) -> Iterator[Fault]:
    """The repetitions of a primitive field that are not written as its type is; what follows a first component is not its own."""
    separators = segment.separators
    for place, whole in enumerate(_repeated(segment, number), 1):
        first = whole.partition(separators.component)[0]
        if first.strip() and whole != _NULL and not written(undo(first, separators, segment.codec).strip()):
            yield _unlike(segment, number, place, None, kind)


def _unlike(segment: Segment, field: int, repetition: int, component: int | None, kind: str) -> Fault:
    return Fault("102", f"Not written as {kind} is", segment.name, segment.sequence, field, repetition, component, "W")


def _value(segment: Segment, types: frozenset[str]) -> Iterator[Fault]:
    """OBX-5 by the type that OBX-2 says it has."""
    fields = segment.fields
    text = fields[_VALUE] if len(fields) > _VALUE else ""
    if not text:
        return
    kind = fields[_VALUE_TYPE].strip().upper()
    if not kind:
        yield Fault("101", "OBX-2 is missing, though there is a value", "OBX", segment.sequence, _VALUE_TYPE, severity="W")
    elif kind not in types:
        yield Fault("103", "OBX-2 is no data type of this version", "OBX", segment.sequence, _VALUE_TYPE, severity="W")
    elif kind == "SN":
        for place, value in enumerate(segment.repetitions(_VALUE)[:_MOST], 1):
            if not _structured(value):
                yield _unlike(segment, _VALUE, place, None, kind)
    elif kind in FORMATS and not FORMATS[kind](text):
        yield from _primitive(segment, _VALUE, kind, FORMATS[kind])


def _structured(value: Repetition) -> bool:
    return all(not text or FORMATS["NM"](text) for text in map(value.component, _NUMBERS_OF_SN))
