"""Composite parameters: values of two or three parameters that must hold in one and the same element.

https://hl7.org/fhir/R4/search.html#composite

A row is the rows of its parts side by side, in the columns of the one table that holds parts of these types. A value is the tuple of the parts'
values in the order of the definition, which may be another: `DocumentReference?relationship=` asks for reference and code, the table has code and
reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from fhir_server.search.statement import Statement, any_of
from fhir_server.spec import Element

from . import date, number, quantity, reference, string, token
from .kind import Context, Kind, Maker, Row, split

_KINDS: Final[MappingProxyType[str, Kind]] = MappingProxyType(
    {"date": date, "number": number, "quantity": quantity, "reference": reference, "string": string, "token": token}
)
_TABLES: Final = (
    ("token", "token"),
    ("token", "string"),
    ("token", "date"),
    ("token", "quantity"),
    ("token", "reference"),
    ("token", "number", "number"),
)
_QUANTITY_COLUMNS: Final = 8
_OTHER_COLUMNS: Final = 2
_PREFIXES: Final = ("a_", "b_", "c_")
_ORDINALS: Final = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Composite:
    """The kind of parameters with parts of certain types. `order` are the numbers of the parts in the order of the table's columns."""

    types: tuple[str, ...]
    targets: tuple[tuple[str, ...], ...]
    order: tuple[int, ...]

    @property
    def TABLE(self) -> str:  # noqa: N802 - as modules have it
        """The table of its rows."""
        return "_".join(("sp", *(self.types[part] for part in self.order)))

    @property
    def MODIFIERS(self) -> frozenset[str]:  # noqa: N802
        """None: a modifier would have to say of which part."""
        return frozenset()

    @property
    def ORDER(self) -> None:  # noqa: N802
        """No order."""

    def maker(self, fhir_type: str, element: Element | None, context: Context) -> Maker | None:
        """None: what the parts are made of lies in several elements; `search.composites` makes the rows."""
        del fhir_type, element, context
        return None

    def parse(self, text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> tuple[Any, ...]:
        """The parts with `$` between them, each as its own parameter has it: `8480-6$gt140`."""
        del modifier, targets
        parts = split(text, "$")
        if len(parts) != len(self.types) or not all(parts):
            raise ValueError(f"is not {'$'.join(f'[{name}]' for name in self.types)}: '{text[:80]}'")
        return tuple(self._part(part, number, context) for number, part in enumerate(parts))

    def _part(self, text: str, number: int, context: Context) -> Any:
        name = self.types[number]
        try:
            return _KINDS[name].parse(text, None, self.targets[number], context)
        except ValueError as error:
            raise ValueError(f"has a {_ORDINALS[number]} part, of type {name}, that {error}") from None

    def ends(self, row: Row) -> tuple[Any, Any]:
        """Nothing that could be sorted by."""
        raise TypeError(f"rows of {self.TABLE} have no order: {row}")

    def predicate(self, values: Sequence[tuple[Any, ...]], at: str) -> Statement:
        """All parts hold: a range of the index by the first column, and by the second part within it."""
        return any_of(self._condition(value, at) for value in dict.fromkeys(values))

    def _condition(self, value: tuple[Any, ...], at: str) -> Statement:
        first, *others = (_KINDS[self.types[part]].predicate([value[part]], at + prefix) for part, prefix in zip(self.order, _PREFIXES, strict=False))
        for other in others:
            first = first.and_(other)
        return first

    def matches(self, value: tuple[Any, ...], row: Row) -> bool:
        """All parts hold."""
        start = 0
        for part in self.order:
            name = self.types[part]
            after = start + (_QUANTITY_COLUMNS if name == "quantity" else _OTHER_COLUMNS)
            if not _KINDS[name].matches(value[part], row[start:after]):
                return False
            start = after
        return True


@lru_cache(maxsize=256)
def kind(types: tuple[str, ...], targets: tuple[tuple[str, ...], ...] = ()) -> Composite:
    """The kind for parts of these types; `targets` are what each of them may point to, if it is a reference. KeyError where no table holds them."""
    for table in _TABLES:
        if sorted(table) == sorted(types):
            order: list[int] = []
            for name in table:
                order.append(next(part for part, its in enumerate(types) if its == name and part not in order))
            return Composite(types, targets or ((),) * len(types), tuple(order))
    raise KeyError(f"no table holds {', '.join(types)} side by side")
