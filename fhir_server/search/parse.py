"""Query text to a Query: names looked up, modifiers and prefixes read, every value understood or refused.

https://hl7.org/fhir/R4/search.html

Unknown parameters, and known ones that this server has not, are refused under `Prefer: handling=strict` and dropped with a reason otherwise. A
modifier or a value that cannot be understood is refused always: without it the search would be another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Protocol

from fhir_server.outcome import Outcome

from .params import KINDS, Context
from .params.kind import split, unescape
from .query import DEFAULT_COUNT, MAX_COUNT, Criterion, Include, Param, Query, SortKey

MAX_PARAMETERS: Final = 100
MAX_ALTERNATIVES: Final = 1_000
MAX_COMPARED: Final = 10_000
"""Alternatives of all parameters together: a statement has room for 65,535 values, and some alternatives take four."""
MAX_VALUE: Final = 2_048
"""Characters of one alternative."""
MAX_SORT_KEYS: Final = 8

_NOT_FOR_SEARCH: Final = frozenset({"_format", "_pretty"})
# What clients in wide use send to every server, and what means nothing wrong when it is left aside.
_OF_OTHER_SERVERS: Final = {"_totalMethod": "the total is asked for with _total"}
_LATER: Final = frozenset({"_has", "_list", "_type", "_contained", "_containedType"})
_ONCE: Final = frozenset({"_count", "_total", "_summary", "_sort", "_cursor"})
_ELEMENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z][A-Za-z0-9]*)*", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_CHOICES: Final = {"_total": ("none", "estimate", "accurate"), "_summary": ("true", "text", "data", "count", "false")}


class Failures(Protocol):
    """Parameters that cannot be searched by, with the reason."""

    @property
    def failures(self) -> Mapping[str, str]:
        """By code."""


Lookup = Callable[[str], tuple[Failures, Mapping[str, Param]]]
"""The parameters of a resource type: those that do not work, and those that do."""


@dataclass(slots=True)
class _Reader:
    lookup: Lookup
    context: Context
    type: str
    strict: bool
    filters: list[Criterion] = field(default_factory=list)
    sort: list[SortKey] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    revincludes: list[Include] = field(default_factory=list)
    single: dict[str, str] = field(default_factory=dict)
    applied: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)

    def read(self, name: str, value: str) -> None:
        """Takes one parameter in."""
        if name in _NOT_FOR_SEARCH:
            return
        if name in _OF_OTHER_SERVERS:
            self.ignored.append((name, _OF_OTHER_SERVERS[name]))
            return
        if not value.strip(","):
            self.ignored.append((name, "it has no value"))
        elif self._take(name, value) and name != "_cursor":
            self.applied.append((name, value))

    def _take(self, name: str, value: str) -> bool:
        """Whether the parameter has an effect."""
        if name in _ONCE:
            if name in self.single:
                raise _refused(name, "stands more than once")
            self.single[name] = value
            return self._sort(value) if name == "_sort" else True
        if name == "_elements":
            self.elements += _elements(value)
            return True
        if name.partition(":")[0] in {"_include", "_revinclude"}:
            return self._include(name, value)
        return self._filter(name, value)

    def _filter(self, name: str, value: str) -> bool:
        code, colon, modifier = name.partition(":")
        if "." in name or code in _LATER:
            return self._drop(name, f"'{name[:80]}' is not supported yet")
        param = self._find(self.type, code)
        if param is not None:
            self.filters.append(self._criterion(name, param, modifier if colon else None, value))
        return param is not None

    def _find(self, resource_type: str, code: str) -> Param | None:
        broken, params = self.lookup(resource_type)
        if code in params:
            return params[code]
        if code in broken.failures:
            self._drop(code, f"'{code}' cannot be searched by: {broken.failures[code]}")
            return None
        near = get_close_matches(code[:64], params, n=1)
        self._drop(code, f"{resource_type} has no search parameter '{code[:80]}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        return None

    def _drop(self, name: str, reason: str) -> bool:
        if self.strict:
            raise Outcome("parameter", reason, code="not-supported")
        self.ignored.append((name, reason))
        return False

    def _criterion(self, name: str, param: Param, modifier: str | None, value: str) -> Criterion:
        if modifier == "missing":
            if value not in {"true", "false"}:
                raise _refused(name, f"is true or false, not '{value[:80]}'")
            return Criterion(param, (value == "true",), "missing")
        alternatives = [text for text in split(value, ",") if text]
        if len(alternatives) > MAX_ALTERNATIVES:
            raise _refused(name, f"has {len(alternatives)} alternatives; {MAX_ALTERNATIVES} are the most")
        if len(alternatives) + sum(len(criterion.values) for criterion in self.filters) > MAX_COMPARED:
            raise Outcome("parameter", f"A search compares with at most {MAX_COMPARED:,} values", code="too-long")
        if max(map(len, alternatives)) > MAX_VALUE:
            raise _refused(name, f"has a value longer than {MAX_VALUE} characters")
        how = self._modifier(name, param, modifier)
        try:
            values = tuple(self._value(param, text, how) for text in alternatives)
        except (ValueError, OverflowError) as error:
            raise _refused(name, str(error)) from None
        return Criterion(param, values, "not" if modifier == "not" else None)

    def _modifier(self, name: str, param: Param, modifier: str | None) -> str | None:
        if modifier is None or modifier in KINDS[param.type].MODIFIERS:
            return modifier
        if param.type == "reference" and modifier in self.context.types:
            if param.targets and modifier not in param.targets:
                raise _refused(name, f"cannot point to {modifier}, only to {', '.join(param.targets)}")
            return modifier
        said = f"The modifier ':{modifier[:80]}' of the {param.type} parameter '{param.code}' is not supported"
        raise Outcome("parameter", said, code="not-supported")

    def _value(self, param: Param, text: str, modifier: str | None) -> Any:
        if param.code == "_id":
            return unescape(text)
        return KINDS[param.type].parse(text, modifier, param.targets, self.context)

    def _sort(self, value: str) -> bool:
        keys = [key for key in value.split(",") if key]
        if len(keys) > MAX_SORT_KEYS:
            raise _refused("_sort", f"has {len(keys)} keys; {MAX_SORT_KEYS} are the most")
        for key in keys:
            param = self._find(self.type, key.removeprefix("-"))
            if param is None:
                continue
            if param.sortable:
                self.sort.append(SortKey(param, key.startswith("-")))
            else:
                self._drop("_sort", f"{param.type} parameters such as '{param.code}' cannot be sorted by")
        return bool(self.sort)

    def _include(self, name: str, value: str) -> bool:
        direction, _, modifier = name.partition(":")
        if modifier:
            raise Outcome("parameter", f"The modifier ':{modifier[:80]}' of '{direction}' is not supported", code="not-supported")
        reverse = direction == "_revinclude"
        include = Include(self.type, "*") if value == "*" and not reverse else self._include_of(direction, value)
        if include is not None:
            (self.revincludes if reverse else self.includes).append(include)
        return include is not None

    def _include_of(self, direction: str, value: str) -> Include | None:
        source, _, rest = value.partition(":")
        code, _, target = rest.partition(":")
        if not code or source not in self.context.types or (target and target not in self.context.types):
            raise _refused(direction, f"is [type]:[parameter] or [type]:[parameter]:[target type], not '{value[:80]}'")
        if code != "*":
            param = self._find(source, code)
            if param is None:
                return None
            if param.type != "reference":
                raise _refused(direction, f"needs a reference parameter; '{code}' is of type {param.type}")
        return Include(source, code, target or None)


def parse(lookup: Lookup, context: Context, resource_type: str, params: Sequence[tuple[str, str]], *, strict: bool) -> Query:
    """The Query of decoded parameters in their order. Raises Outcome `parameter`."""
    if len(params) > MAX_PARAMETERS:
        raise Outcome("parameter", f"A search has at most {MAX_PARAMETERS} parameters, not {len(params)}", code="too-long")
    reader = _Reader(lookup, context, resource_type, strict)
    for name, value in params:
        _refuse_unprintable(name, value)
        reader.read(name, value)
    for name, allowed in _CHOICES.items():
        if reader.single.get(name, allowed[0]) not in allowed:
            raise _refused(name, f"is one of {', '.join(allowed)}, not '{reader.single[name][:80]}'")
    count = _count(reader.single.get("_count"))
    summary: Any = reader.single.get("_summary")
    total: Any = reader.single.get("_total")
    return Query(
        resource_type,
        filters=tuple(reader.filters),
        sort=tuple(reader.sort),
        count=count,
        total=total,
        summary="count" if count == 0 else summary,
        elements=tuple(dict.fromkeys(reader.elements)),
        includes=tuple(dict.fromkeys(reader.includes)),
        revincludes=tuple(dict.fromkeys(reader.revincludes)),
        cursor=reader.single.get("_cursor"),
        applied=tuple(reader.applied),
        ignored=tuple(reader.ignored),
    )


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not _COUNT.fullmatch(text):
        raise _refused("_count", f"is a whole number from 0, not '{text[:80]}'")
    return min(int(text), MAX_COUNT)


def _elements(value: str) -> list[str]:
    names = [name for name in value.split(",") if name]
    for name in names:
        if not _ELEMENT.fullmatch(name):
            raise _refused("_elements", f"names elements, and '{name[:80]}' is no name")
    return names


def _refuse_unprintable(name: str, value: str) -> None:
    for text in (name, value):
        if "\0" in text or not _is_unicode(text):
            raise Outcome("parameter", f"The parameter {name[:80]!a} contains characters that no text has")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(name: str, fault: str) -> Outcome:
    return Outcome("parameter", f"{name[:80]} {fault}")
