"""Which segments belong together: the groups of a message structure, filled in the order in which segments come.

Real messages leave segments out, repeat what does not repeat, and send what their structure does not have. So a segment goes where the structure has
room for it from where the last one went, upwards first; failing that, wherever its name fits, in groups that others have followed at last; and what
fits nowhere is kept beside its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.hl7v2.text.message import Segment

from .made import Made
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
    places: dict[str, int] = field(default_factory=dict)
    """Where in the order a segment or group stands."""
    below: dict[str, tuple[Shape, ...]] = field(default_factory=dict)
    """By segment the groups from here down to the one that has it; the nearest in the order where there are several."""
    leads: set[str] = field(default_factory=set)
    """Segments of `below` that all groups on the way to them begin with."""

    def index(self) -> None:
        """Works out what `arrange` looks up, once all members are there."""
        self.places = {member: place for place, member in enumerate(self.members)}
        for group in sorted(self.groups.values(), key=lambda each: self.places[each.name]):
            group.index()
            ways: dict[str, tuple[Shape, ...]] = {segment: (group,) for segment in group.members if segment not in group.groups}
            ways |= {segment: (group, *way) for segment, way in group.below.items() if segment not in ways}
            self.below |= {segment: way for segment, way in ways.items() if segment not in self.below}
        self.leads = {segment for segment, way in self.below.items() if all(shape.members[0] in {segment, *shape.groups} for shape in way)}


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
    latest: dict[str, Segment] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    """Of the segments in this group, and of those in the groups in it."""
    opened: set[str] = field(default_factory=set)
    """The names of the groups in it."""
    made: dict[str, Made] = field(default_factory=dict)
    """What its segments have become, by label the last one."""
    below: dict[str, dict[str, Made]] = field(default_factory=dict)
    """The same of the groups in it: by label, and by the name of the group straight in this one."""

    def fall_apart(self) -> None:
        """Forgets the groups in it, and they what is in them, once nobody needs them any more."""
        for inner in self.inner:
            inner.fall_apart()
            inner.parent = None
        self.inner.clear()
        self.order.clear()

    def open(self, shape: Shape) -> Group:
        """Another group in this one."""
        group = Group(shape, self)
        self.inner.append(group)
        self.order.append(group)
        self.opened.add(shape.name)
        self.last = self.shape.places[shape.name]
        return group

    def take(self, segment: Segment) -> None:
        """Takes a segment of the structure as the last one so far."""
        name = segment.name
        self.segments.append(segment)
        self.order.append(segment)
        self.latest[name] = segment
        self.last = max(self.last, self.shape.places[name])
        around: Group | None = self
        while around is not None and name not in around.names:
            around.names.add(name)
            around = around.parent

    def nearest(self, name: str) -> Segment | None:
        """The last segment of a name in this group, or in those around it."""
        group: Group | None = self
        while group is not None:
            if name in group.latest:
                return group.latest[name]
            group = group.parent
        return None

    def has(self, name: str) -> bool:
        """Whether a segment of a name is in this group, or in those in it."""
        return name in self.names

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
    root.index()
    return root


def arrange(shape: Shape, segments: Sequence[Segment]) -> Group:
    """The segments of a message in their groups. Every one is in exactly one place."""
    root = Group(shape, None)
    here = before = root
    for segment in segments:
        name = segment.name
        found = _find(here, name, strict=True)
        if found is None:
            # What stands too late, as TQ1 behind OBR, is no reason to leave the group that the ones after it go on with.
            found = _find(here, name, strict=False) or _find(before, name, strict=True) or _find(before, name, strict=False) or _into(here, name)
            if found is None:
                here.unforeseen.append(segment)
                continue
            before = here
        at, opened = found
        for deeper in opened:
            at = at.open(deeper)
        at.take(segment)
        here = at
    return root


def _find(here: Group, name: str, *, strict: bool) -> tuple[Group, Sequence[Shape]] | None:
    """The group to go on in, and those to open in it; `strict` keeps the order of the structure."""
    group: Group | None = here
    while group is not None:
        shape = group.shape
        if name in shape.places and name not in shape.groups:
            taken = name not in shape.repeating and name in group.latest
            if not taken and (not strict or shape.places[name] >= group.last):
                return group, ()
            if group.parent is not None and strict and (taken or name == shape.members[0]):
                return group.parent, (shape,)
        opened = shape.below.get(name)
        # A group's first segment opens another one; any other opens only the first, whose own are not there.
        if opened and (name in shape.leads or opened[0].name not in group.opened) and (not strict or shape.places[opened[0].name] >= group.last):
            return group, opened
        group = group.parent
    return None


def _into(here: Group, name: str) -> tuple[Group, Sequence[Shape]] | None:
    """The last group that has a place for a segment which comes after others have begun, as PV1 behind ORC, and those to open in it."""
    group: Group | None = here
    while group is not None:
        at, way = group, group.shape.below.get(name, ())
        while way and way[0].name in at.opened:
            at, way = next(inner for inner in reversed(at.inner) if inner.shape is way[0]), way[1:]
        if at is not group and (way or name in at.shape.repeating or name not in at.latest):
            return at, way
        group = group.parent
    return None


def unforeseen(group: Group) -> Iterator[Segment]:
    """The segments that the structure has no place for."""
    yield from group.unforeseen
    for inner in group.inner:
        yield from unforeseen(inner)
