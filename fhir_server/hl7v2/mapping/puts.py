"""How a value comes to stand at the end of a path: closures made once for each row, with nothing left to ask that the path has said already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .memory import copying
from .paths import Json, Places, Step

Put = Callable[[Json, Places, int, Any], None]
"""Puts a value into an element, as the n-th of its row."""
Spread = Callable[[Json, Places], None]
Again = Callable[[object, Json, Places, object], None]


def putting(steps: Sequence[Step]) -> Put:
    """Puts a value at the end of a path; an object is added to what is there. The value is the element's own from then on."""
    if not steps:
        return lambda into, _places, _number, value: into.update(value)
    before, end = steps[:-1], _ending(steps[-1])
    if not before:
        return end
    first = before[0]
    if len(before) == 1:
        return lambda into, places, number, value: end(places.element(into, first, number), places, number, value)

    def put(into: Json, places: Places, number: int, value: Any) -> None:
        for step in before:
            into = places.element(into, step, number)
        end(into, places, number, value)

    return put


def again(put: Put, number: int, value: Any, there: Sequence[Step]) -> Again:
    """Puts the same value as the n-th each time, a copy of it; only where the path `there` is, if there is one."""
    if not isinstance(value, dict) and not there:
        return lambda _view, into, places, _context: put(into, places, number, value)
    copy = copying(value)
    if not there:
        return lambda _view, into, places, _context: put(into, places, number, copy())

    def run(_view: object, into: Json, places: Places, _context: object) -> None:
        if places.there(into, there, number) is not None:
            put(into, places, number, copy())

    return run


def _ending(step: Step) -> Put:
    key = step.key
    if step.many and step.tag is not None:
        return lambda into, places, number, value: places.element(into, step, number).update(value)
    if step.many:
        return lambda into, _places, _number, value: into.setdefault(key, []).append(value)

    def end(into: Json, _places: Places, _number: int, value: Any) -> None:
        if key in into and isinstance(value, dict):
            into[key].update(value)
        else:
            into[key] = value

    return end


def put_unless(into: Json, places: Places, steps: Sequence[Step], value: Any) -> None:
    """Puts a value where nothing is yet; what comes later takes its place."""
    for step in steps[:-1]:
        into = places.element(into, step, 0)
    into.setdefault(steps[-1].key, [value] if steps[-1].many else value)


def spreading(steps: Sequence[Step], follows: frozenset[int], value: Any, depth: int = 0) -> Spread:
    """Puts a constant in every element that a word has come to stand for, where `follows` has the step's number, else in the one that it names."""
    step = steps[depth]
    key = step.key
    if depth == len(steps) - 1:
        if step.many:
            return lambda into, _places: into.setdefault(key, []).append(value)
        return lambda into, _places: into.__setitem__(key, value)
    inner = spreading(steps, follows, value, depth + 1)
    if depth not in follows:
        return lambda into, places: inner(places.element(into, step, 0), places)

    def spread(into: Json, places: Places) -> None:
        if key in into:
            for element in places.elements(into, step):
                inner(element, places)

    return spread
