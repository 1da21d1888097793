"""From the rows of a map to closures that make a resource of a segment, or a data type's value of a field. Compiled once per process."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fhir_server.hl7v2.message import Repetition, Segment, Separators
from fhir_server.spec import Spec

from .context import Context
from .fields import Field, ValueView, View, is_field, parse_choice, parse_condition, parse_field
from .functions import FUNCTIONS
from .paths import Json, Path, Places, Step, parse_path
from .rows import MappingFault, Row
from .tables import Table
from .values import PRIMITIVES, number

Convert = Callable[[Repetition, Context], Any]
Rule = Callable[[View, Json, Places, Context], None]
_Choice = tuple[Field, tuple[str, ...]]


_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{1,2}\[([A-Za-z]+(?:\.[A-Za-z]+)*)[A-Za-z0-9 -]*\]")
_STATUS: Final = "status"
_UNKNOWN: Final = "unknown"
_NULL: Final = '""'
_UNLESS: Final = "?"

_REMEMBERED: Final = frozenset({"CWE", "CE", "CNE"})
"""Data types whose values come again and again, and say nothing of a patient."""
_MOST: Final = 2_000
_SHORT: Final = 200

_PLACE: Final = re.compile(r"\{([^{}]+)\}")


@dataclass(slots=True)
class Map:
    """A compiled map: the FHIR type that it makes, and its rules.

    Most fields of most segments are empty, so rules stand by the field or component that they are about, and are not even asked where it is empty.
    `others` are those about other segments, and constants; they come last.
    """

    name: str
    type: str
    own: list[tuple[int, list[Rule]]] = field(default_factory=list)
    others: list[Rule] = field(default_factory=list)
    remembers: bool = False
    _known: dict[tuple[str, Separators, bool, str], Json] = field(default_factory=dict, repr=False)

    def apply(self, segment: Segment, view: View, into: Json, places: Places, context: Context) -> None:
        """Puts what a segment says into an element."""
        fields = segment.fields
        most = len(fields)
        for place, rules in self.own:
            if place < most and fields[place]:
                for rule in rules:
                    rule(view, into, places, context)
        for rule in self.others:
            rule(view, into, places, context)

    def value(self, value: Repetition, context: Context) -> Json | None:
        """What a field's repetition is in FHIR; None where nothing comes of it. Codes and units are remembered: a laboratory has a few hundred."""
        if not self.remembers:
            return self._value(value, context) or None
        key = (*value.identity, context.facility)
        if known := self._known.get(key):
            copied: Json = _copy(known)
            return copied
        faults = len(context.faults)
        made = self._value(value, context)
        if made and len(context.faults) == faults and len(value.raw) <= _SHORT:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = _copy(made)
        return made or None

    def _value(self, value: Repetition, context: Context) -> Json:
        made: Json = {}
        view, places = ValueView(value), Places()
        for place, rules in self.own:
            if place == 0 or value.piece(place):
                for rule in rules:
                    rule(view, made, places, context)
        for rule in self.others:
            rule(view, made, places, context)
        places.finish()
        return made

    def add(self, source: Field | None, choice: _Choice | None, rule: Rule) -> None:
        """Adds a rule about a field or component, or about none of this map's own; one of a choice is only asked where the choice is met."""
        rules = self.others
        if source is not None and source.segment == self.name.partition("[")[0]:
            place = source.number or source.component or 0
            own = dict(self.own)
            rules = own.setdefault(place, [])
            self.own = sorted(own.items(), key=lambda each: each[0])
        if choice is None:
            rules.append(rule)
            return
        if not rules or not isinstance(rules[-1], _Chosen) or rules[-1].on != choice[0]:
            rules.append(_Chosen(choice[0]))
        chosen = rules[-1]
        assert isinstance(chosen, _Chosen)
        for value in choice[1]:
            chosen.rules.setdefault(value, []).append(rule)


@dataclass(slots=True)
class _Chosen:
    """Rules that follow each other and depend on what the same field is: OBX-5 has twenty by OBX-2, of which one or two count."""

    on: Field
    rules: dict[str, list[Rule]] = field(default_factory=dict)

    def __call__(self, view: View, into: Json, places: Places, context: Context) -> None:
        for rule in self.rules.get(view.text(self.on), ()):
            rule(view, into, places, context)


class Compiler:
    """All maps of one set of files. Raises MappingFault for anything that cannot work."""

    def __init__(self, spec: Spec, tables: Mapping[str, Table]) -> None:
        """Compiles against the specification's types."""
        self._spec = spec
        self._tables = tables
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
            self.maps[name] = Map(name, base, remembers=head in _REMEMBERED)
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

    def _valued(self, row: Row, path: Path, condition: Callable[[View], bool] | None) -> Rule:
        source = parse_field(row["from"], row)
        convert = self._converter(row, path)
        if path.is_lines:
            return _lines(source, condition, convert, path)
        default = self._literal(row, path, row["value"]) if row["value"] and "=" not in row["value"] else None
        steps, keys, is_there, told_apart = path.steps, path.keys, path.is_there, _told_apart(path, row)
        is_single = not any(step.many for step in steps)
        is_doubtful = keys == (_STATUS,) and default == _UNKNOWN

        def rule(view: View, into: Json, places: Places, context: Context) -> None:
            values = view.values(source)
            # Most fields of most segments are empty, and to see that is cheaper than any condition.
            if (not values and default is None) or (condition is not None and not condition(view)):
                return
            context.field = source.number or context.field
            count = 0
            for value in values:
                if value.is_null:
                    # Of a component it says nothing of the resource.
                    context.nulls.update((keys,) if source.number else ())
                elif not (is_there and places.there(into, steps, count) is None) and (converted := convert(value, context)) is not None:
                    _put(into, places, told_apart(view), count, converted)
                    count += 1
                    if is_single:
                        break
            if count == 0 and default is not None:
                _put(into, places, steps, 0, default)
                if is_doubtful:
                    context.warn("101", f"Nothing that is known says what the {_STATUS} is; '{default}' is taken")

        return rule

    def _constant(self, row: Row, path: Path, valued: set[tuple[str, str | None]]) -> Rule:
        if not row["value"]:
            raise MappingFault("a row needs a field or a value", row)
        follows = frozenset(number for number, step in enumerate(path.steps) if (step.key, step.tag) in valued)
        if row["value"] == _NULL:
            return lambda _view, _into, _places, context: context.nulls.add(path.keys)
        if "{" in row["value"]:
            return _template(row, path)
        value = self._literal(row, path, row["value"].removeprefix(_UNLESS))
        told_apart = _told_apart(path, row)
        if row["value"].startswith(_UNLESS):
            return lambda view, into, places, _context: _put_unless(into, places, told_apart(view), value)

        def rule(_view: View, into: Json, places: Places, _context: Context) -> None:
            _put_everywhere(into, places, path.steps, 0, follows, value)

        return rule

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
            return _finished(convert, finish)
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
        return known.type, known.value

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


def _lines(source: Field, condition: Callable[[View], bool] | None, convert: Convert, path: Path) -> Rule:
    """Each value is another line of one text; nothing is an empty line."""
    last, encoded = path.steps[-1], path.type == "base64Binary"

    def rule(view: View, into: Json, places: Places, context: Context) -> None:
        if condition is not None and not condition(view):
            return
        context.field = source.number or context.field
        lines = [convert(value, context) or "" for value in view.values(source) if not value.is_null] or [""]
        here = into
        if not any(lines) and not places.has_lines(last.key):
            return
        for step in path.steps[:-1]:
            here = places.element(here, step, 0)
        for line in lines:
            places.line(here, last.key, line, encoded=encoded)

    return rule


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _guarded(condition: Callable[[View], bool], rule: Rule) -> Rule:
    def guarded(view: View, into: Json, places: Places, context: Context) -> None:
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


def _told_apart(path: Path, row: Row) -> Callable[[View], Sequence[Step]]:
    """The steps of a path, where a field that stands as a word is what stands in it."""
    fields = {place: parse_field(step.tag, row) for place, step in enumerate(path.steps) if step.tag is not None and is_field(step.tag)}
    steps = path.steps
    if not fields:
        return lambda _view: steps
    return lambda view: [replace(step, tag=view.text(fields[place])) if place in fields else step for place, step in enumerate(steps)]


def _template(row: Row, path: Path) -> Rule:
    """A text with fields in braces, which is there where any of them says something."""
    parts = _PLACE.split(row["value"])
    fields = {number: parse_field(part, row) for number, part in enumerate(parts) if number % 2}

    def rule(view: View, into: Json, places: Places, _context: Context) -> None:
        texts = {number: view.text(field) for number, field in fields.items()}
        if any(texts.values()):
            made = "".join(texts.get(number, part) for number, part in enumerate(parts))
            _put(into, places, path.steps, 0, " ".join(made.split()))

    return rule


def _put(into: Json, places: Places, steps: Sequence[Step], number: int, value: Any) -> None:
    if not steps:
        into.update(value)
        return
    here, last = into, steps[-1]
    for step in steps[:-1]:
        here = places.element(here, step, number)
    if last.many:
        if last.tag is not None:
            places.element(here, last, number).update(value)
        else:
            here.setdefault(last.key, []).append(value)
    elif isinstance(value, dict):
        here.setdefault(last.key, {}).update(value)
    else:
        here[last.key] = value


def _put_unless(into: Json, places: Places, steps: Sequence[Step], value: Any) -> None:
    """Where nothing is yet; what comes later takes its place."""
    here = into
    for step in steps[:-1]:
        here = places.element(here, step, 0)
    here.setdefault(steps[-1].key, [value] if steps[-1].many else value)


def _put_everywhere(into: Json, places: Places, steps: Sequence[Step], depth: int, follows: frozenset[int], value: Any) -> None:
    """A constant: in every element that a word has come to stand for, and else in the one that the path names."""
    step = steps[depth]
    if depth == len(steps) - 1:
        if step.many:
            into.setdefault(step.key, []).append(value)
        else:
            into[step.key] = value
        return
    for nth in places.repetitions(into, step) if depth in follows else (0,):
        _put_everywhere(places.element(into, step, nth), places, steps, depth + 1, follows, value)
