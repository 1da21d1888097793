"""Index rows: the expressions of all parameters of a resource type, laid into one tree of JSON properties that is walked once per resource.

Compiling a type costs about a millisecond; a resource of 1.5 kB then about 30 µs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from fhir_server.fhirpath import Expression, FhirPathError
from fhir_server.fhirpath import compile as compile_fhirpath
from fhir_server.spec import SearchParam

from .composites import Composites, components
from .expressions import Truth, paths
from .params import KINDS, SPECIAL, Context, Kind, Maker, Row, kind_of, words
from .params import reference as references
from .tree import Branch, Leaf, Place, Rows, places

_Laid = dict[tuple[int, int, str, str | None], tuple[Place, Kind, list[int]]]
"""Places by branch, kind, FHIR type and the type pointed to, each with the parameters that meet there."""

Condition = Callable[[Any], bool | None]
"""Whether something is true of a resource; None where that cannot be said."""

INDEX_VERSION: Final = 4
"""Goes up with every change of this package that gives a resource other rows than before: what is stored is then indexed anew."""

_TABLES: Final = (*(kind.TABLE for kind in (*KINDS.values(), *SPECIAL.values())), words.TABLE)
_ORDERED: Final[Mapping[str, Kind]] = {kind.TABLE: kind for kind in KINDS.values() if kind.ORDER is not None}


class Extractor:
    """Makes the rows of some parameters of one resource type.

    `targets` are the parameters that work, by code, each with the resource types that it may point to if it is a reference, empty for any, or that it
    is asked of if it is full text. `failures` says of the others why they cannot be indexed; `code:modifier` is simply not there. `main_date` and
    `main_code` are the numbers of the parameters whose latest end and whose codes go with references to patients. `parts` are the definitions of the
    parts of composites that work, by code.
    """

    def __init__(
        self,
        resource_type: str,
        params: Iterable[tuple[int, SearchParam]],
        context: Context,
        main_date: int | None = None,
        main_code: int | None = None,
        coming: Iterable[tuple[int, SearchParam]] = (),
    ) -> None:
        """Compiles the expressions of parameters with their numbers; nothing is said of those that are `coming`, which only get rows."""
        self.targets: dict[str, tuple[str, ...]] = {}
        self.failures: dict[str, str] = {}
        self.parts: dict[str, tuple[SearchParam, ...]] = {}
        self._context = context
        self._root = Branch()
        self._conditions: list[tuple[int, Condition]] = []
        self._main_date = main_date
        self._main_code = main_code
        self._patient = context.types.get("Patient")
        self._known: dict[str, SearchParam] = {}
        self._composites = Composites(resource_type, self._root, context, self._known)
        leaves: _Laid = {}
        params = list(params)
        if any(param.type == "composite" for _, param in params):
            # What a modifier asks for has the URL of what it is derived from.
            own = [param for _, param in params if ":" not in param.code]
            self._known.update({param.url: param for param in (*context.spec.params, *own)})
        for pid, param in params:
            found = self._lay(resource_type, pid, param, leaves)
            if not isinstance(found, str):
                self.targets[param.code] = found
            elif ":" not in param.code:
                self.failures[param.code] = found
        for pid, param in coming:
            self._lay(resource_type, pid, param, leaves)
        for place, kind, pids in leaves.values():
            maker = kind.maker(place.type, place.element, context)
            if maker is not None:
                place.branch.leaves.append(_leaf(kind, maker, tuple(dict.fromkeys(pids)), place.points_to, context))

    def _lay(self, resource_type: str, pid: int, param: SearchParam, leaves: _Laid) -> tuple[str, ...] | str:
        """Lays one parameter into the tree; the types it may point to, or the reason why it cannot be laid."""
        if param.code == words.CONTENT:
            leaves[id(self._root), id(words), resource_type, None] = (Place(self._root, resource_type), words, [pid])
            return (resource_type,)
        if param.type == "composite":
            self.parts[param.code] = components(param, self._known)
            return self._composites.lay(pid, param) or ()
        if not _has_kind(param):
            return f"{param.type} parameters are not supported"
        return "it has no expression" if param.expression is None else self._lay_paths(resource_type, pid, param, param.expression, leaves)

    def _lay_paths(self, resource_type: str, pid: int, param: SearchParam, expression: str, leaves: _Laid) -> tuple[str, ...] | str:
        kind, spec, laid = kind_of(param), self._context.spec, False
        targets: set[str] = set()
        for steps in paths(expression, resource_type, spec):
            if isinstance(steps[-1], Truth):
                if kind is KINDS["token"]:
                    stated = param in spec.search_params(resource_type).values()
                    self._conditions.append((pid, _condition(compile_fhirpath(steps[-1].expression, spec, resource_type), stated=stated)))
                    laid = True
                continue
            for place in places(self._root, resource_type, steps, spec):
                if kind.maker(place.type, place.element, self._context) is not None:
                    laid = True
                    leaves.setdefault((id(place.branch), id(kind), place.type, place.points_to), (place, kind, []))[2].append(pid)
                    targets.update((place.points_to,) if place.points_to else place.element.targets if place.element else ())
        if not laid:
            return "its expression leads to nothing that its type can hold"
        return tuple(sorted(targets & set(param.targets) if param.targets else targets))

    def rows(self, resource: Mapping[str, Any], contained: Iterable[tuple[Extractor, Mapping[str, Any]]] = ()) -> Rows:
        """Rows by table, in the order of its columns without `rid`, no two alike. The resource must be valid.

        `contained` are the resources inside of it, each with the extractor of its type: they have rows under negative numbers, but none of their own
        for full text, which the container's has in it.
        """
        out = self._plain_rows(resource)
        dates = [row[2] for row in out["sp_date"] if row[0] == self._main_date]
        clinical = max(dates) if dates else None
        patient = self._patient
        codes = _array(row[1] for row in out["sp_token"] if row[0] == self._main_code)
        out["sp_reference"] = [(*row, clinical, codes) if row[2] == patient else (*row, None, None) for row in out["sp_reference"]]
        for extractor, inner in contained:
            for table, rows in extractor._plain_rows(inner).items():  # noqa: SLF001 - another one of the same class
                if table != words.TABLE:
                    rest = (None, None) if table == "sp_reference" else ()
                    out.setdefault(table, []).extend([(-row[0], *row[1:], *rest) for row in rows])
        return {table: _finished(table, rows) for table, rows in out.items() if rows}

    def _plain_rows(self, resource: Mapping[str, Any]) -> Rows:
        """Rows as their kinds make them."""
        out: Rows = {table: [] for table in _TABLES}
        self._root.visit(resource, out)
        for pid, condition in self._conditions:
            if (holds := condition(resource)) is not None:
                out["sp_token"].append((pid, "true" if holds else "false", ""))
        return out


def _has_kind(param: SearchParam) -> bool:
    return param.code in SPECIAL if param.type == "special" else param.type in KINDS


def _condition(expression: Expression, *, stated: bool) -> Condition:
    if stated:
        # Those of the specification are never empty, and the shorter way takes a tenth of the time.
        return lambda resource: expression.true(resource, resource=resource)

    def holds(resource: Any) -> bool | None:
        try:
            return next((value for value in expression(resource, resource=resource) if isinstance(value, bool)), None)
        except FhirPathError:
            # What it is not defined for it is not true of; nobody's expression keeps a resource from being written.
            return None

    return holds


def _array(codes: Iterable[str]) -> str | None:
    """A PostgreSQL array literal; None for none."""
    quoted = ['"' + code.replace("\\", "\\\\").replace('"', '\\"') + '"' for code in dict.fromkeys(codes) if code]
    return "{" + ",".join(quoted) + "}" if quoted else None


def _leaf(kind: Kind, maker: Maker, pids: tuple[int, ...], points_to: str | None, context: Context) -> Leaf:
    table = kind.TABLE
    if len(pids) == 1 and points_to is None:
        only = pids[0]

        def one(value: Any, out: Rows) -> None:
            if rows := maker(value):
                out[table].extend([(only, *row) for row in rows])

        return one

    def many(value: Any, out: Rows) -> None:
        if rows := maker(value):
            out[table].extend([(pid, *row) for row in rows for pid in pids])

    if points_to is None:
        return many
    wanted, is_reference = context.types.get(points_to), kind is KINDS["reference"]

    def pointing(value: Any, out: Rows) -> None:
        rows = tuple(maker(value))
        if not rows:
            return
        # A row with a type says it already; that spares 1 µs for most references.
        known = rows[0][1] if is_reference else references.ABSOLUTE
        if known == wanted if known != references.ABSOLUTE else references.points_to(value, points_to, context):
            out[table].extend([(pid, *row) for row in rows for pid in pids])

    return pointing


def _finished(table: str, rows: list[Row]) -> list[Row]:
    """No two alike, and with marks on the least and the greatest of each parameter where the table has them."""
    if len(rows) > 1:
        rows = list(dict.fromkeys(rows))
    kind = _ORDERED.get(table)
    if kind is None:
        return rows
    if len({row[0] for row in rows}) == len(rows):
        return [(*row, True, True) for row in rows]
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
