"""From a message to the resources that it describes, still without ids of the record: references between them are `urn:hl7v2:n`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path as File
from typing import Final
from zoneinfo import ZoneInfo

from fhir_server.hl7v2.text.message import Message, Segment
from fhir_server.spec import Spec

from .compiler import Compiler, Map
from .context import Context
from .fields import Clause, Text, View, compared, parse_clauses, parse_field, text_at
from .lines import joined
from .made import ANYWHERE, BY_IDENTIFIER, FILLED, MENTIONED, Converted, Made, display, one_each
from .paths import Json, Path, Places, parse_path
from .relatives import relatives
from .rows import MappingFault, Row, load
from .rules import Decide, Place, deciding
from .structure import Group, Shape, arrange, parse_shape, unforeseen
from .tables import Table
from .unread import read_by, unread

FOLDER: Final = File(__file__).parents[3] / "mappings"
STRUCTURES: Final = "message-structure"
_SAID: Final[Mapping[str, Callable[[Context, str, str], None]]] = {"refuse": Context.refuse, "warn": Context.warn, "report": Context.inform}
_EACH: Final = re.compile(r"each ([A-Z][A-Z0-9]{2}-\d{1,2})(?: and (.*))?")
_MOST: Final = 1_000
"""Repetitions of a field that each become an element of their own."""
_SHOWN: Final = 100
"""Fields that are told to be in no resource."""
_RESULT: Final = "Observation"
_ADDRESS: Final = "address"
_HEAD: Final = frozenset({"MSH", "EVN"})
_NAME: Final = re.compile("[A-Z][A-Z0-9]{2}")
_FAULT: Final = re.compile(r"(0|\d{3}) (.+)")
_LABEL: Final = re.compile(r"(?:([A-Za-z]+):)?([A-Z][A-Za-z]+)([*?]?)(?:\.([A-Za-z.]+))?")
_LINK: Final = re.compile(r"(?:([A-Z][A-Za-z]*)\.)?([a-z][A-Za-z.\[\]]*)=([A-Z][A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class _Link:
    """What a row links: `element` is the path as the row has it."""

    source: str | None
    element: str
    path: Path
    target: str


@dataclass(frozen=True, slots=True)
class _Rule:
    """A row of a message's map: what a segment at a place makes, or adds to.

    `once` is the number of a field for each of whose repetitions the row holds. `is_outer` says that the resource may be one of a group around the
    segment's, `is_there` that it has to be there already.
    """

    once: int | None
    label: str
    type: str
    each: bool
    below: Path | None
    map: Map
    links: tuple[_Link, ...]
    key: tuple[Text, ...] | str
    is_outer: bool
    is_there: bool


@dataclass(frozen=True, slots=True)
class _Saying:
    """A row that makes nothing of a segment and says why: the message is not taken for it, or it is left out."""

    code: str
    text: str
    say: Callable[[Context, str, str], None]


@dataclass(frozen=True, slots=True)
class _Structure:
    """The map of a message: `handled` are the names of segments that it makes something of, `read` the fields that it goes by."""

    shape: Shape
    rules: Mapping[tuple[str, str], Decide[_Rule | _Saying]]
    handled: frozenset[str]
    read: frozenset[Place]


class Converter:
    """The maps of one server. Safe to share between threads."""

    def __init__(self, spec: Spec, site: File | None = None, folder: File = FOLDER) -> None:
        """Reads and checks all files; those in `site` replace rows of ours. Raises MappingFault with the file and line. Takes about 0.1 s."""
        self._spec = spec
        self._tables = {name: Table(name, rows) for name, rows in load("table", folder, site).items()}
        compiler = Compiler(spec, self._tables)
        compiler.add(load("datatype", folder, site))
        segments = load("segment", folder, site)
        compiler.add(segments)
        self._maps = compiler.maps
        self._structures = {name: self._structure(rows, read_by(rows, segments)) for name, rows in load("message", folder, site).items()}
        for event, target in self._tables[STRUCTURES].targets.items():
            if target.code not in self._structures:
                raise MappingFault(f"{event} is said to be a {target.code}, and there is no such file", file=f"table/{STRUCTURES}.csv")

    def structure_of(self, message: Message) -> str | None:
        """The structure that the map of a message is filed under; None for an event that is not taken."""
        found = self._tables[STRUCTURES].find(f"{message.header.type}^{_event(message)}")
        return found.code if found is not None else None

    def convert(self, message: Message, zone: ZoneInfo) -> Converted:
        """The resources of a message whose structure is known. Costs some 70 µs a segment."""
        structure = self.structure_of(message)
        if structure is None:
            raise ValueError("the event is not taken")
        return _Conversion(self._structures[structure], _with_event(message), zone).run(structure)

    def unread(self, message: Message) -> list[str]:
        """Fields of segments that something is made of which say something and are in no resource, as `PID-23`; each once, up to 100."""
        structure = self.structure_of(message)
        if structure is None:
            return []
        found = self._structures[structure]
        return list(islice(dict.fromkeys(unread(message.segments, found.read, found.handled)), _SHOWN))

    def _structure(self, rows: Sequence[Row], read: frozenset[Place]) -> _Structure:
        rules: dict[tuple[str, str], list[tuple[_Rule | _Saying, Sequence[Clause]]]] = {}
        shape = parse_shape(rows)
        types: dict[str, str] = {}
        groups: dict[str, set[str]] = {}
        for row in rows:
            group, _, segment = row["at"].rpartition(".")
            found = rules.setdefault((group, segment.removesuffix("*")), [])
            if row["resource"] in _SAID:
                found.append((_saying(row), parse_clauses(row["if"], row)))
            elif row["resource"]:
                rule = self._rule(row, types, groups)
                groups.setdefault(rule.label, set()).add(group)
                repeated = _EACH.fullmatch(row["if"])
                found.append((rule, parse_clauses(repeated[2] or "" if repeated else row["if"], row)))
        codes = frozenset(field.place for row in rows for field in compared(row["if"], row))
        handled = frozenset(name for (_, name), found in rules.items() if found) - _HEAD
        return _Structure(shape, {place: deciding(found, codes) for place, found in rules.items()}, handled, read)

    def _rule(self, row: Row, types: dict[str, str], groups: Mapping[str, set[str]]) -> _Rule:
        match = _LABEL.fullmatch(row["resource"])
        made = self._maps.get(row["map"])
        if match is None:
            raise MappingFault(
                f"'{row['resource']}' is no resource, as 'Patient', 'Kin:RelatedPerson*', 'Encounter?' and 'Observation.note' are", row
            )
        if made is None:
            raise MappingFault(f"there is no map '{row['map']}'", row)
        name, type_, mark, below = match.groups()
        label = name or type_
        type_ = types.setdefault(label, type_)
        path = parse_path(below, type_, self._spec, row) if below else None
        if (path.type if path is not None else type_) != made.type:
            raise MappingFault(f"'{row['map']}' makes a {made.type}", row)
        base = path.type if path is not None else type_
        links = tuple(self._link(part.strip(), base, types, row) for part in row["link"].split(";") if part.strip())
        key = row["key"] if row["key"] in BY_IDENTIFIER else tuple(_key(part, row) for part in row["key"].split())
        repeated = _EACH.fullmatch(row["if"])
        once = parse_field(repeated[1], row).number if repeated else None
        here = row["at"].rpartition(".")[0]
        is_outer = any(here != group and f"{here}.".startswith(f"{group}." if group else "") for group in groups.get(label, ()))
        return _Rule(once, label, type_, mark == "*", path, made, links, key, is_outer, mark == "?")

    def _link(self, text: str, type_: str, types: Mapping[str, str], row: Row) -> _Link:
        match = _LINK.fullmatch(text)
        if match is None:
            raise MappingFault(f"'{text}' is no link, as 'subject=Patient' and 'DiagnosticReport.result=Observation' are", row)
        source, path, target = match.groups()
        if source is not None and source not in types:
            raise MappingFault(f"there is no {source} before this row", row)
        return _Link(source, path, parse_path(path, types[source] if source is not None else type_, self._spec, row), target)


class _Conversion:
    """One message on its way."""

    def __init__(self, structure: _Structure, message: Message, zone: ZoneInfo) -> None:
        self._structure = structure
        self._message = message
        header = message.header
        dialect = "".join(message.separators) + message.codec
        self._context = Context(header.sending_facility or header.sending_application, dialect, zone, self._make)
        self._made: list[Made] = []
        self._by_content: dict[str, Made] = {}
        self._links: list[tuple[Group, Made, Json, _Rule]] = []
        self._results: dict[int, Made] = {}
        self._labels: set[str] = set()
        self._connected: set[tuple[int, str, int]] = set()

    def run(self, structure: str) -> Converted:
        root = arrange(self._structure.shape, joined(self._message))
        unhandled = list(unforeseen(root))
        self._report_misplaced(unhandled)
        placed = list(root.walk())
        for group, segment in placed:
            view = View(segment, group)
            is_applied = False
            decide = self._structure.rules.get((group.shape.path, segment.name))
            for rule, test in decide(view, self._context.sender) if decide is not None else ():
                if (test is None or test(view)) and self._applied(rule, group, segment, view):
                    is_applied = True
            # What all of them go by: what it is, what has happened, and when.
            if not is_applied and segment.name not in _HEAD:
                unhandled.append(segment)
        for made in self._made:
            if not made.places.finish():
                made.open.add(ANYWHERE)
        for group, made, part, rule in self._links:
            for link in rule.links:
                self._connect(group, made, part, rule, link)
        for result, parent in relatives(placed):
            self._relate(result, parent)
        done = Converted(structure, one_each([made for made in self._made if len(made.resource) > 1]), self._context.faults, unhandled)
        # Some 560 objects a message went in circles, for which the collector took a seventh of the listener's time.
        root.fall_apart()
        del self._context
        return done

    def _report_misplaced(self, unforeseen: Sequence[Segment]) -> None:
        """Says of segments that are taken elsewhere in the structure that they have no place where they stand, and of lines that they are none."""
        handled = self._structure.handled if unforeseen else frozenset()
        for segment in unforeseen:
            self._context.segment, self._context.field = segment, None
            if segment.name in handled:
                self._context.warn("100", "The segment has no place where it stands; nothing is made of it")
            elif not _NAME.fullmatch(segment.name):
                # Its name may be the rest of a text, and whom it is about.
                self._context.segment = None
                self._context.warn("100", f"Line {segment.number} is no segment: a text before it may have been cut by the end of a line")

    def _applied(self, rule: _Rule | _Saying, group: Group, segment: Segment, view: View) -> bool:
        """Whether the segment has been taken up by a row."""
        if isinstance(rule, _Saying):
            self._context.segment, self._context.field = segment, None
            rule.say(self._context, rule.code, rule.text)
            return False
        if rule.is_there and self._find(group, rule.label) is None:
            return False
        if rule.once is None:
            self._apply(rule, group, segment, view)
        elif len(segment.repetitions(rule.once)) > _MOST:
            self._context.segment, self._context.field = segment, rule.once
            self._context.refuse("104", f"The field repeats more than {_MOST} times")
        else:
            for value in segment.repetitions(rule.once):
                fields = list(segment.fields)
                fields[rule.once] = value.raw
                one = Segment(segment.name, segment.number, segment.sequence, fields, segment.separators, segment.codec)
                self._apply(rule, group, one, View(one, group))
        return True

    def _apply(self, rule: _Rule, group: Group, segment: Segment, view: View) -> None:
        is_found = rule.below is not None or rule.is_outer or rule.is_there
        made = self._find(group, rule.label) if is_found else group.made.get(rule.label)
        if made is None or (rule.each and rule.below is None):
            made = self._new({"resourceType": rule.type}, rule.label)
            self._label(made, group, rule.label)
        if rule.key and not made.key:
            made.key = rule.key if isinstance(rule.key, str) else tuple([text(view) for text in rule.key])
        self._context.segment, self._context.field = segment, None
        self._context.nulls, self._context.open = made.nulls, made.open
        if rule.below is None:
            if rule.type == _RESULT:
                self._results[segment.number] = made
            part = made.resource
            rule.map.apply(segment, view, part, made.places, self._context)
        else:
            part, places = {}, Places()
            rule.map.apply(segment, view, part, places, self._context)
            places.finish()
            # What it is linked to may be all that is said in it.
            if part or rule.links:
                _add(made.resource, rule.below, part)
            made.open.add(rule.below.steps[0].key)
        if rule.links:
            self._links.append((group, made, part, rule))

    def _find(self, group: Group | None, label: str) -> Made | None:
        """The resource of a label that was made last in this group, in those in it, or around it; never that of another repetition."""
        if label not in self._labels:
            return None
        if group is not None and label in group.made:
            return group.made[label]
        came_from: Shape | None = None
        while group is not None:
            found = group.made.get(label)
            if found is None and label in group.below:
                # Messages have hundreds of thousands of groups: they are never gone through.
                inner = (made for name, made in group.below[label].items() if came_from is None or name != came_from.name)
                found = max(inner, key=lambda made: made.number, default=None)
            if found is not None:
                return found
            came_from, group = group.shape, group.parent
        return None

    def _label(self, made: Made, group: Group, label: str) -> None:
        """Keeps what was made in a group under its label, for those too who look for it from the groups around."""
        group.made[label] = made
        self._labels.add(label)
        here, around = group, group.parent
        while around is not None:
            around.below.setdefault(label, {})[here.shape.name] = made
            here, around = around, around.parent

    def _connect(self, group: Group, made: Made, part: Json, rule: _Rule, link: _Link) -> None:
        target = made if link.target == made.label else self._find(group, link.target)
        if target is None or len(target.resource) <= 1:
            return
        if link.source is not None:
            source = self._find(group, link.source)
            if source is None:
                return
            made, part = source, source.resource
        pair = (id(part), link.element, target.number)
        if pair not in self._connected:
            self._connected.add(pair)
            _add(part, link.path, {"reference": target.urn})
            made.open.add((link.path if part is made.resource else rule.below or link.path).steps[0].key)

    def _relate(self, result: Segment, parent: Segment) -> None:
        """The two ways that results hang together: the parent has the child as a member, the child is derived from the parent."""
        child, above = self._results.get(result.number), self._results.get(parent.number)
        if child is not None and above is not None and child.type == above.type == _RESULT:
            child.open.add("derivedFrom")
            above.open.add("hasMember")
            child.resource.setdefault("derivedFrom", []).append({"reference": above.urn})
            above.resource.setdefault("hasMember", []).append({"reference": child.urn})

    def _new(self, resource: Json, label: str) -> Made:
        made = Made(len(self._made), label, resource["resourceType"], resource)
        self._made.append(made)
        return made

    def _make(self, resource: Json) -> Json:
        """A reference to what a value describes: to a resource that is known by its identifier or has an address, else by its name alone."""
        name = display(resource)
        if _ADDRESS not in resource and not any(each.get("value") for each in resource.get("identifier", ())):
            return {"display": name} if name else {}
        content = repr(resource)
        made = self._by_content.get(content)
        if made is None:
            made = self._by_content[content] = self._new(resource, resource["resourceType"])
            made.key = FILLED if _ADDRESS in resource else MENTIONED
        return {"reference": made.urn, **({"display": name} if name else {})}


def _event(message: Message) -> str:
    """The trigger event, which early versions name in EVN alone."""
    return message.header.event or next((segment.get(1) for segment in message.segments if segment.name == "EVN"), "")


def _with_event(message: Message) -> Message:
    """The message with its event in MSH-9, where the maps ask for it."""
    event, head = _event(message), message.segments[0]
    if message.header.event or not event:
        return message
    fields = [*head.fields]
    fields[9] = f"{message.header.type}{head.separators.component}{event}"
    return replace(message, segments=(replace(head, fields=fields, _parsed={}, _firsts={}), *message.segments[1:]))


def _saying(row: Row) -> _Saying:
    match = _FAULT.fullmatch(row["map"])
    if match is None:
        raise MappingFault(f"to {row['resource']} needs a code of table 0357 and a text as its map", row)
    return _Saying(match[1], match[2], _SAID[row["resource"]])


def _key(places: str, row: Row) -> Text:
    """A part of a key: the text at a place, of places with bars between them at the first that says something."""
    first, *others = [text_at(parse_field(place, row)) for place in places.split("|")]
    if not others:
        return first

    def text(view: View) -> str:
        found = first(view)
        for each in others:
            if found:
                break
            found = each(view)
        return found

    return text


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
    else:
        here.setdefault(last.key, []).append(value)
