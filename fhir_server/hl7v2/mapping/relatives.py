"""Reports that hang together: the parent result that OBR-26 names, as the organism whose susceptibilities a report tells.

https://www.hl7.eu/refactored/ch07.html (OBR-26 parent result, OBR-29 parent)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from fhir_server.hl7v2.text.message import Segment

from .structure import Group

_Key = TypeVar("_Key")
_Index = Mapping[_Key, Sequence[Segment]]
_RESULT: Final = 26
_MOST: Final = 100
"""Results that are looked at for a parent, the last ones first."""
_NUMBERS: Final = ((29, 1, 2), (50, 1, 0), (54, 1, 2))
"""Fields of OBR that say which order the parent is: the field, and its components for the placer's number and the filler's."""


def relatives(placed: Sequence[tuple[Group, Segment]]) -> Iterator[tuple[Segment, Segment]]:
    """Of all segments with their groups the pairs of OBX: a result, and the parent that it belongs to. Costs nothing where no OBR names a parent."""
    orders = [(group, segment) for group, segment in placed if segment.name == "OBR"]
    if not any(order.get(_RESULT) for _, order in orders):
        return
    by_number: dict[tuple[str, str], list[Segment]] = defaultdict(list)
    by_code: dict[str, list[Segment]] = defaultdict(list)
    for group, order in orders:
        results = list(_results(group))
        if order.get(_RESULT):
            parent = _parent(order, by_number, by_code)
            if parent is not None:
                yield from ((result, parent) for result in results)
        for number in _own(group, order):
            by_number[number] += results
        for result in results:
            by_code[result.get(3)].append(result)


def _parent(child: Segment, by_number: _Index[tuple[str, str]], by_code: _Index[str]) -> Segment | None:
    """The result that a report belongs to: of the order that it names, else of any before it, the last one that it can be."""
    told = child.repetitions(_RESULT)[0]
    code, place, text = told.component(1), told.component(2), told.component(3)
    numbers = _numbers(child)
    of_order = [result for number in sorted(numbers) for result in by_number.get(number, ())[-_MOST:]]
    results = of_order or ([] if numbers else by_code.get(code, [])[-_MOST:])
    candidates = [result for result in results if result.get(3) == code and (not place or result.get(4) == place)]
    named = [result for result in candidates if text and text in {part for each in result.repetitions(5) for part in (each.text, each.component(2))}]
    return next(reversed(named or candidates), None)


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
