"""Rows of composite parameters: what one element has of each part, and every combination of them.

https://hl7.org/fhir/R4/search.html#composite

The elements that composites speak of are places of the one tree that is walked anyway. All composites of an element share one walk of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.outcome import Outcome
from fhir_server.spec import SearchParam

from .expressions import As, Step, Truth, paths
from .params import KINDS, Context, Maker, Row, composite
from .params import reference as references
from .sharing import Spot
from .tree import Branch, Leaf, Rows, places

MAX_COMBINATIONS: Final = 10_000
"""Rows that one element may have under one parameter: two lists of codes multiply."""

_RESOURCE: Final = "%resource."


@dataclass(slots=True)
class _Element:
    """What the composites of one place need of the value there.

    `parts` puts rows under the part's name, which no table has, and `walk` is the walk of it when it is complete; `around` are names of parts that
    were found elsewhere in the resource before.
    `combinations` has the numbers of the parameters by table and parts, these in the order of the table's columns.
    """

    parts: Branch = field(default_factory=Branch)
    walk: Leaf | None = None
    names: set[str] = field(default_factory=set)
    around: set[str] = field(default_factory=set)
    combinations: dict[tuple[str, tuple[str, ...]], list[int]] = field(default_factory=dict)

    def combine(self, pid: int, kind: composite.Composite, names: Sequence[str | None]) -> bool:
        """Takes a parameter in; False, and nothing done, if a part is missing."""
        found = tuple(name for part in kind.order if (name := names[part]) is not None)
        if len(found) < len(names):
            return False
        numbers = self.combinations.setdefault((kind.TABLE, found), [])
        if pid not in numbers:
            numbers.append(pid)
        return True

    def take(self, value: Any, out: Rows) -> None:
        """The leaf: adds the rows of one value."""
        found: Rows = {name: out[name] for name in self.around if name in out} if self.around else {}
        if self.walk is not None:
            self.walk(value, found)
        if len(found) > 1:
            for (table, (first, *others)), pids in self.combinations.items():
                combined: Sequence[Row] = found.get(first, ())
                for name in others:
                    if name not in found:
                        break
                    rows = found[name]
                    if len(combined) * len(rows) > MAX_COMBINATIONS:
                        raise Outcome("too-costly", f"One element has more than {MAX_COMBINATIONS:,} combinations of codes and values to search by")
                    combined = [row + other for row in combined for other in rows]
                else:
                    out.setdefault(table, []).extend([(pid, *row) for row in combined for pid in pids])


def components(param: SearchParam, known: Mapping[str, SearchParam]) -> tuple[SearchParam, ...]:
    """The definitions of a composite's parts, by their URLs; none where one is not known or is no part, as a composite itself."""
    found = [known[part.definition] for part in param.components if part.definition in known]
    return tuple(found) if len(found) == len(param.components) and all(part.type in KINDS for part in found) else ()


class Composites:
    """The composite parameters of one resource type, laid into the tree that begins at `root`."""

    def __init__(self, resource_type: str, root: Branch, context: Context, known: Mapping[str, SearchParam]) -> None:
        """`known` are the definitions that parts may have, by URL."""
        self._type = resource_type
        self._root = root
        self._context = context
        self._known = known
        self._elements: dict[object, _Element] = {}
        self._around: list[_Element] = []

    def spots(self) -> Iterator[tuple[int, set[Spot]]]:
        """The parameters with where each of them finds its values."""
        found: dict[int, set[Spot]] = {}
        for element in (*self._elements.values(), *self._around):
            for combination, pids in element.combinations.items():
                for pid in pids:
                    found.setdefault(pid, set()).add(((id(element), combination), None))
        yield from found.items()

    def close(self, left: Collection[int]) -> None:
        """Makes the leaves ready, after the last parameter; those that are `left` get no rows."""
        for element in (*self._elements.values(), *self._around):
            kept = {made: [pid for pid in pids if pid not in left] for made, pids in element.combinations.items()}
            element.combinations = {made: pids for made, pids in kept.items() if pids}
            element.walk = element.parts.walk()

    def lay(self, pid: int, param: SearchParam) -> str | None:
        """Lays one parameter into the tree; the reason why not, if it cannot be."""
        definitions = components(param, self._known)
        if param.expression is None or not definitions:
            return "it has no expression, or parts that are not defined"
        types = tuple(part.type for part in definitions)
        try:
            kind = composite.kind(types)
        except KeyError:
            return f"there is no table for {', '.join(types)} side by side"
        # R4 has the expressions of the two parts of DocumentReference's `relationship` exchanged.
        orders = [tuple(part.expression for part in order) for order in (param.components, param.components[::-1])]
        laid = False
        for steps in paths(param.expression, self._type, self._context.spec):
            if not steps or not isinstance(steps[-1], Truth):
                laid |= any(self._lay_at(pid, kind, steps, expressions) for expressions in orders)
        return None if laid else "its expression, or that of a part, leads to nothing that its type can hold"

    def _lay_at(self, pid: int, kind: composite.Composite, steps: list[Step], expressions: tuple[str, ...]) -> bool:
        """Whether all parts are found where the steps lead."""
        if any(text.startswith(_RESOURCE) for text in expressions):
            return self._lay_around(pid, kind, steps, expressions)
        laid = False
        for place in places(self._root, self._type, steps, self._context.spec):
            known = self._elements.get(id(place.branch))
            element = known or _Element()
            names = [self._part(element, element.parts, place.type, text, name) for text, name in zip(expressions, kind.types, strict=True)]
            if element.combine(pid, kind, names):
                laid = True
                if known is None:
                    self._elements[id(place.branch)] = element
                    place.branch.leaves.append(element.take)
        return laid

    def _lay_around(self, pid: int, kind: composite.Composite, steps: list[Step], expressions: tuple[str, ...]) -> bool:
        """The same where a part looks at the whole resource: that part is read first, then the elements one by one."""
        element, outer, inner = _Element(), Branch(), Branch()
        found = places(inner, self._type, steps, self._context.spec)
        names: list[str | None] = []
        for text, type_name in zip(expressions, kind.types, strict=True):
            if text.startswith(_RESOURCE):
                names.append(self._part(element, outer, self._type, text.removeprefix(_RESOURCE), type_name))
                element.around.update(name for name in names[-1:] if name is not None)
            else:
                names.append(self._part(element, element.parts, found[0].type, text, type_name) if found else None)
        if not element.combine(pid, kind, names):
            return False
        for place in found:
            place.branch.leaves.append(element.take)
        self._around.append(element)
        around, within = outer.walk(), inner.walk()
        assert around is not None
        assert within is not None

        def leaf(resource: Any, out: Rows) -> None:
            read: Rows = {}
            around(resource, read)
            if read:
                within(resource, read)
                out.setdefault(kind.TABLE, []).extend(read.get(kind.TABLE, ()))

        self._root.leaves.append(leaf)
        return True

    def _part(self, element: _Element, tree: Branch, fhir_type: str, expression: str, type_name: str) -> str | None:
        """The name under which a tree finds the rows of a part, None where the type has no such thing."""
        name = f"{type_name} {expression}"
        if name in element.names:
            return name
        for steps in paths(expression, fhir_type, self._context.spec):
            if steps and not isinstance(steps[-1], Truth):
                for place in places(tree, fhir_type, [self._known_type(step) for step in steps], self._context.spec):
                    maker = KINDS[type_name].maker(place.type, place.element, self._context)
                    if maker is not None:
                        place.branch.leaves.append(self._leaf(name, maker, place.points_to))
                        element.names.add(name)
        return name if name in element.names else None

    def _known_type(self, step: Step) -> Step:
        """R4 writes `value.as(DateTime)` where it means `dateTime`."""
        if isinstance(step, As) and step.type not in self._context.spec.types:
            return As(step.type[0].lower() + step.type[1:])
        return step

    def _leaf(self, name: str, maker: Maker, points_to: str | None) -> Leaf:
        context = self._context

        def leaf(value: Any, out: Rows) -> None:
            if (points_to is None or references.points_to(value, points_to, context)) and (rows := maker(value)):
                out.setdefault(name, []).extend(rows)

        return leaf
