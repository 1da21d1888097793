"""From the rows of a map to closures that make a resource of a segment, or a data type's value of a field. Compiled once per process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from fhir_server.hl7v2.text.message import Repetition, Segment
from fhir_server.spec import Spec

from .context import ANYWHERE, Context
from .fields import ALONE, Field, View, compared, is_field, parse_choice, parse_clauses, parse_field
from .functions import FUNCTIONS
from .memory import Convert, remembered
from .paths import Json, Path, Places, parse_path
from .puts import put_unless, spreading
from .rows import MappingFault, Row
from .rules import Memory, Place, Rule, Run, remembering, sequence
from .runs import learning, lines, template, told_apart, valued, worded
from .tables import Table
from .values import PRIMITIVES, WORDS, number

_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{1,2}\[([A-Za-z]+(?:\.[A-Za-z]+)*)[A-Za-z0-9 -]*\]")
_NULL: Final = '""'
_UNLESS: Final = "?"

_REMEMBERED: Final = frozenset({"CWE", "CE", "CNE"})
"""Data types whose values come again and again, and say nothing of a patient: a laboratory has a few hundred codes and units."""
_CODES: Final = frozenset({*_REMEMBERED, "ID", "IS", "code"})
"""Maps, or the data types of maps, for fields that hold nothing but codes."""
_OF_CODES: Final[Mapping[str, int]] = {"ST[referenceRange]": 6}
"""The same of functions, with the field that they read besides their own."""
_REPEATED: Final = frozenset({"EI", "XCN"})
"""Data types whose values are said several times in one message: numbers of orders, and who ordered."""


@dataclass(slots=True)
class Map:
    """A compiled map: the FHIR type that it makes, and its rules.

    Most fields of most segments are empty, so rules stand by the field or component that they are about, and are not even asked where it is empty.
    `others` are those about other segments, and constants; they come last.
    """

    name: str
    type: str
    own: list[tuple[Run, ...]] = field(default_factory=list)
    others: tuple[Run, ...] = ()

    def apply(self, segment: Segment, view: View, into: Json, places: Places, context: Context) -> None:
        """Puts what a segment says into an element."""
        for text, rules in zip(segment.fields, self.own, strict=False):
            if text:
                for rule in rules:
                    rule(view, into, places, context)
        for rule in self.others:
            rule(view, into, places, context)

    def value(self, value: Repetition, context: Context) -> Json | None:
        """What a field's repetition is in FHIR; None where nothing comes of it."""
        made: Json = {}
        places = Places()
        for rule in self.own[0]:
            rule(value, made, places, context)
        for text, rules in zip(value.components, islice(self.own, 1, None), strict=False):
            if text:
                for rule in rules:
                    rule(value, made, places, context)
        for rule in self.others:
            rule(value, made, places, context)
        if not places.finish():
            context.leave_open(ANYWHERE)
        return made or None

    def part(self, context: Context) -> Json | None:
        """What several fields of the segment at hand are together; None where nothing comes of them."""
        if context.segment is None:
            return None
        made: Json = {}
        places, field = Places(), context.field
        self.apply(context.segment, View(context.segment, ALONE), made, places, context)
        context.field = field
        if not places.finish():
            context.leave_open(ANYWHERE)
        return made or None

    def fill(self, rules: Sequence[tuple[Field | None, Rule]], grouped: Callable[[Sequence[Rule]], tuple[Run, ...]]) -> None:
        """Takes the rules, each about a field or component, or about none of this map's own; `grouped` puts those of one field together."""
        own: dict[int, list[Rule]] = {0: []}
        others: list[Rule] = []
        for source, rule in rules:
            is_own = source is not None and source.segment == self.name.partition("[")[0]
            (own.setdefault(source.number or source.component or 0, []) if is_own and source is not None else others).append(rule)
        self.own = [grouped(own.get(number, ())) for number in range(max(own) + 1)]
        self.others = grouped(others)


class Compiler:
    """All maps of one set of files. Raises MappingFault for anything that cannot work."""

    def __init__(self, spec: Spec, tables: Mapping[str, Table]) -> None:
        """Compiles against the specification's types."""
        self._spec = spec
        self._tables = tables
        self._remembered: dict[tuple[str, str], Convert] = {}
        self._memory = Memory()
        self.maps: dict[str, Map] = {}

    def add(self, files: Mapping[str, Sequence[Row]]) -> None:
        """Adds maps; each file is one, `CWE-CodeableConcept` that of `CWE[CodeableConcept]`. Maps may name each other."""
        for stem, rows in files.items():
            head, _, rest = stem.partition("-")
            name = f"{head}[{rest}]"
            match = _NAME.fullmatch(name)
            base = match[1] if match else ""
            if base not in self._spec.types:
                raise MappingFault(
                    "the file's name has to be a segment or data type, a dash and a type of FHIR", file=rows[0].file if rows else f"{stem}.csv"
                )
            self.maps[name] = Map(name, base)
        for stem, rows in files.items():
            head, _, rest = stem.partition("-")
            self._fill(self.maps[f"{head}[{rest}]"], rows)

    def _fill(self, made: Map, rows: Sequence[Row]) -> None:
        paths = {row.name: parse_path(row["to"], made.type, self._spec, row) for row in rows}
        # What words in brackets stand for is made by values; constants only add to it, unless nothing else has the word.
        words: set[tuple[str, str | None]] = {
            (step.key, step.tag) for row in rows if row["from"] for step in paths[row.name].steps if step.tag is not None
        }
        codes = _codes(rows, paths)
        rules: list[tuple[Field | None, Rule]] = []
        constants: list[tuple[Field | None, Rule]] = []
        for row in rows:
            path = paths[row.name]
            if not row["from"]:
                constants.append((None, _where(row, Rule(self._constant(row, path, words)))))
            else:
                # These go by what others have put there, or by that there is nothing.
                is_last = path.is_lines or _is_ahead(row, path, rows, paths) or (row["value"] and "=" not in row["value"])
                rules.append((None if is_last else parse_field(row["from"], row), _where(row, self._valued(row, path))))
        made.fill([*rules, *constants], lambda group: remembering(group, codes, self._memory) if codes else sequence(group))

    def _valued(self, row: Row, path: Path) -> Rule:
        source, convert = parse_field(row["from"], row), self._converter(row, path)
        if path.is_lines:
            return Rule(lines(source, convert, path))
        default = self._literal(row, path, row["value"]) if row["value"] and "=" not in row["value"] else None
        told = told_apart(path, row)
        run = valued(source, convert, path, told, default)
        if not row["table"] and told is None and (row["map"] or path.type) in WORDS:
            run = worded(source, path, run)
        if not _is_coded(row, path):
            return Rule(run)
        return Rule(run, reads=frozenset(_read(row, source, path)), learn=learning(source, convert, path, told, has_default=default is not None))

    def _constant(self, row: Row, path: Path, words: set[tuple[str, str | None]]) -> Run:
        if not row["value"]:
            raise MappingFault("a row needs a field or a value", row)
        follows = frozenset(number for number, step in enumerate(path.steps) if (step.key, step.tag) in words)
        if row["value"] == _NULL:
            keys = path.keys
            return lambda _view, _into, _places, context: context.nulls.add(keys)
        if "{" in row["value"]:
            return template(row, path)
        value = self._literal(row, path, row["value"].removeprefix(_UNLESS))
        if row["value"].startswith(_UNLESS):
            steps, told = path.steps, told_apart(path, row)
            return lambda view, into, places, _context: put_unless(into, places, told(view) if told is not None else steps, value)
        spread = spreading(path.steps, follows, value)
        return lambda _view, into, places, _context: spread(into, places)

    def _converter(self, row: Row, path: Path) -> Convert:
        """How a field's repetition becomes what stands at the path's end."""
        name, table = row["map"], self._table(row)
        defaults = dict(part.split("=", 1) for part in row["value"].split(";")) if "=" in row["value"] else {}
        if name in PRIMITIVES or not name:
            convert = PRIMITIVES.get(name or path.type)
            if convert is None:
                raise MappingFault(f"a map is needed for {path.type}" if not name else f"there is no map '{name}'", row)
            if table is not None:
                self._check_codes(table, path, row)
                return _coded(convert, table)
            return convert
        type_, convert = self._named(name, row)
        if table is not None:
            finish = table.concept if type_ == "CodeableConcept" else table.coding if type_ == "Coding" else None
            if finish is None:
                raise MappingFault(f"a table has no use for a {type_}", row)
            return self._shared(name, table.name, _finished(convert, finish))
        if path.type == "Reference" and type_ != "Reference":
            return _referred(convert, type_, path.steps[0].key if path.steps and row.kind == "segment" else ANYWHERE)
        # A part of a type may come into the whole: `CWE[Quantity]` adds a unit to a value.
        if path.type not in {type_, "Extension", "Element"} and not (self._spec.is_a(path.type, type_) or self._spec.is_a(type_, path.type)):
            raise MappingFault(f"'{name}' makes a {type_}, and {row['to']} is a {path.type}", row)
        if defaults:
            return _finished(convert, lambda value, _: {**defaults, **value})
        return convert

    def _named(self, name: str, row: Row) -> tuple[str, Convert]:
        if name in FUNCTIONS:
            type_, function = FUNCTIONS[name]
            return type_, lambda value, context: function(value, context, self._tables)
        known = self.maps.get(name)
        if known is None:
            raise MappingFault(f"there is no map '{name}'", row)
        if row.kind == "segment" and name.partition("[")[0] == parse_field(row["from"], row).segment:
            return known.type, lambda _value, context: known.part(context)
        return known.type, self._shared(name, "", known.value)

    def _shared(self, name: str, table: str, convert: Convert) -> Convert:
        """The same closure for all rows that convert by the same map and table, so that what one has seen is remembered for all."""
        head = name.partition("[")[0]
        if head not in _REMEMBERED and head not in _REPEATED:
            return convert
        return self._remembered.setdefault((name, table), remembered(convert, lasts=head in _REMEMBERED))

    def _table(self, row: Row) -> Table | None:
        if not row["table"]:
            return None
        table = self._tables.get(row["table"])
        if table is None:
            raise MappingFault(f"there is no table '{row['table']}'", row)
        return table

    def _check_codes(self, table: Table, path: Path, row: Row) -> None:
        """A table for an element whose codes the specification lists may have no others."""
        codes = path.binding and self._spec.codes(path.binding)
        if not codes:
            return
        allowed = {code for each in codes.values() for code in each}
        for code, target in table.targets.items():
            if target.code and target.code not in allowed:
                raise MappingFault(f"table {table.name} makes '{target.code}' of '{code}', which {row['to']} does not allow", row)

    def _literal(self, row: Row, path: Path, text: str) -> Any:
        if path.type == "boolean":
            return text == "true"
        if path.type in {"integer", "positiveInt", "unsignedInt", "decimal"}:
            return number(text)
        definition = self._spec.types.get(path.type)
        if definition is None or definition.kind != "primitive":
            raise MappingFault(f"a {path.type} cannot be written as a value", row)
        codes = path.binding and self._spec.codes(path.binding)
        if codes and text not in {code for each in codes.values() for code in each}:
            raise MappingFault(f"'{text}' is no code that {row['to']} allows", row)
        return text


def _is_ahead(row: Row, path: Path, rows: Sequence[Row], paths: Mapping[str, Path]) -> bool:
    """Whether a row that waits for an element to be there is about a field before one that makes it."""
    if not path.is_there:
        return False
    number = parse_field(row["from"], row).number
    makers = (
        parse_field(each["from"], each).number
        for each in rows
        if each["from"] and [step.key for step in paths[each.name].steps[:1]] == [path.steps[0].key]
    )
    return any(maker > number for maker in makers)


def _where(row: Row, rule: Rule) -> Rule:
    """The rule with the cell that says where it holds."""
    found = parse_choice(row["if"], row)
    choice, rest = (None, row["if"]) if found is None else (found[:2], found[2])
    return replace(rule, choice=choice, clauses=parse_clauses(rest, row))


def _codes(rows: Sequence[Row], paths: Mapping[str, Path]) -> frozenset[Place]:
    """The fields that hold nothing but codes, as far as the rows of a segment's map tell: they are mapped as such, or compared with words."""
    if rows and rows[0].kind != "segment":
        return frozenset()
    coded = {field.place for row in rows for field in compared(row["if"], row)}
    others: set[Place] = set()
    for row in rows:
        if row["from"]:
            (coded if _is_coded(row, paths[row.name]) else others).add(parse_field(row["from"], row).place)
    return frozenset(coded - others)


def _is_coded(row: Row, path: Path) -> bool:
    """Whether what a row puts depends on nothing but codes, and refers to nothing."""
    name = row["map"] or path.type
    return row.kind == "segment" and path.type != "Reference" and (name in _OF_CODES or name.partition("[")[0] in _CODES)


def _read(row: Row, source: Field, path: Path) -> Iterator[Place]:
    """The fields that a row about codes goes by."""
    yield source.place
    if row["map"] in _OF_CODES:
        yield source.segment, _OF_CODES[row["map"]]
    yield from (parse_field(step.tag, row).place for step in path.steps if step.tag is not None and is_field(step.tag))


def _coded(convert: Convert, table: Table) -> Convert:
    def coded(value: Repetition, context: Context) -> Any:
        code = convert(value, context)
        return table.code(code, context) if isinstance(code, str) else None

    return coded


def _finished(convert: Convert, finish: Callable[[Json, Context], Json]) -> Convert:
    def finished(value: Repetition, context: Context) -> Json | None:
        found = convert(value, context)
        return finish(found, context) if found is not None else None

    return finished


def _referred(convert: Convert, type_: str, name: str) -> Convert:
    def referred(value: Repetition, context: Context) -> Json | None:
        found = convert(value, context)
        context.leave_open(name)
        return context.make({"resourceType": type_, **found}) or None if found is not None else None

    return referred
