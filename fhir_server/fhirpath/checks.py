"""Closures over the JSON of elements, that `predicate` puts together: values that a path leads to, and conditions on them.

A condition is None where FHIRPath gives nothing. Raises TypeError and AttributeError where the JSON is not as its type says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .budget import Budget, matching
from .regex import compile_pattern

Within = tuple[Any, Any, Budget]
"""The resource that holds the focus, the outermost one, and what is charged where the cost depends on how much there is."""

Check = Callable[[Any, Within], bool | None]
"""A condition on the JSON of an element."""

Values = Callable[[Any, Within], list[Any]]
"""The JSON values a path leads to; None for a primitive that has extensions only."""

_DATE_LENGTH: Final = 10


def itself(value: Any, _within: Within) -> list[Any]:
    """The focus."""
    return [value]


def unknown(_value: Any, _within: Within) -> list[Any]:
    """What only the general closures can read; raises TypeError."""
    raise TypeError


def elements(key: str) -> Values:
    """The elements of a property that has no primitives."""

    def read(value: Any, _within: Within) -> list[Any]:
        found = value.get(key)
        if type(found) is list:
            return found
        return [] if found is None else [found]

    return read


def primitives(key: str, under: str) -> Values:
    """The values of a property of primitives, whose ids and extensions stand `under` another one."""

    def read(value: Any, _within: Within) -> list[Any]:
        found = value.get(key)
        if type(found) is list:
            if None not in found:
                return found
            extras = value.get(under, ())
            return [one for at, one in enumerate(found) if one is not None or (at < len(extras) and extras[at] is not None)]
        if found is None:
            extra = value.get(under)
            return [] if extra is None else [None for one in extra if one is not None] if type(extra) is list else [None]
        return [found]

    return read


def chained(outer: Values, inner: Values) -> Values:
    """What a path leads to from what another leads to."""

    def read(value: Any, within: Within) -> list[Any]:
        found = outer(value, within)
        if len(found) == 1:
            return inner(found[0], within)
        return [one for parent in found for one in inner(parent, within)]

    return read


def filtered(values: Values, check: Check) -> Values:
    """Those values of a path that meet a condition."""
    read = charged(values)
    return lambda value, within: [one for one in read(value, within) if check(one, within)]


def present(values: Values, parent: Values | None, keys: frozenset[str]) -> Check:
    """Whether a path leads to something: by its last step's `keys` below its `parent` where it has one, which reads no values."""
    if parent is None:
        return lambda value, within: bool(values(value, within))
    if parent is itself:
        if len(keys) == 1:
            (key,) = keys
            return lambda value, _within: key in value
        if len(keys) == 2:  # noqa: PLR2004 - a primitive and its sibling
            first, second = sorted(keys, reverse=True)
            return lambda value, _within: first in value or second in value
        return lambda value, _within: not keys.isdisjoint(value)
    return lambda value, within: any(not keys.isdisjoint(one) for one in parent(value, within))


def matches(values: Values, pattern: str) -> Check:
    """Whether the one text of a path matches a pattern."""

    def check(value: Any, within: Within) -> bool | None:
        found = values(value, within)
        if len(found) > 1:
            raise TypeError
        if not found or found[0] is None:
            return None
        regex = compile_pattern(pattern)
        return matching(within[2], lambda left: regex.search(found[0], left)) is not None

    return check


def charged(values: Values) -> Values:
    """The values of a path, each of which is going to be asked something."""

    def read(value: Any, within: Within) -> list[Any]:
        found = values(value, within)
        within[2].spend(len(found))
        return found

    return read


def equals(values: Values, literal: Any, *, negate: bool) -> Check:
    """Whether a path leads to one value, which is the literal; with `negate`, whether it does not."""

    def check(value: Any, within: Within) -> bool | None:
        found = values(value, within)
        if not found:
            return None
        return (len(found) == 1 and found[0] == literal) is not negate

    return check


def compares(left: Values, right: Values, compare: Callable[[Any, Any], bool]) -> Check:
    """Whether two single values stand in an order."""

    def check(value: Any, within: Within) -> bool | None:
        ours, theirs = left(value, within), right(value, within)
        if len(ours) == 1 and len(theirs) == 1 and ours[0] is not None and theirs[0] is not None:
            return compare(ours[0], theirs[0])
        if len(ours) > 1 or len(theirs) > 1:
            raise TypeError
        return None

    return check


def compares_dates(left: Values, right: Values, compare: Callable[[Any, Any], bool], general: Check) -> Check:
    """Whether two dates stand in an order. Text of the same form and zone is in the order of its letters; all else is the `general` closure's."""

    def check(value: Any, within: Within) -> bool | None:
        ours, theirs = left(value, within), right(value, within)
        if not ours or not theirs:
            return None
        first, second = ours[0], theirs[0]
        alike = type(first) is str and type(second) is str and len(first) == len(second) and len(ours) == len(theirs) == 1
        if alike and (len(first) <= _DATE_LENGTH or first[-6:] == second[-6:] or first[-1] == second[-1] == "Z"):
            return compare(first, second)
        return general(value, within)

    return check


def same(left: Check, right: Check, *, negate: bool) -> Check:
    """Whether two conditions come to the same; with `negate`, whether they do not."""

    def check(value: Any, within: Within) -> bool | None:
        first, second = left(value, within), right(value, within)
        return None if first is None or second is None else (first == second) is not negate

    return check


def negated(inner: Check) -> Check:
    """Whether a condition is not met."""

    def check(value: Any, within: Within) -> bool | None:
        found = inner(value, within)
        return None if found is None else not found

    return check


def and_(left: Check, right: Check) -> Check:
    """Three-valued: false where one is false, else unknown where one is."""

    def check(value: Any, within: Within) -> bool | None:
        first = left(value, within)
        if first is False:
            return False
        second = right(value, within)
        return False if second is False else True if first and second else None

    return check


def or_(left: Check, right: Check) -> Check:
    """Three-valued: true where one is true, else unknown where one is."""

    def check(value: Any, within: Within) -> bool | None:
        first = left(value, within)
        if first:
            return True
        second = right(value, within)
        return True if second else None if first is None or second is None else False

    return check


def xor(left: Check, right: Check) -> Check:
    """Whether one of two is met, and not the other."""
    return same(left, right, negate=True)


def implies(left: Check, right: Check) -> Check:
    """Three-valued: whether the second is met where the first is."""

    def check(value: Any, within: Within) -> bool | None:
        first = left(value, within)
        if first is False:
            return True
        second = right(value, within)
        return True if second else None if first is None or second is None else False

    return check
