"""Reports that hang together: the parent result that OBR-26 names, as the organism whose susceptibilities a report tells.

https://www.hl7.eu/refactored/ch07.html (OBR-26 parent result, OBR-29 parent)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fhir_server.hl7v2.message import Segment

from .structure import Group

_RESULT: Final = 26
_NUMBERS: Final = ((29, 1, 2), (50, 1, 0), (54, 1, 2))
"""Fields of OBR that say which order the parent is: the field, and its components for the placer's number and the filler's."""


def relatives(root: Group) -> Iterator[tuple[Segment, Segment]]:
    """Pairs of OBX: a result, and the parent in the same message that it belongs to. Costs nothing where no OBR names a parent."""
    orders: list[tuple[Group, Segment]] = []
    for group, segment in root.walk():
        if segment.name != "OBR":
            continue
        if segment.get(_RESULT):
            parent = _parent(segment, orders)
            if parent is not None:
                yield from ((result, parent) for result in _results(group))
        orders.append((group, segment))


def _parent(child: Segment, orders: Sequence[tuple[Group, Segment]]) -> Segment | None:
    """The result that a report belongs to: of the order that it names, else of any before it, the last one that it can be."""
    told = child.repetitions(_RESULT)[0]
    code, place, text = told.component(1), told.component(2), told.component(3)
    numbers = _numbers(child)
    of_order = [group for group, order in orders if numbers & _own(group, order)]
    candidates = [
        result
        for group in of_order or ([] if numbers else [group for group, _ in orders])
        for result in _results(group)
        if result.get(3) == code and (not place or result.get(4) == place)
    ]
    named = [result for result in candidates if text and text in (each.text for each in result.repetitions(5))] or candidates
    return named[-1] if named else None


def _numbers(child: Segment) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for number, placer, filler in _NUMBERS:
        for value in child.repetitions(number)[:1]:
            found |= {("placer", value.component(placer)), ("filler", value.component(filler) if filler else "")}
    return {each for each in found if each[1]}


def _own(group: Group, order: Segment) -> set[tuple[str, str]]:
    common = next((segment for segment in group.segments if segment.name == "ORC"), None)
    found = {("placer", order.get(2)), ("filler", order.get(3))}
    if common is not None:
        found |= {("placer", common.get(2)), ("filler", common.get(3))}
    return found


def _results(group: Group) -> Iterator[Segment]:
    for inner in group.inner:
        yield from (segment for segment in inner.segments if segment.name == "OBX")
