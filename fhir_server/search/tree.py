"""The tree of JSON properties that the paths of search parameters are laid into, so that one walk of a resource serves all of them.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.spec import Element, Spec

from .expressions import As, First, Key, PointsTo, Step, Truth, When
from .params import Row

Rows = dict[str, list[Row]]
Leaf = Callable[[Any, Rows], None]


@dataclass(slots=True)
class Branch:
    """What to do at one place of the JSON tree: `leaves` take the value there, the rest leads on. All of it is laid before `walk` is asked for."""

    leaves: list[Leaf] = field(default_factory=list)
    children: dict[str, Branch] = field(default_factory=dict)
    firsts: dict[str, Branch] = field(default_factory=dict)
    whens: dict[tuple[str, str], Branch] = field(default_factory=dict)

    def walk(self) -> Leaf | None:
        """One function that hands a value, and what lies below it, to the leaves that wait there; None where none do.

        What is laid later it does not see. A function made once for what a branch has costs less than a method that looks for that at every value.
        """
        steps = [*self.leaves]
        if children := {key: walk for key, child in self.children.items() if (walk := child.walk()) is not None}:
            steps.append(_below(children))
        steps += [_first(key, walk) for key, child in self.firsts.items() if (walk := child.walk()) is not None]
        steps += [_when(*condition, walk) for condition, child in self.whens.items() if (walk := child.walk()) is not None]
        return steps[0] if len(steps) == 1 else _each(tuple(steps)) if steps else None


def _below(children: dict[str, Leaf]) -> Leaf:
    find = children.get

    def below(value: Any, out: Rows) -> None:
        for key, found in value.items():
            if (child := find(key)) is None:
                continue
            if type(found) is list:
                for item in found:
                    # Null stands where a primitive has nothing but extensions.
                    if item is not None:
                        child(item, out)
            else:
                child(found, out)

    return below


def _first(key: str, child: Leaf) -> Leaf:
    def first(value: Any, out: Rows) -> None:
        for item in value.get(key, ())[:1]:
            child(item, out)

    return first


def _when(key: str, expected: str, child: Leaf) -> Leaf:
    def when(value: Any, out: Rows) -> None:
        if value.get(key) == expected:
            child(value, out)

    return when


def _each(steps: tuple[Leaf, ...]) -> Leaf:
    def each(value: Any, out: Rows) -> None:
        for step in steps:
            step(value, out)

    return each


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: a branch, the type of the values there, their element, and the type that references must point to."""

    branch: Branch
    type: str
    element: Element | None = None
    points_to: str | None = None


MAX_PLACES: Final = 500


def places(root: Branch, resource_type: str, steps: list[Step], spec: Spec) -> list[Place]:
    """The places that a path leads to, one per allowed type of its value; none for a path that the type does not have.

    Raises ValueError beyond MAX_PLACES: the value of an extension has 50 types, that of an extension of it 2,500.
    """
    found = [Place(root, resource_type)]
    for number, step in enumerate(steps):
        first = number + 1 < len(steps) and isinstance(steps[number + 1], First)
        found = [after for place in found for after in _follow(place, step, spec, first=first)]
        if len(found) > MAX_PLACES:
            raise ValueError(f"its expression leads to more than {MAX_PLACES} places")
    return found


def _follow(place: Place, step: Step, spec: Spec, *, first: bool) -> Iterator[Place]:
    match step:
        case Key(name):
            for element in spec.types[place.type].elements.values():
                if element.name == name:
                    edges = place.branch.firsts if first else place.branch.children
                    yield Place(edges.setdefault(element.key, Branch()), element.type, element)
        case As(name):
            if spec.is_a(place.type, name):
                yield place
        case When(key, value):
            yield Place(place.branch.whens.setdefault((key, value), Branch()), place.type, place.element)
        case PointsTo(name):
            yield Place(place.branch, place.type, place.element, name)
        case First():
            yield place
        case Truth():
            raise ValueError("a condition has no place")
