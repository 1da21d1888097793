"""A Query made cheaper by asking first: terminology for codes, the database for what chains lead to.

https://hl7.org/fhir/R4/search.html#chaining

A chain that few resources satisfy is a list of their ids, and the search goes by these as if they had been asked for: whichever index is best for
ids then serves it. One that many satisfy is left as a condition on each resource in page order, which finds a full page soon because many do. Which
of the two it is only the data can tell, and a plan made from statistics guesses it wrong; so up to a thousand are looked up first, which costs one
small statement per chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from .compile import compile_referred, compile_some
from .conditions import Conditions, numbered
from .grant import Grant
from .params.reference import ABSOLUTE, Target
from .query import AllOf, AnyOf, Chain, Coded, Criterion, Filter, Gathered, Has, Hierarchy, Itself, Not, Numbered, Param, Query, rewritten, within
from .registry import Registry
from .shape import is_equation, is_scattered, is_single_equation
from .sources import CURRENT, Sources
from .statement import Statement, join

FEW: Final = 1_000
"""So many ids at the most are searched by in place of a chain."""
_LOOKED_AT: Final = 5_000
"""So many resources are looked at for whom they refer to, before a reverse chain is left as it is."""

Run = Callable[[Statement], Sequence[tuple[Any, ...]]]
Expand = Callable[[Coded], Filter]
"""What codes that terminology names are as a filter. May raise Outcome."""

_ID: Final = Param(0, "_id", "token", "http://hl7.org/fhir/SearchParameter/Resource-id")


def resolved(query: Query, expand: Expand) -> Query:
    """The query with codes in place of what terminology names."""

    def change(node: Filter) -> Filter:
        return expand(node) if isinstance(node, Coded) else node

    return replace(query, filters=tuple(rewritten(node, change) for node in query.filters))


def narrowed(query: Query, registry: Registry, grant: Grant, run: Run, sources: Sources = CURRENT) -> Query:
    """The query with chains that few resources satisfy as ids. It finds what it found before. At most one statement per chain and target type."""
    asker = _Asker(registry, grant, run, sources)
    asked = [asker.narrow(node, query.types) for node in query.filters]
    filters = tuple(asker.either(node, query) if isinstance(node, AnyOf) else node for node in asked)
    return replace(query, filters=filters if query.ranked else asker.scattered(filters))


class _Asker:
    def __init__(self, registry: Registry, grant: Grant, run: Run, sources: Sources) -> None:
        self.registry = registry
        self.grant = grant
        self.run = run
        self.sources = sources

    def narrow(self, node: Filter, types: tuple[str, ...]) -> Filter:
        """The filter of resources of some types, its innermost chains first."""
        match node:
            case AllOf(parts):
                return AllOf(tuple(self.narrow(part, types) for part in parts))
            case AnyOf(parts):
                return AnyOf(tuple(self.narrow(part, types) for part in parts))
            case Not(part):
                return Not(self.narrow(part, types))
            case Chain(param, targets):
                inner = tuple((name, self.narrow(part, (name,))) for name, part in targets)
                return self.chain(param, inner, types) or Chain(param, inner)
            case Has(source, param, part):
                narrow = self.narrow(part, (source,))
                return self.has(source, param, narrow, types) or Has(source, param, narrow)
            case _:
                return node

    def chain(self, param: Param, targets: tuple[tuple[str, Filter], ...], types: tuple[str, ...]) -> Filter | None:
        found: list[Target] = []
        for name, part in targets:
            if self.grant.allows(name, "s"):
                rows = self.run(compile_some(Query((name,), filters=(part,)), self.registry, self.grant, FEW + 1 - len(found), self.sources))
                found += [Target(row[1], self.registry.types[name]) for row in rows]
                found += self.urls(name, [row[0] for row in rows])
            if len(found) > FEW:
                return None
        criterion = Criterion(param, tuple(dict.fromkeys(found)))
        containers = self.containers(param, [part for _, part in targets]) if all(map(self.grant.looks_into, types)) else ()
        if containers is None:
            return None
        return AnyOf((criterion, Numbered(containers))) if containers else criterion

    def containers(self, param: Param, parts: Sequence[Filter]) -> tuple[int, ...] | None:
        """The resources whose own contained ones a chain leads to; None where there are many."""
        conditions = Conditions(self.registry, self.grant, self.sources)
        ways = [conditions.inside(param, criterion) for criterion in map(within, parts) if criterion is not None]
        if not ways:
            return ()
        united = join(" UNION ALL ", (Statement(f"(SELECT i.rid FROM {way.text} LIMIT {FEW + 1})", way.params) for way in ways))  # noqa: S608 - as above
        rows = self.run(Statement(united.text, united.params, by_value=True))
        return tuple(sorted({row[0] for row in rows})) if len(rows) <= FEW else None

    def urls(self, name: str, rids: list[int]) -> list[Target]:
        """The canonical URLs of resources of a type, by their numbers."""
        param = self.registry.canonical(name)
        if param is None or not rids:
            return []
        table = self.sources.table("sp_uri", "u")
        text = f"SELECT DISTINCT u.value FROM {table.text} WHERE {numbered(param.pids, 'u')} AND u.rid = ANY(%s::bigint[])"  # noqa: S608 - our own names
        return [Target(row[0], ABSOLUTE) for row in self.run(Statement(text, (*table.params, rids)))]

    def has(self, source: str, param: Param, part: Filter, types: tuple[str, ...]) -> Filter | None:
        """The ids of those that the matches refer to; None where there are many."""
        if not self.grant.allows(source, "s"):
            return Criterion(_ID, ())
        if len(types) > 1 or self.registry.canonical(types[0]):
            return None
        query = Query((source,), filters=(part,))
        rows = self.run(compile_referred(query, self.registry, self.grant, (param.pids, types[0]), _LOOKED_AT, self.sources))
        if rows[0][1] == _LOOKED_AT or len(rows) > FEW:
            return None
        return Criterion(_ID, tuple(row[0] for row in rows if row[0] is not None))

    def scattered(self, filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
        """A range or a list of values that few rows satisfy is to be gathered first, where no equation leads to few anyway.

        Statistics know how values are spread over all parameters together, not over one: of a million Observations none was before 1965, and a plan
        that expected 5,316 of them looked at all for 0.3 s. Counting up to a thousand rows tells within 0.2 ms.
        """
        if any(is_single_equation(node) or isinstance(node, Numbered) or _names_ids(node) for node in filters):
            return filters
        for number, node in enumerate(filters):
            if is_scattered(node) and self._is_rare(node):
                return (*filters[:number], Gathered(node), *filters[number + 1 :])
        return filters

    def _is_rare(self, criterion: Criterion) -> bool:
        rids = Conditions(self.registry, self.grant, self.sources).rids_of(criterion, "f")
        text = f"SELECT count(*) FROM ({rids.text} LIMIT {FEW + 1}) m"  # noqa: S608 - as above
        return bool(self.run(Statement(text, rids.params, by_value=True))[0][0] <= FEW)

    def either(self, node: AnyOf, query: Query) -> Filter:
        """Alternatives that each have an index are looked up one by one: a condition per resource would have to look at all that match none."""
        if not all(is_equation(part) or isinstance(part, Itself | Hierarchy | Numbered) for part in node.filters):
            return node
        rids: set[int] = set()
        for part in node.filters:
            rows = self.run(compile_some(Query(query.types, filters=(part,)), self.registry, self.grant, FEW + 1, self.sources))
            rids.update(row[0] for row in rows)
            if len(rows) > FEW:
                return node
        return Numbered(tuple(sorted(rids)))


def _names_ids(node: Filter) -> bool:
    return isinstance(node, Criterion) and node.param.code == "_id" and node.modifier is None
