"""`_filter`: an expression over search parameters, read into the same filters that the parameters themselves make.

https://hl7.org/fhir/R4/search_filter.html

`and` and `or` are taken from left to right, neither before the other, as the specification has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fhir_server.outcome import Outcome

from .filters import Filters
from .query import AllOf, AnyOf, Coded, Criterion, Filter, Not, Param

MAX_TESTS: Final = 100
"""Comparisons in one expression."""
MAX_DEPTH: Final = 20

_TOKEN: Final = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([()\[\]])|([^\s()\[\]"]+))', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_BY_PREFIX: Final = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb"})
_BY_TYPE: Final[dict[str, dict[str, str | None]]] = {
    "string": {"eq": "equals", "co": "contains", "sw": None, "ew": "ends"},
    "reference": {"eq": None, "re": None},
    "uri": {"eq": None, "ss": "above", "sb": "below"},
    **{key: {} for key in ("date", "number", "quantity")},
}
"""Operators beside the prefixes, each with the modifier that means the same."""
_OPERATORS: Final = _BY_PREFIX | {"co", "sw", "ew", "pr", "po", "ss", "sb", "in", "ni", "re"}
_OF_CODES: Final[dict[str, tuple[Literal["in", "below", "above"], bool]]] = {
    "ss": ("above", False),
    "sb": ("below", False),
    "in": ("in", False),
    "ni": ("in", True),
}


def read_expression(filters: Filters, types: Sequence[str], text: str) -> Filter:
    """The filter of an expression over parameters of some types.

    Raises Outcome `parameter` with the place of what is not understood, and `filters.Unknown` for a parameter that is not there.
    """
    reader = _Reader(filters, _tokens(text))
    found = reader.either(types, 0)
    if reader.at < len(reader.tokens):
        raise reader.fault("'and', 'or' or the end")
    return found


def _tokens(text: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            begins = end - len(text[at:end].lstrip()) + 1
            raise Outcome("parameter", f"_filter: the text that begins at character {begins} has no end")
        found.append((match.end() - len(match[0].lstrip()) + 1, match[0].lstrip()))
        at = match.end()
    return found


@dataclass(slots=True)
class _Reader:
    filters: Filters
    tokens: list[tuple[int, str]]
    at: int = 0
    tests: int = 0

    def fault(self, expected: str) -> Outcome:
        if self.at < len(self.tokens):
            place, token = self.tokens[self.at]
            return Outcome("parameter", f"_filter: expected {expected} at character {place}, not '{token[:40]}'")
        return Outcome("parameter", f"_filter: expected {expected} at its end")

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def next(self, expected: str) -> str:
        if self.at >= len(self.tokens):
            raise self.fault(expected)
        self.at += 1
        return self.tokens[self.at - 1][1]

    def skip(self, token: str) -> None:
        if self.peek() != token:
            raise self.fault(f"'{token}'")
        self.at += 1

    def either(self, types: Sequence[str], depth: int) -> Filter:
        """Filters with `and` and `or` between them."""
        if depth > MAX_DEPTH:
            raise Outcome("parameter", f"_filter is nested deeper than {MAX_DEPTH} times", code="too-costly")
        found = self._one(types, depth)
        while (word := self.peek()) in {"and", "or"}:
            self.at += 1
            other = self._one(types, depth)
            found = AllOf((found, other)) if word == "and" else AnyOf((found, other))
        return found

    def _one(self, types: Sequence[str], depth: int) -> Filter:
        word = self.next("a parameter, 'not' or '('")
        if word == "not":
            self.skip("(")
            return Not(self._rest_of_group(types, depth))
        if word == "(":
            return self._rest_of_group(types, depth)
        self.at -= 1
        return self._test(types, depth)

    def _rest_of_group(self, types: Sequence[str], depth: int) -> Filter:
        found = self.either(types, depth + 1)
        self.skip(")")
        return found

    def _test(self, types: Sequence[str], depth: int) -> Filter:
        """`path operator value`, where `a.b` and `a[filter].b` go on to what a reference points to."""
        self.tests += 1
        if self.tests > MAX_TESTS:
            raise Outcome("parameter", f"_filter has more than {MAX_TESTS} comparisons", code="too-costly")
        path = self.next("a parameter")
        if path[0] in '"()[]':
            self.at -= 1
            raise self.fault("a parameter")
        if self.peek() == "[":
            self.at += 1
            return self._bracket(types, path, depth)
        return self._along(types, path.split("."), self._comparison())

    def _bracket(self, types: Sequence[str], path: str, depth: int) -> Filter:
        """What is in brackets is read once for every type that the reference may point to."""
        *before, last = path.split(".")
        start = end = self.at

        def inner(target: str) -> Filter:
            nonlocal end
            self.at = start
            within = self.either((target,), depth + 1)
            self.skip("]")
            rest = self.next("'.' and a parameter")
            if not rest.startswith("."):
                self.at -= 1
                raise self.fault("'.' and a parameter")
            found = AllOf((within, self._along((target,), rest[1:].split("."), self._comparison())))
            end = self.at
            return found

        def outer(current: Sequence[str], names: list[str]) -> Filter:
            if not names:
                return self.filters.chained(current, last, inner)
            return self.filters.chained(current, names[0], lambda target: outer((target,), names[1:]))

        found = outer(types, before)
        self.at = end
        return found

    def _along(self, types: Sequence[str], names: list[str], compare: Callable[[Sequence[str], str], Filter]) -> Filter:
        if len(names) == 1:
            return compare(types, names[0])
        return self.filters.chained(types, names[0], lambda target: self._along((target,), names[1:], compare))

    def _comparison(self) -> Callable[[Sequence[str], str], Filter]:
        operator = self.next("an operator")
        if operator not in _OPERATORS:
            self.at -= 1
            raise self.fault(f"one of {', '.join(sorted(_OPERATORS))}")
        value = self.next("a value")
        if value in {"(", ")", "[", "]"}:
            self.at -= 1
            raise self.fault("a value")
        quoted = value.startswith('"')
        text = _ESCAPED.sub(r"\1", value[1:-1]) if quoted else value

        def compare(types: Sequence[str], name: str) -> Filter:
            param = self.filters.find(types, name)
            return _compared(self.filters, param, operator, text, quoted=quoted)

        return compare


def _compared(filters: Filters, param: Param, operator: str, text: str, *, quoted: bool) -> Filter:
    name = f"_filter: {param.code} {operator}"
    if operator == "pr":
        if text not in {"true", "false"}:
            raise Outcome("parameter", f"{name} is true or false, not '{text[:80]}'")
        return Criterion(param, (text == "false",), "missing")
    if operator == "ne":
        return Not(_compared(filters, param, "eq", text, quoted=quoted))
    if param.type == "token" and operator in _OF_CODES:
        how, negated = _OF_CODES[operator]
        return Coded(param, how, (text,), negated)
    # What is quoted is one value, whatever stands in it; unquoted, the separators of `system|code` have their meaning.
    escaped = re.sub(r"([\\,|$])", r"\\\1", text) if quoted else text
    filters.compared += 1
    read = _reading(param, operator)
    if read is None:
        raise Outcome("parameter", f"{name}: {param.type} parameters cannot be compared so", code="not-supported")
    prefix, modifier = read
    value = filters.value(name, param, prefix + (text if prefix else escaped), modifier)
    return Criterion(param, (value._replace(prefix="ap") if operator == "po" else value,))


def _reading(param: Param, operator: str) -> tuple[str, str | None] | None:
    """The prefix and the modifier that mean the same as an operator; None where the type has nothing like it."""
    if param.type in {"date", "number", "quantity"} and operator in _BY_PREFIX:
        return operator, None
    if param.type == "date" and operator == "po":
        return "eq", None
    modifiers = _BY_TYPE.get(param.type, {"eq": None})
    return ("", modifiers[operator]) if operator in modifiers else None
