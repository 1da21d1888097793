"""Elements that stand in a resource: where, of which type, and what a primitive has beside its value."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from fhir_server.spec import Element, Spec


class Item(NamedTuple):
    """An element that is there. `beside` is the `_x` of a primitive, `path` in FHIRPath's words.

    `within` is the innermost resource, `root` the one that contains that, or the same.
    """

    path: str
    value: Any
    beside: Any
    type: str
    within: dict[str, Any]
    root: dict[str, Any]

    @property
    def fields(self) -> dict[str, Any]:
        """Its own elements by property, none for a primitive without extensions."""
        for each in (self.value, self.beside):
            if isinstance(each, dict):
                return each
        return {}


class Reader:
    """Finds the children of elements. What is not as its type says it is no element."""

    def __init__(self, spec: Spec) -> None:
        """Takes the types."""
        self._spec = spec
        self.elements = cache(self._elements)

    def root(self, resource: dict[str, Any], path: str) -> Item:
        """A resource as an element."""
        return Item(path, resource, None, self._type(resource, "Resource"), resource, resource)

    def children(self, item: Item, name: str) -> list[Item]:
        """What an element has under a name, or under any of those of a choice (`value[x]`), in the order of a list."""
        fields = item.fields
        found: list[Item] = []
        for element in self.elements(item.type, name):
            key = element.key
            if key in fields or f"_{key}" in fields:
                self._add(found, item, element, fields.get(key), fields.get(f"_{key}"))
        return found

    def every(self, item: Item) -> list[Item]:
        """All children of an element."""
        definition = self._spec.types.get(item.type)
        fields = item.fields
        found: list[Item] = []
        for element in definition.elements.values() if definition is not None else ():
            key = element.key
            if key in fields or f"_{key}" in fields:
                self._add(found, item, element, fields.get(key), fields.get(f"_{key}"))
        return found

    def _elements(self, parent: str, name: str) -> tuple[Element, ...]:
        """The elements of a type that a name stands for: one, or those of a choice."""
        definition = self._spec.types.get(parent)
        stem = name.removesuffix("[x]")
        return () if definition is None else tuple(e for e in definition.elements.values() if e.name == stem or e.key == name)

    def _add(self, found: list[Item], item: Item, element: Element, value: Any, beside: Any) -> None:
        path = f"{item.path}.{element.name}"
        values = value if isinstance(value, list) else [value]
        besides = beside if isinstance(beside, list) else [beside]
        for n in range(max(len(values), len(besides))):
            one = values[n] if n < len(values) else None
            other = besides[n] if n < len(besides) else None
            if one is None and other is None:
                continue
            place = f"{path}[{n}]" if isinstance(value, list) or isinstance(beside, list) else path
            kind = self._type(one, element.type)
            within, root = item.within, item.root
            if element.type == "Resource" and isinstance(one, dict):
                within, root = one, root if element.name == "contained" else one
            found.append(Item(place, one, other, kind, within, root))

    def _type(self, value: Any, declared: str) -> str:
        if declared != "Resource" or not isinstance(value, dict):
            return declared
        name = value.get("resourceType")
        return name if isinstance(name, str) and name in self._spec.types else declared
