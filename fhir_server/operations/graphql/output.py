"""What was found as JSON, put into the shape that the directives ask for.

https://hl7.org/fhir/R4/graphql.html#flattening
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .faults import Fault
from .fields import Field


class Sliced(NamedTuple):
    """One of a list that @slice takes apart, with what is added to names for it, as `.official`."""

    suffix: str
    value: Any


@dataclass(slots=True)
class Later:
    """Holds the place of a value that another statement brings; `there` tells whether it came."""

    value: Any = None
    there: bool = False

    def put(self, value: Any) -> None:
        """Fills it."""
        self.value, self.there = value, True


@dataclass(slots=True)
class Item:
    """An object: its fields in order with their values, which are plain, Items, lists of these, or come Later."""

    found: list[tuple[Field, Any]] = field(default_factory=list)


def shaped(item: Item) -> dict[str, Any]:
    """The JSON object of an item. Raises Fault where a @singleton has several values, or where fields of several types come together."""
    made = _Object()
    made.take(item, "", listing=False)
    return made.values


@dataclass(slots=True)
class _Object:
    values: dict[str, Any] = field(default_factory=dict)
    collated: dict[str, str] = field(default_factory=dict)

    def take(self, item: Item, suffix: str, *, listing: bool) -> None:
        """Adds the fields of an item; `listing` tells that it is one of several that are laid together."""
        for each, value in item.found:
            if isinstance(value, Later):
                if not value.there:
                    continue
                value = value.value  # noqa: PLW2901 - the same value, now that it is there
            for part in value if each.slice is not None else (Sliced("", value),):
                self._add(each, part.value, suffix + part.suffix, listing=listing)

    def _add(self, each: Field, value: Any, suffix: str, *, listing: bool) -> None:
        if each.flatten:
            for inner in value if isinstance(value, list) else [value]:
                # The list of a primitive's extensions has gaps.
                if inner is not None:
                    self.take(inner, suffix, listing=listing or each.many)
            return
        name = each.key + suffix
        plain = _plain(value)
        if (listing or each.singleton) and self.collated.setdefault(name, each.type) != each.type:
            raise Fault(f"'{name}' would put {self.collated[name]} and {each.type} into one list", each.node)
        if each.singleton:
            self._single(each, name, plain)
        elif listing:
            self.values.setdefault(name, []).extend(plain if isinstance(plain, list) else [plain])
        else:
            self.values[name] = _both(self.values[name], plain, each, name) if name in self.values else plain

    def _single(self, each: Field, name: str, plain: Any) -> None:
        listed = plain if isinstance(plain, list) else [plain]
        if len(listed) + (name in self.values) > 1:
            raise Fault(f"'{name}' is a @singleton, but has several values; choose one with @first", each.node)
        if listed:
            self.values[name] = listed[0]


def _plain(value: Any) -> Any:
    if isinstance(value, Item):
        return shaped(value)
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _both(one: Any, other: Any, each: Field, name: str) -> Any:
    """Two selections of the same value, as of a reference by several types."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{key: _both(one[key], value, each, key) if key in one else value for key, value in other.items()}}
    if one != other:
        raise Fault(f"'{name}' stands for two values; give one of them another name", each.node)
    return one
