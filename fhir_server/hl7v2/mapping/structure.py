"""Which segments belong together: the groups of a message structure, filled in the order in which segments come.

Real messages leave segments out, repeat what does not repeat, and send what their structure does not have. So a segment goes where the structure has
room for it from where the last one went, upwards first; failing that, wherever its name fits; and what fits nowhere is kept beside its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.hl7v2.message import Segment

from .rows import MappingFault, Row

_REPEATS: Final = "*"


@dataclass(slots=True)
class Shape:
    """A group of a structure: the names of its segments and groups in their order, and which segments repeat. Groups always may."""

    name: str
    path: str
    parent: Shape | None
    members: list[str] = field(default_factory=list)
    groups: dict[str, Shape] = field(default_factory=dict)
    repeating: set[str] = field(default_factory=set)

    def place(self, member: str) -> int:
        """Where in the order a segment or group stands."""
        return self.members.index(member)

    def below(self, segment: str) -> list[Shape]:
        """The groups from here down to the one that has a segment; empty where none has. The nearest in the order comes first."""
        for member in self.members:
            group = self.groups.get(member)
            if group is None:
                continue
            if segment in group.members and segment not in group.groups:
                return [group]
            if found := group.below(segment):
                return [group, *found]
        return []


@dataclass(slots=True)
class Group:
    """One instance of a group in a message: its segments, the groups in it, and what was not foreseen."""

    shape: Shape
    parent: Group | None
    segments: list[Segment] = field(default_factory=list)
    inner: list[Group] = field(default_factory=list)
    order: list[Segment | Group] = field(default_factory=list)
    unforeseen: list[Segment] = field(default_factory=list)
    last: int = -1

    def nearest(self, name: str) -> Segment | None:
        """The last segment of a name in this group, or in those around it."""
        group: Group | None = self
        while group is not None:
            for segment in reversed(group.segments):
                if segment.name == name:
                    return segment
            group = group.parent
        return None

    def has(self, name: str) -> bool:
        """Whether a segment of a name is in this group, or in those in it."""
        return any(segment.name == name for segment in self.segments) or any(group.has(name) for group in self.inner)

    def walk(self) -> Iterator[tuple[Group, Segment]]:
        """All segments with the groups they are in, in the message's order."""
        for each in self.order:
            if isinstance(each, Segment):
                yield self, each
            else:
                yield from each.walk()


def parse_shape(rows: Sequence[Row]) -> Shape:
    """The structure that the `at` cells of a message's rows describe: `PATIENT.VISIT.PV1`, `OBSERVATION.NTE*` for what repeats."""
    root = Shape("", "", None)
    for row in rows:
        *groups, segment = row["at"].split(".")
        name = segment.removesuffix(_REPEATS)
        if len(name) != 3 or not name.isalnum() or not name.isupper():  # noqa: PLR2004 - of every segment
            raise MappingFault(f"'{row['at']}' is no place of a segment, as 'PATIENT.PID' and 'OBSERVATION.NTE*' are", row)
        here = root
        for group in groups:
            if group not in here.groups:
                here.groups[group] = Shape(group, f"{here.path}.{group}".lstrip("."), here)
                here.members.append(group)
            here = here.groups[group]
        if name not in here.members:
            here.members.append(name)
        if segment.endswith(_REPEATS):
            here.repeating.add(name)
    return root


def arrange(shape: Shape, segments: Sequence[Segment]) -> Group:
    """The segments of a message in their groups. Every one is in exactly one place."""
    root = Group(shape, None)
    here = root
    for segment in segments:
        found = _find(here, segment.name, strict=True) or _find(here, segment.name, strict=False)
        if found is None:
            here.unforeseen.append(segment)
            continue
        at, opened = found
        for deeper in opened:
            group = Group(deeper, at)
            at.inner.append(group)
            at.order.append(group)
            at.last = at.shape.place(deeper.name)
            at = group
        at.segments.append(segment)
        at.order.append(segment)
        at.last = max(at.last, at.shape.place(segment.name))
        here = at
    return root


def _find(here: Group, name: str, *, strict: bool) -> tuple[Group, list[Shape]] | None:
    """The group to go on in, and those to open in it; `strict` keeps the order of the structure."""
    group: Group | None = here
    while group is not None:
        shape = group.shape
        if name in shape.members and name not in shape.groups:
            taken = name not in shape.repeating and any(each.name == name for each in group.segments)
            if not taken and (not strict or shape.place(name) >= group.last):
                return group, []
            if group.parent is not None and strict and (taken or name == shape.members[0]):
                return group.parent, [shape]
        opened = shape.below(name)
        if opened and _may_open(group, opened, name) and (not strict or shape.place(opened[0].name) >= group.last):
            return group, opened
        group = group.parent
    return None


def _may_open(group: Group, opened: Sequence[Shape], name: str) -> bool:
    """A group's first segment opens another one; any other opens only the first, whose own are not there."""
    return all(shape.members[0] in {name, *shape.groups} for shape in opened) or all(each.shape is not opened[0] for each in group.inner)


def unforeseen(group: Group) -> Iterator[Segment]:
    """The segments that the structure has no place for."""
    yield from group.unforeseen
    for inner in group.inner:
        yield from unforeseen(inner)
