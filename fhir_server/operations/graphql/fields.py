"""A field of a query as a value, and how names are written in GraphQL. https://hl7.org/fhir/R4/graphql.html#fields"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Literal

from graphql.language import FieldNode, SelectionSetNode

QUERY: Final = "Query"
"""The type of what a query of the whole system begins with."""

Kind = Literal["typename", "plain", "primitive", "complex", "inner", "resource", "read", "list", "connection"]
Selections = tuple[SelectionSetNode, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field of a selection. `key` is its name in the output, `name` that of what it is.

    `type` is that of its value: a type of the specification, `Resource` where the value tells, `PatientConnection` and `PatientEdge` as GraphQL has
    them. `targets` are the resource types that may be met, empty for any. `filters` are values that sub-elements must have one of.
    """

    node: FieldNode
    key: str
    name: str
    kind: Kind
    type: str
    many: bool = False
    targets: tuple[str, ...] = ()
    args: dict[str, Any] = field(default_factory=dict)
    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    selections: Selections = ()
    flatten: bool = False
    first: bool = False
    singleton: bool = False
    slice: str | None = None


def display_name(type_name: str) -> str:
    """A type's name in GraphQL: `PatientContact` for `Patient.contact`."""
    return "".join(part[0].upper() + part[1:] for part in type_name.split("."))


def search_name(argument: str) -> str:
    """The search parameter of an argument: names in GraphQL have no hyphens."""
    return argument[0] + argument[1:].replace("_", "-")


def as_text(value: Any) -> str:
    """A single value as the text that it is compared by."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def nearest(name: str, names: Iterable[str]) -> str:
    """What to say of a name that is not known: the one that is most like it, or nothing."""
    near = get_close_matches(name[:64], list(names), 1)
    return f"; did you mean '{near[0]}'?" if near else ""
