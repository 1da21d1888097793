"""From a message to the resources that it describes, still without ids of the record: references between them are `urn:hl7v2:n`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.hl7v2.faults import Fault
from fhir_server.hl7v2.message import Message, Segment
from fhir_server.spec import Spec

from .compiler import Compiler, Map
from .context import Context
from .fields import Field, SegmentView, View, parse_condition, parse_field
from .paths import Json, Path, Places, parse_path
from .rows import MappingFault, Row, load
from .structure import Group, Shape, arrange, parse_shape, unforeseen
from .tables import Table

FOLDER: Final = File(__file__).parents[3] / "mappings"
STRUCTURES: Final = "message-structure"
BY_IDENTIFIER: Final = frozenset({"identifier", "identifier new", "identifier known"})
"""Keys of resources that are searched by their identifiers: made or changed; made, but never changed; changed, but never made."""
MENTIONED: Final = "identifier new"
_LABEL: Final = re.compile(r"(?:([A-Za-z]+):)?([A-Z][A-Za-z]+)(\*?)(?:\.([A-Za-z.]+))?")
_LINK: Final = re.compile(r"(?:([A-Z][A-Za-z]*)\.)?([a-z][A-Za-z.\[\]]*)=([A-Z][A-Za-z]*)")


@dataclass(slots=True)
class Made:
    """A resource that came of a message.

    `label` is what the message's map calls it. `key` tells how it is recognised: one of BY_IDENTIFIER, or the texts that make it the one it is.
    `nulls` are elements that are said to have no value.
    """

    number: int
    label: str
    type: str
    resource: Json
    key: tuple[str, ...] | str = ()
    nulls: set[str] = field(default_factory=set)
    places: Places = field(default_factory=Places)

    @property
    def urn(self) -> str:
        """What others refer to it by."""
        return f"urn:hl7v2:{self.number}"


@dataclass(frozen=True, slots=True)
class Converted:
    """What a message became: resources in the order of their making, faults, and the segments that were not taken over."""

    structure: str
    made: list[Made]
    faults: list[Fault]
    unhandled: list[Segment]


@dataclass(frozen=True, slots=True)
class _Link:
    source: str | None
    path: Path
    target: str


@dataclass(frozen=True, slots=True)
class _Rule:
    """A row of a message's map: what a segment at a place makes, or adds to."""

    test: Any
    label: str
    type: str
    each: bool
    below: Path | None
    map: Map
    links: tuple[_Link, ...]
    key: tuple[tuple[Field, ...], ...] | str


@dataclass(frozen=True, slots=True)
class _Structure:
    shape: Shape
    rules: Mapping[tuple[str, str], list[_Rule]]


class Converter:
    """The maps of one server. Safe to share between threads."""

    def __init__(self, spec: Spec, site: File | None = None, folder: File = FOLDER) -> None:
        """Reads and checks all files; those in `site` replace rows of ours. Raises MappingFault with the file and line. Takes about 0.1 s."""
        self._spec = spec
        self._tables = {name: Table(name, rows) for name, rows in load("table", folder, site).items()}
        compiler = Compiler(spec, self._tables)
        compiler.add(load("datatype", folder, site))
        compiler.add(load("segment", folder, site))
        self._maps = compiler.maps
        self._structures = {name: self._structure(rows) for name, rows in load("message", folder, site).items()}
        for event, target in self._tables[STRUCTURES].targets.items():
            if target.code not in self._structures:
                raise MappingFault(f"{event} is said to be a {target.code}, and there is no such file", file=f"table/{STRUCTURES}.csv")

    def structure_of(self, message: Message) -> str | None:
        """The structure that the map of a message is filed under; None for an event that is not taken."""
        header = message.header
        found = self._tables[STRUCTURES].find(f"{header.type}^{header.event}")
        return found.code if found is not None else None

    def convert(self, message: Message, zone: ZoneInfo) -> Converted:
        """The resources of a message whose structure is known. Costs 20 to 40 µs a segment."""
        structure = self.structure_of(message)
        if structure is None:
            raise ValueError("the event is not taken")
        return _Conversion(self._structures[structure], message, zone).run(structure)

    def _structure(self, rows: Sequence[Row]) -> _Structure:
        rules: dict[tuple[str, str], list[_Rule]] = {}
        shape = parse_shape(rows)
        types: dict[str, str] = {}
        for row in rows:
            group, _, segment = row["at"].rpartition(".")
            found = rules.setdefault((group, segment.removesuffix("*")), [])
            if row["resource"]:
                found.append(self._rule(row, types))
        return _Structure(shape, rules)

    def _rule(self, row: Row, types: dict[str, str]) -> _Rule:
        match = _LABEL.fullmatch(row["resource"])
        made = self._maps.get(row["map"])
        if match is None:
            raise MappingFault(f"'{row['resource']}' is no resource, as 'Patient', 'Mother:RelatedPerson*' and 'Observation.note' are", row)
        if made is None:
            raise MappingFault(f"there is no map '{row['map']}'", row)
        name, type_, each, below = match.groups()
        label = name or type_
        type_ = types.setdefault(label, type_)
        path = parse_path(below, type_, self._spec, row) if below else None
        if (path.type if path is not None else type_) != made.type:
            raise MappingFault(f"'{row['map']}' makes a {made.type}", row)
        links = tuple(self._link(part.strip(), type_, types, row) for part in row["link"].split(";") if part.strip())
        key = (
            row["key"]
            if row["key"] in BY_IDENTIFIER
            else tuple(tuple(parse_field(each, row) for each in part.split("|")) for part in row["key"].split())
        )
        return _Rule(parse_condition(row["if"], row), label, type_, bool(each), path, made, links, key)

    def _link(self, text: str, type_: str, types: Mapping[str, str], row: Row) -> _Link:
        match = _LINK.fullmatch(text)
        if match is None:
            raise MappingFault(f"'{text}' is no link, as 'subject=Patient' and 'DiagnosticReport.result=Observation' are", row)
        source, path, target = match.groups()
        if source is not None and source not in types:
            raise MappingFault(f"there is no {source} before this row", row)
        return _Link(source, parse_path(path, types[source] if source is not None else type_, self._spec, row), target)


class _Conversion:
    """One message on its way."""

    def __init__(self, structure: _Structure, message: Message, zone: ZoneInfo) -> None:
        self._structure = structure
        self._message = message
        self._context = Context(message.header, message.header.sending_facility or message.header.sending_application, zone, self._make)
        self._made: list[Made] = []
        self._by_content: dict[str, Made] = {}
        self._labelled: dict[tuple[int, str], Made] = {}
        self._links: list[tuple[Group, Made, _Link]] = []

    def run(self, structure: str) -> Converted:
        root = arrange(self._structure.shape, self._message.segments)
        unhandled = list(unforeseen(root))
        for group, segment in root.walk():
            rules = self._structure.rules.get((group.shape.path, segment.name), [])
            applied = [rule for rule in rules if self._apply(rule, group, segment)]
            # The header is what all of them go by.
            if not applied and segment.name != "MSH":
                unhandled.append(segment)
        for group, made, link in self._links:
            self._connect(group, made, link)
        return Converted(structure, [made for made in self._made if len(made.resource) > 1], self._context.faults, unhandled)

    def _apply(self, rule: _Rule, group: Group, segment: Segment) -> bool:
        view = SegmentView(segment, group.nearest)
        if rule.test is not None and not rule.test(view):
            return False
        made = self._labelled.get((id(group), rule.label)) if rule.below is None else self._find(group, rule.label)
        if made is None or (rule.each and rule.below is None):
            made = self._new({"resourceType": rule.type}, rule.label)
            self._labelled[id(group), rule.label] = made
        if rule.key and not made.key:
            made.key = rule.key if isinstance(rule.key, str) else _texts(rule.key, view)
        self._context.segment, self._context.field = segment, None
        self._context.nulls = made.nulls
        if rule.below is None:
            rule.map.apply(segment, view, made.resource, made.places, self._context)
        else:
            part: Json = {}
            rule.map.apply(segment, view, part, Places(), self._context)
            if part and not (rule.below.type == "Annotation" and _continues(made.resource, rule.below, part)):
                _add(made.resource, rule.below, part)
        self._links += [(group, made, link) for link in rule.links]
        return True

    def _find(self, group: Group | None, label: str) -> Made | None:
        """The resource of a label that was made last in this group, in those in it, or around it; never that of another repetition."""
        came_from: Shape | None = None
        while group is not None:
            found = self._within(group, label, came_from)
            if found is not None:
                return found
            came_from, group = group.shape, group.parent
        return None

    def _within(self, group: Group, label: str, without: Shape | None) -> Made | None:
        found = self._labelled.get((id(group), label))
        if found is not None:
            return found
        for inner in reversed(group.inner):
            if inner.shape is not without and (found := self._within(inner, label, None)) is not None:
                return found
        return None

    def _connect(self, group: Group, made: Made, link: _Link) -> None:
        source = made if link.source is None else self._find(group, link.source)
        target = made if link.target == made.label else self._find(group, link.target)
        if source is not None and target is not None and len(target.resource) > 1:
            _add(source.resource, link.path, {"reference": target.urn})

    def _new(self, resource: Json, label: str) -> Made:
        made = Made(len(self._made), label, resource["resourceType"], resource)
        self._made.append(made)
        return made

    def _make(self, resource: Json) -> Json:
        """A reference to what a value describes: to a resource that is known by its identifier, else by its name alone."""
        display = _display(resource)
        if not any(each.get("value") for each in resource.get("identifier", ())):
            return {"display": display} if display else {}
        content = repr(resource)
        made = self._by_content.get(content)
        if made is None:
            made = self._by_content[content] = self._new(resource, resource["resourceType"])
            made.key = MENTIONED
        return {"reference": made.urn, **({"display": display} if display else {})}


def _texts(fields: Sequence[Sequence[Field]], view: View) -> tuple[str, ...]:
    """Of each place the text, of places with bars between them that of the first which says something."""
    return tuple(next(filter(None, map(view.text, each)), "") for each in fields)


def _add(resource: Json, path: Path, value: Json) -> None:
    here = resource
    for step in path.steps[:-1]:
        if step.many:
            elements = here.setdefault(step.key, [])
            if not elements:
                elements.append({})
            here = elements[-1]
        else:
            here = here.setdefault(step.key, {})
    last = path.steps[-1]
    if not last.many:
        here[last.key] = value
    elif value not in here.setdefault(last.key, []):
        here[last.key].append(value)


def _continues(resource: Json, path: Path, note: Json) -> bool:
    """Whether a comment is the next line of the one before: comments come a line a segment."""
    notes = resource.get(path.steps[-1].key) or []
    if len(path.steps) != 1 or not notes or {**note, "text": ""} != {**notes[-1], "text": ""}:
        return False
    notes[-1]["text"] += "\n" + note["text"]
    return True


def _display(resource: Json) -> str:
    name = resource.get("name")
    if isinstance(name, list) and name:
        first = name[0]
        given = " ".join(first.get("given", ()))
        return " ".join(part for part in (" ".join(first.get("prefix", ())), given, first.get("family", "")) if part) or str(first.get("text", ""))
    return str(name) if isinstance(name, str) else ""
