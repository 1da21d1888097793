"""Index rows: the expressions of all parameters of a resource type, laid into one tree of JSON properties that is walked once per resource.

Compiling a type costs about a millisecond; a resource of 1.5 kB then about 30 µs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.fhirpath import compile as compile_fhirpath
from fhir_server.spec import Element, SearchParam, Spec

from .expressions import As, First, Key, PointsTo, Step, Truth, When, paths
from .params import KINDS, Context, Kind, Maker, Row
from .params import reference as references

Rows = dict[str, list[Row]]
Leaf = Callable[[Any, Rows], None]
_Laid = dict[tuple[int, str, str, str | None], tuple["Place", list[int]]]
"""Places by branch, parameter type, FHIR type and the type pointed to, each with the parameters that meet there."""

INDEX_VERSION: Final = 1
"""Goes up with every change of this package that gives a resource other rows than before: what is stored is then indexed anew."""

_TABLES: Final = tuple(kind.TABLE for kind in KINDS.values())
_ORDERED: Final[Mapping[str, Kind]] = {kind.TABLE: kind for kind in KINDS.values() if kind.ORDER is not None}


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


class Extractor:
    """Makes the rows of some parameters of one resource type.

    `targets` are the resource types that each reference parameter may point to, empty for any; `failures` says of each parameter that cannot be
    indexed why. `main_date` and `main_code` are the numbers of the parameters whose latest end and whose codes go with references to patients.
    """

    def __init__(
        self,
        resource_type: str,
        params: Iterable[tuple[int, SearchParam]],
        context: Context,
        main_date: int | None = None,
        main_code: int | None = None,
    ) -> None:
        """Compiles the expressions of parameters with their numbers."""
        self.targets: dict[str, tuple[str, ...]] = {}
        self.failures: dict[str, str] = {}
        self._context = context
        self._root = Branch()
        self._conditions: list[tuple[int, Callable[..., bool]]] = []
        self._main_date = main_date
        self._main_code = main_code
        self._patient = context.types.get("Patient")
        leaves: _Laid = {}
        for pid, param in params:
            reason = self._lay(resource_type, pid, param, leaves)
            if reason is not None:
                self.failures[param.code] = reason
        for (_, type_name, _, _), (place, pids) in leaves.items():
            maker = KINDS[type_name].maker(place.type, place.element, context)
            if maker is not None:
                place.branch.leaves.append(_leaf(KINDS[type_name].TABLE, maker, tuple(dict.fromkeys(pids)), place.points_to, context))

    def _lay(self, resource_type: str, pid: int, param: SearchParam, leaves: _Laid) -> str | None:
        """Lays one parameter into the tree; the reason why not, if it cannot be."""
        if param.type not in KINDS:
            return f"{param.type} parameters are not supported"
        if param.expression is None:
            return "it has no expression"
        kind, spec, laid = KINDS[param.type], self._context.spec, False
        targets: set[str] = set()
        for steps in paths(param.expression, resource_type, spec):
            if isinstance(steps[-1], Truth):
                self._conditions.append((pid, compile_fhirpath(steps[-1].expression, spec, resource_type).true))
                laid = True
                continue
            for place in places(self._root, resource_type, steps, spec):
                if kind.maker(place.type, place.element, self._context) is not None:
                    laid = True
                    leaves.setdefault((id(place.branch), param.type, place.type, place.points_to), (place, []))[1].append(pid)
                    targets.update((place.points_to,) if place.points_to else place.element.targets if place.element else ())
        self.targets[param.code] = tuple(sorted(targets & set(param.targets) if param.targets else targets))
        return None if laid else "its expression leads to nothing that its type can hold"

    def rows(self, resource: Mapping[str, Any]) -> Rows:
        """Rows by table, in the order of its columns without `rid`, no two alike. The resource must be valid."""
        out: Rows = {table: [] for table in _TABLES}
        self._root.visit(resource, out)
        for pid, holds in self._conditions:
            out["sp_token"].append((pid, "true" if holds(resource, resource=resource) else "false", ""))
        dates = [row[2] for row in out["sp_date"] if row[0] == self._main_date]
        clinical = max(dates) if dates else None
        patient = self._patient
        codes = _array(row[1] for row in out["sp_token"] if row[0] == self._main_code)
        out["sp_reference"] = [(*row, clinical, codes) if row[2] == patient else (*row, None, None) for row in out["sp_reference"]]
        return {table: _finished(table, rows) for table, rows in out.items() if rows}


def _array(codes: Iterable[str]) -> str | None:
    """A PostgreSQL array literal; None for none."""
    quoted = ['"' + code.replace("\\", "\\\\").replace('"', '\\"') + '"' for code in dict.fromkeys(codes) if code]
    return "{" + ",".join(quoted) + "}" if quoted else None


def _leaf(table: str, maker: Maker, pids: tuple[int, ...], points_to: str | None, context: Context) -> Leaf:
    if len(pids) == 1 and points_to is None:
        only = pids[0]

        def one(value: Any, out: Rows) -> None:
            out[table].extend([(only, *row) for row in maker(value)])

        return one

    def many(value: Any, out: Rows) -> None:
        out[table].extend([(pid, *row) for row in maker(value) for pid in pids])

    if points_to is None:
        return many

    def pointing(value: Any, out: Rows) -> None:
        if references.points_to(value, points_to, context):
            many(value, out)

    return pointing


def _finished(table: str, rows: list[Row]) -> list[Row]:
    """No two alike, and with marks on the least and the greatest of each parameter where the table has them."""
    if len(rows) > 1:
        rows = list(dict.fromkeys(rows))
    kind = _ORDERED.get(table)
    if kind is None:
        return rows
    by_pid: dict[int, list[Row]] = {}
    for row in rows:
        by_pid.setdefault(row[0], []).append(row)
    return [marked for group in by_pid.values() for marked in _marked(group, kind)]


def _marked(group: list[Row], kind: Kind) -> Iterator[Row]:
    if len(group) == 1:
        yield *group[0], True, True
        return
    least = min(group, key=lambda row: (kind.ends(row[1:])[0], row))
    greatest = max(group, key=lambda row: (kind.ends(row[1:])[1], row))
    for row in group:
        yield *row, row is least, row is greatest


def places(root: Branch, resource_type: str, steps: list[Step], spec: Spec) -> list[Place]:
    """The places that a path leads to, one per allowed type of its value; none for a path that the type does not have."""
    found = [Place(root, resource_type)]
    for number, step in enumerate(steps):
        first = number + 1 < len(steps) and isinstance(steps[number + 1], First)
        found = [after for place in found for after in _follow(place, step, spec, first=first)]
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
