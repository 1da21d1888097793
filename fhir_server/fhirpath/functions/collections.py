"""Existence, filtering, subsetting and combining.

https://hl7.org/fhirpath/N1/#existence, #filtering-and-projection, #subsetting, #combining
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cmp_to_key
from typing import Final

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import Env, Item, Node, Run
from fhir_server.fhirpath.operators import boolean, key, order, single

from .signature import Function, Lambda, each


def distinct(env: Env, items: list[Item]) -> list[Item]:
    """The items without those equal to an earlier one."""
    env.spend(len(items))
    found: dict[Hashable, Item] = {}
    for item in items:
        found.setdefault(key(item, env), item)
    return list(found.values())


def union(env: Env, items: list[Item], other: list[Item]) -> list[Item]:
    """The distinct items of both."""
    return distinct(env, items + other)


def contains(env: Env, items: list[Item], item: Item) -> bool:
    """Whether an equal item is among the items."""
    return key(item, env) in keys(env, items)


def keys(env: Env, items: list[Item]) -> frozenset[Hashable]:
    """The keys of items, found once for a list that is kept."""
    found = env.sets.get(id(items))
    if found is None:
        env.spend(len(items))
        found = frozenset([key(item, env) for item in items])
        if id(items) in env.sets:
            env.sets[id(items)] = found
    return found


def integer(env: Env, items: list[Item], name: str) -> int:
    """The one integer of an argument; FhirPathError for anything else."""
    value = single(items, env, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FhirPathError(f"{name} takes an integer")
    return value


def _exists(env: Env, items: list[Item], _this: list[Item], criterion: Run | None = None) -> list[Item]:
    if criterion is None:
        return [bool(items)]
    return [any(boolean(result) for result in each(env, items, criterion))]


def _all(env: Env, items: list[Item], _this: list[Item], criterion: Run) -> list[Item]:
    return [all(boolean(result) for result in each(env, items, criterion))]


def _where(env: Env, items: list[Item], _this: list[Item], criterion: Run) -> list[Item]:
    return [item for item, result in zip(items, each(env, items, criterion), strict=True) if boolean(result)]


def _select(env: Env, items: list[Item], _this: list[Item], projection: Run) -> list[Item]:
    results = each(env, items, projection)
    env.spend(sum(map(len, results)))
    return [item for result in results for item in result]


def _repeat(env: Env, items: list[Item], _this: list[Item], projection: Run) -> list[Item]:
    out: dict[Hashable, Item] = {}
    level = items
    while level:
        fresh = []
        for result in each(env, level, projection):
            for item in result:
                mark = _place(env, item)
                if mark not in out:
                    out[mark] = item
                    fresh.append(item)
        level = fresh
    return list(out.values())


def _place(env: Env, item: Item) -> Hashable:
    # An element is the same only as itself: two equal items of a Questionnaire are both found.
    path = item.path() if item.__class__ is Node else ()
    return path or key(item, env)


def _aggregate(env: Env, items: list[Item], _this: list[Item], aggregator: Run, start: Run | None = None) -> list[Item]:
    env.spend(len(items))
    before = env.index, env.total
    env.total = start(_this, env) if start else []
    for index, item in enumerate(items):
        env.index = index
        env.total = aggregator([item], env)
        env.spend(len(env.total))
    result = env.total
    env.index, env.total = before
    return result


def _sort(env: Env, items: list[Item], _this: list[Item], *keys: Run) -> list[Item]:
    env.spend(len(items) * max(len(items).bit_length(), 1))
    columns = [each(env, items, one) for one in keys] or [[[item] for item in items]]
    rows = [(item, [single(column[at], env, "sort()") for column in columns]) for at, item in enumerate(items)]

    def by_columns(left: tuple[Item, list[Item]], right: tuple[Item, list[Item]]) -> int:
        for mine, theirs in zip(left[1], right[1], strict=True):
            if mine is None or theirs is None:
                sign: int | None = (mine is not None) - (theirs is not None)
            elif isinstance(mine, Descending) and isinstance(theirs, Descending):
                sign = order(theirs.value, mine.value)
            else:
                sign = order(mine, theirs)
            if sign:
                return sign
        return 0

    return [item for item, _ in sorted(rows, key=cmp_to_key(by_columns))]


class Descending:
    """A sort key whose order is turned round."""

    __slots__ = ("value",)

    def __init__(self, value: Item) -> None:
        """Takes a System value."""
        self.value = value


def descending(expression: Run) -> Run:
    """The expression as a key that `sort` orders from the greatest to the least."""

    def run(this: list[Item], env: Env) -> list[Item]:
        value = single(expression(this, env), env, "sort()")
        return [] if value is None else [Descending(value)]

    return run


def _booleans(items: list[Item], name: str) -> list[bool]:
    values = [item.value if item.__class__ is Node else item for item in items]
    booleans = [value for value in values if isinstance(value, bool)]
    if len(booleans) < len(values):
        raise FhirPathError(f"{name}() takes booleans only")
    return booleans


def _subset_of(env: Env, items: list[Item], other: list[Item]) -> bool:
    return keys(env, items) <= keys(env, other)


def _single(_env: Env, items: list[Item]) -> list[Item]:
    if len(items) > 1:
        raise FhirPathError(f"single() found {len(items)} items")
    return items


def _skip(env: Env, items: list[Item], count: list[Item]) -> list[Item]:
    return items[max(integer(env, count, "skip()"), 0) :]


def _take(env: Env, items: list[Item], count: list[Item]) -> list[Item]:
    return items[: max(integer(env, count, "take()"), 0)]


def _intersect(env: Env, items: list[Item], other: list[Item]) -> list[Item]:
    wanted = keys(env, other)
    return [item for item in distinct(env, items) if key(item, env) in wanted]


def _exclude(env: Env, items: list[Item], other: list[Item]) -> list[Item]:
    env.spend(len(items))
    unwanted = keys(env, other)
    return [item for item in items if key(item, env) not in unwanted]


def _combine(env: Env, items: list[Item], other: list[Item]) -> list[Item]:
    env.spend(len(items) + len(other))
    return items + other


def _not(_env: Env, items: list[Item]) -> list[Item]:
    value = boolean(items)
    return [] if value is None else [not value]


def _iif(env: Env, items: list[Item], this: list[Item], condition: Run, then: Run, otherwise: Run | None = None) -> list[Item]:
    if len(items) > 1:
        raise FhirPathError(f"iif() takes one item but there are {len(items)}")
    # Called at the head of an expression or on nothing, it sees the focus as it is.
    focus = items or this
    if boolean(condition(focus, env)):
        return then(focus, env)
    return otherwise(focus, env) if otherwise else []


def _trace(_env: Env, items: list[Item], _this: list[Item], _name: Run, _projection: Run | None = None) -> list[Item]:
    return items


def _children(env: Env, items: list[Item]) -> list[Item]:
    out = [child for item in items if item.__class__ is Node for child in env.model.children(item)]
    env.spend(len(items) + len(out))
    return out


def _descendants(env: Env, items: list[Item]) -> list[Item]:
    # dom-3 asks for those of the resource four times for each contained one.
    of_resource = len(items) == 1 and items[0] is env.resource
    if of_resource and env.below is not None:
        return env.below
    out: list[Item] = []
    level = items
    while level:
        level = _children(env, level)
        out += level
    if of_resource:
        env.below = out
    return out


def _count(_env: Env, items: list[Item]) -> list[Item]:
    return [len(items)]


def _is_distinct(env: Env, items: list[Item]) -> list[Item]:
    return [len(distinct(env, items)) == len(items)]


FUNCTIONS: Final[dict[str, Function | Lambda]] = {
    "empty": Function(lambda _env, items: [not items]),
    "exists": Lambda(_exists, 0, 1),
    "all": Lambda(_all, 1, 1),
    "allTrue": Function(lambda _env, items: [all(_booleans(items, "allTrue"))]),
    "anyTrue": Function(lambda _env, items: [any(_booleans(items, "anyTrue"))]),
    "allFalse": Function(lambda _env, items: [not any(_booleans(items, "allFalse"))]),
    "anyFalse": Function(lambda _env, items: [not all(_booleans(items, "anyFalse"))]),
    "subsetOf": Function(lambda env, items, other: [_subset_of(env, items, other)], 1, 1),
    "supersetOf": Function(lambda env, items, other: [_subset_of(env, other, items)], 1, 1),
    "count": Function(_count),
    "distinct": Function(distinct),
    "isDistinct": Function(_is_distinct),
    "where": Lambda(_where, 1, 1),
    "select": Lambda(_select, 1, 1),
    "repeat": Lambda(_repeat, 1, 1),
    "aggregate": Lambda(_aggregate, 1, 2),
    "sort": Lambda(_sort, 0, 8),
    "single": Function(_single),
    "first": Function(lambda _env, items: items[:1]),
    "last": Function(lambda _env, items: items[-1:]),
    "tail": Function(lambda _env, items: items[1:]),
    "skip": Function(_skip, 1, 1),
    "take": Function(_take, 1, 1),
    "intersect": Function(_intersect, 1, 1),
    "exclude": Function(_exclude, 1, 1),
    "union": Function(union, 1, 1),
    "combine": Function(_combine, 1, 1),
    "not": Function(_not),
    "iif": Lambda(_iif, 2, 3),
    "trace": Lambda(_trace, 1, 2),
    "children": Function(_children),
    "descendants": Function(_descendants),
}
