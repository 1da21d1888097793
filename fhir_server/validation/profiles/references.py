"""Where references lead within what is checked: to contained resources, and to entries of the same Bundle.

https://hl7.org/fhir/R4/bundle.html#references. Of what is elsewhere only the type is known that the reference tells.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Final

from fhir_server.spec import Spec

from .items import Item, Reader

_TYPED: Final = re.compile(r"(?:^|/)([A-Za-z]{1,64})(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|\?\S{1,2000})$")
_MOST: Final = 20_000


class References:
    """Resolves the references of one resource, or of a Bundle."""

    def __init__(self, spec: Spec, reader: Reader, outer: dict[str, Any]) -> None:
        """Takes the outermost resource."""
        self._spec = spec
        self._reader = reader
        self._outer = outer
        self._inner: dict[int, dict[str, Item]] = {}

    def resolved(self, item: Item) -> Item | None:
        """The resource that a Reference points to; one with its type alone where it is elsewhere; None where not even that is known."""
        reference = item.fields.get("reference")
        if not isinstance(reference, str):
            return self._typed(item, item.fields.get("type"))
        if reference.startswith("#"):
            return self._contained(item, reference[1:])
        entry = self._entries.get(reference)
        if entry is not None:
            return entry
        match = _TYPED.search(reference[:2_500])
        return self._typed(item, match[1] if match else item.fields.get("type"))

    def _typed(self, item: Item, name: object) -> Item | None:
        if not isinstance(name, str) or name not in self._spec.types:
            return None
        resource = {"resourceType": name}
        return Item(item.path, resource, None, name, resource, resource)

    def _contained(self, item: Item, name: str) -> Item | None:
        if not name:
            return self._reader.root(item.root, str(item.root.get("resourceType", "")))
        return self._contained_in(item.root).get(name)

    def _contained_in(self, root: dict[str, Any]) -> dict[str, Item]:
        """What a resource contains, by id; worked out once, since thousands of references may ask."""
        if id(root) not in self._inner:
            path = self._paths.get(id(root), str(root.get("resourceType", "")))
            table: dict[str, Item] = {}
            for each in self._reader.children(self._reader.root(root, path), "contained"):
                table.setdefault(str(each.fields.get("id")), each)
            self._inner[id(root)] = table
        return self._inner[id(root)]

    @cached_property
    def _paths(self) -> dict[int, str]:
        """Where the resources of a Bundle stand."""
        return {id(each.value): each.path for each in self._entries.values()}

    @cached_property
    def _entries(self) -> dict[str, Item]:
        """The resources of a Bundle by fullUrl, and by type and id."""
        table: dict[str, Item] = {}
        if self._outer.get("resourceType") != "Bundle":
            return table
        for entry in self._reader.children(self._reader.root(self._outer, "Bundle"), "entry")[:_MOST]:
            url = entry.fields.get("fullUrl")
            for resource in self._reader.children(entry, "resource"):
                if isinstance(url, str):
                    table.setdefault(url, resource)
                table.setdefault(f"{resource.type}/{resource.fields.get('id')}", resource)
        return table
