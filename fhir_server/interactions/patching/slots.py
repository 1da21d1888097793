"""An element of a decoded object as a list of occurrences, each with its value and the `_x` object beside it.

https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_server.spec import Element


class Occurrence(NamedTuple):
    """One occurrence: `value` is None where a primitive has extensions only, `sibling` None where it has no id or extension."""

    value: Any
    sibling: Any = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to put anywhere."""
        return self.value is None and self.sibling is None


def read(holder: dict[str, Any], key: str) -> list[Occurrence]:
    """The occurrences of a property in order; empty if it is not there. Costs time in their number."""
    values, siblings = holder.get(key), holder.get("_" + key)
    if type(values) is not list and type(siblings) is not list:
        single = Occurrence(values, siblings)
        return [] if single.empty else [single]
    values = values if type(values) is list else []
    siblings = siblings if type(siblings) is list else []
    length = max(len(values), len(siblings))
    values, siblings = values + [None] * (length - len(values)), siblings + [None] * (length - len(siblings))
    return [Occurrence(value, sibling) for value, sibling in zip(values, siblings, strict=True)]


def write(holder: dict[str, Any], element: Element, occurrences: list[Occurrence]) -> None:
    """Makes these the occurrences of the element; a property that stays keeps its place among the others."""
    values: list[Any] = [occurrence.value for occurrence in occurrences]
    siblings: list[Any] = [occurrence.sibling for occurrence in occurrences]
    for key, items in ((element.key, values), ("_" + element.key, siblings)):
        if all(item is None for item in items):
            holder.pop(key, None)
        else:
            holder[key] = items if element.many else items[0]
