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

    def put(into: Json, places: Places, number: int, value: Any) -> None:
        for step in before:
            into = places.element(into, step, number)
            if step.many:
                # The n-th one has parts of its own.
                number = 0
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
    here = next((number for number in range(depth, len(steps) - 1) if number in follows), None)
    if here is None:
        return _fixed(steps[depth:], value)
    if here > depth:
        way, further = steps[depth:here], spreading(steps, follows, value, here)
        return lambda into, places: further(_gone(into, places, way), places)
    step = steps[depth]
    key, inner = step.key, spreading(steps, follows, value, depth + 1)

    def spread(into: Json, places: Places) -> None:
        if key in into:
            for element in places.elements(into, step):
                inner(element, places)

    return spread


def _fixed(steps: Sequence[Step], value: Any) -> Spread:
    """Puts a constant at the end of a path, in the first element of what repeats on the way."""
    way, last = steps[:-1], steps[-1]
    key, is_many = last.key, last.many

    def put(into: Json, places: Places) -> None:
        for step in way:
            into = places.element(into, step, 0)
        if is_many:
            into.setdefault(key, []).append(value)
        else:
            into[key] = value

    return put


def _gone(into: Json, places: Places, way: Sequence[Step]) -> Json:
    for step in way:
        into = places.element(into, step, 0)
    return into
