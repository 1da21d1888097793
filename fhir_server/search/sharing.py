"""Which search parameters leave their rows to others, whose rows say the same.

`combo-code` asks for what `code` and `component-code` have between them, so it is searched under their two numbers and has no rows. `subject` has
what `patient` has, and what points to something else: it keeps rows of that alone. Which parameters stand so to each other the places tell that
their expressions lead to, whatever their names. Of the rows of a lab result a quarter were such copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Final

Spot = tuple[Hashable, str | None]
"""A place that rows are made at, and the type that references there have to point to; None for any type but those that some parameter names there."""

MOST_NUMBERS: Final = 4
"""Numbers that one parameter may be searched under: each is a range of an index of its own."""


def shared(spots: Mapping[int, Collection[Spot]], keep: Collection[int | None]) -> dict[int, tuple[int, ...]]:
    """The numbers that rows of each parameter stand under, its own first if it has rows of its own; by its number.

    `spots` are where each of them finds its values; `keep` are parameters that have all of their rows themselves.
    """
    found: dict[int, tuple[int, ...]] = {}
    at: defaultdict[Spot, set[int]] = defaultdict(set)
    for pid in sorted(spots, key=lambda pid: (len(spots[pid]), pid not in keep, pid)):
        own = set(spots[pid])
        parts = {other for spot in own for other in at[spot] if own.issuperset(spots[other])}
        found[pid] = (pid,) if pid in keep else _numbers(pid, own, sorted(parts, key=lambda other: (-len(spots[other]), other)), spots, found)
        for spot in own:
            at[spot].add(pid)
    return found


def elsewhere(spots: Mapping[int, Collection[Spot]], found: Mapping[int, tuple[int, ...]]) -> list[tuple[int, str, int]]:
    """(number, type, other number) for each whose rows that point to a type stand under another number, which has no others."""
    return [
        (pid, name, other) for pid, (first, *others) in found.items() if first == pid for other in others for name in _names(spots[other]) if name
    ]


def _numbers(
    pid: int, own: set[Spot], parts: Iterable[int], spots: Mapping[int, Collection[Spot]], found: Mapping[int, tuple[int, ...]]
) -> tuple[int, ...]:
    left, numbers = set(own), dict[int, None]()
    for part in parts:
        if not left.isdisjoint(spots[part]):
            left.difference_update(spots[part])
            numbers |= dict.fromkeys(found[part])
    if left:
        numbers = {pid: None, **numbers}
    return tuple(numbers) if (not left or _is_rest(own, left)) and len(numbers) <= MOST_NUMBERS else (pid,)


def _is_rest(own: set[Spot], left: set[Spot]) -> bool:
    """Whether what is left is what points to none of certain types, the same at every place."""
    named: defaultdict[Hashable, set[str | None]] = defaultdict(set)
    for place, name in own:
        named[place].add(name)
    return left == {(place, None) for place in named} and len({frozenset(names) for names in named.values()}) == 1


def _names(spots: Iterable[Spot]) -> set[str | None]:
    return {name for _, name in spots}
