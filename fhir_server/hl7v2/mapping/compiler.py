"""From the rows of a map to closures that make a resource of a segment, or a data type's value of a field. Compiled once per process."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from fhir_server.hl7v2.message import Repetition, Segment
from fhir_server.spec import Spec

from .context import Context
from .fields import Field, Test, Text, View, is_field, parse_choice, parse_condition, parse_field, text_at, values_at
from .functions import FUNCTIONS
from .memory import Convert, remembered
from .paths import Json, Path, Places, Step, parse_path
from .puts import put_unless, putting, spreading
from .rows import MappingFault, Row
from .tables import Table
from .values import PRIMITIVES, number

Rule = Callable[[Any, Json, Places, Context], None]
"""Of a segment's map it is given a View, of a data type's a Repetition; then what is made, and the places and the message that it is made in."""
_Choice = tuple[Field, tuple[str, ...]]


_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{1,2}\[([A-Za-z]+(?:\.[A-Za-z]+)*)[A-Za-z0-9 -]*\]")
_STATUS: Final = "status"
_UNKNOWN: Final = "unknown"
_NULL: Final = '""'
_UNLESS: Final = "?"

_REMEMBERED: Final = frozenset({"CWE", "CE", "CNE"})
"""Data types whose values come again and again, and say nothing of a patient: a laboratory has a few hundred codes and units."""
_REPEATED: Final = frozenset({"EI", "XCN"})
"""Data types whose values are said several times in one message: numbers of orders, and who ordered."""
_PLACE: Final = re.compile(r"\{([^{}]+)\}")


@dataclass(slots=True)
class Map:
    """A compiled map: the FHIR type that it makes, and its rules.

    Most fields of most segments are empty, so rules stand by the field or component that they are about, and are not even asked where it is empty.
    `others` are those about other segments, and constants; they come last.
    """

    name: str
    type: str
    own: list[list[Rule]] = field(default_factory=lambda: [[]])
    others: list[Rule] = field(default_factory=list)

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
        places.finish()
        return made or None

    def add(self, source: Field | None, choice: _Choice | None, rule: Rule) -> None:
        """Adds a rule about a field or component, or about none of this map's own; one of a choice is only asked where the choice is met."""
        rules = self.others
        if source is not None and source.segment == self.name.partition("[")[0]:
            place = source.number or source.component or 0
            self.own += [[] for _ in range(place + 1 - len(self.own))]
            rules = self.own[place]
        if choice is None:
            rules.append(rule)
            return
        if not rules or not isinstance(rules[-1], _Chosen) or rules[-1].on != choice[0]:
            rules.append(_Chosen(choice[0], text_at(choice[0])))
        chosen = rules[-1]
        assert isinstance(chosen, _Chosen)
        for value in choice[1]:
            chosen.rules.setdefault(value, []).append(rule)


@dataclass(slots=True)
class _Chosen:
    """Rules that follow each other and depend on what the same field is: OBX-5 has twenty by OBX-2, of which one or two count."""

    on: Field
    text: Text
    rules: dict[str, list[Rule]] = field(default_factory=dict)

    def __call__(self, view: Any, into: Json, places: Places, context: Context) -> None:
        for rule in self.rules.get(self.text(view), ()):
            rule(view, into, places, context)


class Compiler:
    """All maps of one set of files. Raises MappingFault for anything that cannot work."""

    def __init__(self, spec: Spec, tables: Mapping[str, Table]) -> None:
        """Compiles against the specification's types."""
        self._spec = spec
        self._tables = tables
        self._remembered: dict[tuple[str, str], Convert] = {}
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
        valued: set[tuple[str, str | None]] = {
            (step.key, step.tag) for row in rows if row["from"] for step in paths[row.name].steps if step.tag is not None
        }
        constants: list[tuple[_Choice | None, Rule]] = []
        for row in rows:
            choice, rest = _choice(row)
            condition = parse_condition(rest, row)
            path = paths[row.name]
            if not row["from"]:
                rule = self._constant(row, path, valued)
                constants.append((choice, rule if condition is None else _guarded(condition, rule)))
            else:
                rule = self._valued(row, path, condition)
                # These go by what others have put there, or by that there is nothing.
                is_last = path.is_lines or _is_ahead(row, path, rows, paths) or (row["value"] and "=" not in row["value"])
                made.add(None if is_last else parse_field(row["from"], row), choice, rule)
        for choice, rule in constants:
            made.add(None, choice, rule)

    def _valued(self, row: Row, path: Path, condition: Test | None) -> Rule:
        source = parse_field(row["from"], row)
        values_of, number = values_at(source), source.number
        convert = self._converter(row, path)
        if path.is_lines:
            return _lines(source, condition, convert, path)
        default = self._literal(row, path, row["value"]) if row["value"] and "=" not in row["value"] else None
        steps, is_there, put = path.steps, path.is_there, putting(path.steps)
        told_apart = _told_apart(path, row)
        is_single = not any(step.many for step in steps)
        fallback = _fallback(path, default) if default is not None else None
        # Of a component two quotes say nothing of the resource.
        nulls = (path.keys,) if number else ()

        def rule(view: Any, into: Json, places: Places, context: Context) -> None:
            values = values_of(view)
            # Most fields of most segments are empty, and to see that is cheaper than any condition.
            if (not values and fallback is None) or (condition is not None and not condition(view)):
                return
            if number:
                context.field = number
            count = 0
            for value in values:
                if value.raw == _NULL:
                    context.nulls.update(nulls)
                elif not (is_there and places.there(into, steps, count) is None) and (converted := convert(value, context)) is not None:
                    (put if told_apart is None else putting(told_apart(view)))(into, places, count, converted)
                    count += 1
                    if is_single:
                        break
            if count == 0 and fallback is not None:
                fallback(into, places, context)

        return rule

    def _constant(self, row: Row, path: Path, valued: set[tuple[str, str | None]]) -> Rule:
        if not row["value"]:
            raise MappingFault("a row needs a field or a value", row)
        follows = frozenset(number for number, step in enumerate(path.steps) if (step.key, step.tag) in valued)
        if row["value"] == _NULL:
            keys = path.keys
            return lambda _view, _into, _places, context: context.nulls.add(keys)
        if "{" in row["value"]:
            return _template(row, path)
        value = self._literal(row, path, row["value"].removeprefix(_UNLESS))
        if row["value"].startswith(_UNLESS):
            steps, told_apart = path.steps, _told_apart(path, row)
            return lambda view, into, places, _context: put_unless(into, places, told_apart(view) if told_apart is not None else steps, value)
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
            return _referred(convert, type_)
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


def _choice(row: Row) -> tuple[_Choice | None, str]:
    found = parse_choice(row["if"], row)
    return (None, row["if"]) if found is None else (found[:2], found[2])


def _fallback(path: Path, default: Any) -> Callable[[Json, Places, Context], None]:
    """Puts what is taken where nothing comes of a field, and says so where that is the status."""
    put = putting(path.steps)
    is_doubtful = path.keys == (_STATUS,) and default == _UNKNOWN

    def fallback(into: Json, places: Places, context: Context) -> None:
        put(into, places, 0, default)
        if is_doubtful:
            context.warn("101", f"Nothing that is known says what the {_STATUS} is; '{default}' is taken")

    return fallback


def _lines(source: Field, condition: Test | None, convert: Convert, path: Path) -> Rule:
    """Each value is another line of one text; nothing is an empty line."""
    last, encoded, values_of = path.steps[-1], path.type == "base64Binary", values_at(source)

    def rule(view: Any, into: Json, places: Places, context: Context) -> None:
        if condition is not None and not condition(view):
            return
        context.field = source.number or context.field
        lines = [convert(value, context) or "" for value in values_of(view) if not value.is_null] or [""]
        here = into
        if not any(lines) and not places.has_lines(last.key):
            return
        for step in path.steps[:-1]:
            here = places.element(here, step, 0)
        for line in lines:
            places.line(here, last.key, line, encoded=encoded)

    return rule


def _guarded(condition: Test, rule: Rule) -> Rule:
    def guarded(view: Any, into: Json, places: Places, context: Context) -> None:
        if condition(view):
            rule(view, into, places, context)

    return guarded


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


def _referred(convert: Convert, type_: str) -> Convert:
    def referred(value: Repetition, context: Context) -> Json | None:
        found = convert(value, context)
        return context.make({"resourceType": type_, **found}) or None if found is not None else None

    return referred


def _told_apart(path: Path, row: Row) -> Callable[[Any], Sequence[Step]] | None:
    """The steps of a path where a field stands as a word, by what stands in the field; None where there is no such word."""
    texts = {place: text_at(parse_field(step.tag, row)) for place, step in enumerate(path.steps) if step.tag is not None and is_field(step.tag)}
    if not texts:
        return None
    return lambda view: [replace(step, tag=texts[place](view)) if place in texts else step for place, step in enumerate(path.steps)]


def _template(row: Row, path: Path) -> Rule:
    """A text with fields in braces, which is there where any of them says something."""
    parts = _PLACE.split(row["value"])
    fields = {number: text_at(parse_field(part, row)) for number, part in enumerate(parts) if number % 2}
    put = putting(path.steps)

    def rule(view: Any, into: Json, places: Places, _context: Context) -> None:
        texts = {number: text(view) for number, text in fields.items()}
        if any(texts.values()):
            made = "".join(texts.get(number, part) for number, part in enumerate(parts))
            put(into, places, 0, " ".join(made.split()))

    return rule
