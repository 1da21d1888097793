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
    """What to do at one place of the JSON tree: `leaves` take the value there, the rest leads on."""

    leaves: list[Leaf] = field(default_factory=list)
    children: dict[str, Branch] = field(default_factory=dict)
    firsts: dict[str, Branch] = field(default_factory=dict)
    whens: dict[tuple[str, str], Branch] = field(default_factory=dict)

    def visit(self, value: Any, out: Rows) -> None:
        """Hands the value, and what lies below it, to the leaves that wait there."""
        for leaf in self.leaves:
            leaf(value, out)
        if self.children:
            find = self.children.get
            for key, below in value.items():
                if (child := find(key)) is not None:
                    child.visit_each(below, out)
        if self.firsts or self.whens:
            self._visit_some(value, out)

    def visit_each(self, value: Any, out: Rows) -> None:
        """The same for every item of an array; null stands where a primitive has nothing but extensions."""
        if type(value) is list:
            for item in value:
                if item is not None:
                    self.visit(item, out)
        else:
            self.visit(value, out)

    def _visit_some(self, value: Any, out: Rows) -> None:
        for key, child in self.firsts.items():
            for item in value.get(key, ())[:1]:
                child.visit(item, out)
        for (key, expected), child in self.whens.items():
            if value.get(key) == expected:
                child.visit(value, out)


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
