"""A Filter as a condition on one resource in SQL, whatever other resources it asks.

https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has

A canonical URL leads to every stored resource that has it, whatever the version.
What the grant hides does not exist here either: a chain does not lead to it, and it does not count as referring.
"""

# ruff: noqa: S608 - SQL is put together from our own table names and fragments; values are always parameters.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, NamedTuple

from fhir_server.outcome import Outcome

from .compartment import ATTACHING, BEHIND, PUBLIC, compartment_pids
from .grant import SYSTEM, Denial, Grant, Party, Permission, Way
from .params import kind_of, reference
from .params.date import Span
from .permit import permitted
from .query import OF_THE_POINTER, AllOf, AnyOf, Chain, Coded, Criterion, Filter, Gathered, Has, Hierarchy, Itself, Not, Numbered, Param, within
from .registry import Registry
from .sources import CURRENT, Sources
from .statement import NEVER, Statement, any_of, equals, join

ALWAYS: Final = Statement("TRUE")
_OPEN: Final = Way(None, "")
FRAGMENT: Final = f"i.type = {reference.ABSOLUTE} AND i.id >= '#' AND i.id < '$'"
"""That a row refers to a contained resource: '$' follows '#'."""


class Place(NamedTuple):
    """The resource that a condition is about: the column with its number, the alias of its own row, which only some conditions need, its types."""

    rid: str
    pointer: str
    types: tuple[str, ...]


@dataclass(slots=True)
class Conditions:
    """Makes the conditions of one statement. `pages` tells that few of many matches are wanted, in the order of the resources."""

    registry: Registry
    grant: Grant
    sources: Sources = CURRENT
    pages: bool = False
    _names: count[int] = field(default_factory=count)

    def of(self, node: Filter, place: Place) -> Statement:  # noqa: PLR0911 - one per kind of node
        """The condition that a filter puts on a resource."""
        match node:
            case Criterion():
                return self._criterion(node, place)
            case Numbered(rids):
                return Statement(f"{place.rid} = ANY(%s::bigint[])", (list(rids),))
            case Gathered(criterion):
                gathered = self.rids_of(criterion, f"g{next(self._names)}")
                return Statement(f"{place.rid} = ANY(ARRAY({gathered.text}))", gathered.params)
            case Itself(name, identity):
                of_type = Statement(f"{place.pointer}.type = {self.registry.types[name]}")
                return of_type if identity is None else of_type.and_(Statement(f"{place.pointer}.id = %s", (identity,)))
            case AllOf(parts):
                joined = join(" AND ", (self.of(part, place) for part in parts))
                return Statement(f"({joined.text})", joined.params)
            case AnyOf(parts):
                return any_of(self.of(part, place) for part in parts)
            case Not(part):
                negated = self.of(part, place)
                return Statement(f"NOT ({negated.text})", negated.params)
            case _:
                return self._beside(node, place)

    def _beside(self, node: Filter, place: Place) -> Statement:
        """Conditions that ask other resources."""
        match node:
            case Chain():
                return self._chain(node, place)
            case Has():
                return self._has(node, place)
            case Hierarchy():
                return self._hierarchy(node, place)
            case Coded(param, how):
                raise Outcome("parameter", f"'{param.code}:{how}' cannot be asked here: it takes terminology", code="not-supported")
        raise AssertionError(node)

    def row(self, criterion: Criterion, alias: str) -> Statement:
        """The condition on a row of the criterion's table."""
        predicate = kind_of(criterion.param).predicate(criterion.values, f"{alias}.") if criterion.values else NEVER
        return Statement(numbered(criterion.pids, alias)).and_(predicate)

    def table(self, param: Param, alias: str) -> Statement:
        """The parameter's table in FROM. Raises Outcome `forbidden` as `demand`."""
        self.demand(param)
        return self.sources.table(kind_of(param).TABLE, alias)

    def demand(self, param: Param) -> None:
        """Raises Outcome `forbidden` for a parameter that would tell of elements which the grant does not show."""
        for name, elements in self.grant.hidden:
            if not self.registry.telling_of(name, elements).isdisjoint(param.pids):
                raise Outcome("forbidden", f"The token does not allow to search {name} by '{param.code}'")

    def rids_of(self, criterion: Criterion, alias: str) -> Statement:
        """The resources that have a row for the criterion."""
        table, row = self.table(criterion.param, alias), self.row(criterion, alias)
        return Statement(f"SELECT {alias}.rid FROM {table.text} WHERE {row.text}", table.params + row.params)

    def _criterion(self, criterion: Criterion, place: Place) -> Statement:
        if criterion.param.code in OF_THE_POINTER:
            return of_the_pointer(criterion, place.pointer)
        alias = f"e{next(self._names)}"
        table = self.table(criterion.param, alias)
        missing = criterion.modifier == "missing"
        row = Statement(numbered(criterion.pids, alias)) if missing else self.row(criterion, alias)
        found = Statement(f"EXISTS (SELECT FROM {table.text} WHERE {alias}.rid = {place.rid} AND {row.text})", table.params + row.params)
        negated = criterion.values[0] if missing else criterion.modifier == "not"
        return Statement(f"NOT {found.text}", found.params) if negated else found

    def _chain(self, chain: Chain, place: Place) -> Statement:
        self.demand(chain.param)
        named = (self._chain_by_url(chain.param, name, part, place) for name, part in chain.targets if self.registry.canonical(name))
        ways = [self._chain_by_id(chain, place), *named, *self._chain_inside(chain, place)]
        return ways[0] if len(ways) == 1 else any_of(ways)

    def _chain_inside(self, chain: Chain, place: Place) -> Iterator[Statement]:
        """A chain to a contained resource; of several of one type any will do, since rows do not tell them apart."""
        if not all(map(self.grant.looks_into, place.types)):
            return
        for _, part in chain.targets:
            if (criterion := within(part)) is not None:
                found = self.inside(chain.param, criterion)
                yield self._exists(Statement(f"{found.text} AND i.rid = {place.rid}", found.params))

    def inside(self, param: Param, criterion: Criterion) -> Statement:
        """The FROM and WHERE of rows `i` that refer to a contained resource, in a container that has a row for the criterion."""
        links, table, row = self.sources.table("sp_reference", "i"), self.table(criterion.param, "j"), self.row(criterion, "j")
        text = f"{links.text} JOIN {table.text} ON j.rid = i.rid AND {row.text} WHERE {numbered(param.pids, 'i')} AND {FRAGMENT}"
        return Statement(text, links.params + table.params + row.params)

    def _chain_by_id(self, chain: Chain, place: Place) -> Statement:
        c, t = (f"{letter}{next(self._names)}" for letter in "ct")
        links, targets = self.sources.table("sp_reference", c), self.sources.table("resource", t)
        ways = []
        for name, part in chain.targets:
            if self.grant.allows(name, "s"):
                where = Statement(f"{c}.type = {self.registry.types[name]}").and_(self._seen(part, Place(f"{t}.rid", t, (name,))))
                ways.append(where)
        way = any_of(ways)
        source = join(" JOIN ", (links, targets))
        on = f"{t}.type = {c}.type AND {t}.id = {c}.id AND NOT {t}.deleted"
        where_text = f"{c}.rid = {place.rid} AND {numbered(chain.param.pids, c)} AND {way.text}"
        return self._exists(Statement(f"{source.text} ON {on} WHERE {where_text}", source.params + way.params)) if ways else NEVER

    def _chain_by_url(self, param: Param, name: str, part: Filter, place: Place) -> Statement:
        """A chain along canonical URLs, to any version of a resource."""
        url = self.registry.canonical(name)
        if url is None or not self.grant.allows(name, "s"):
            return NEVER
        c, u, t = (f"{letter}{next(self._names)}" for letter in "cut")
        seen = self._seen(part, Place(f"{t}.rid", t, (name,)))
        source = join(" JOIN ", (self.sources.table("sp_reference", c), self.sources.table("sp_uri", u)))
        source = join(
            " JOIN ",
            (Statement(f"{source.text} ON {u}.value = {c}.id AND {numbered(url.pids, u)}", source.params), self.sources.table("resource", t)),
        )
        where = f"{c}.rid = {place.rid} AND {numbered(param.pids, c)} AND {c}.type = {reference.ABSOLUTE} AND {seen.text}"
        return self._exists(Statement(f"{source.text} ON {t}.rid = {u}.rid WHERE {where}", source.params + seen.params))

    def _has(self, has: Has, place: Place) -> Statement:
        self.demand(has.param)
        if not self.grant.allows(has.source, "s"):
            return NEVER
        h = f"h{next(self._names)}"
        own = str(self.registry.types[place.types[0]]) if len(place.types) == 1 else f"{place.pointer}.type"
        pids = has.param.towards([self.registry.types[name] for name in place.types])
        ways = [self._referring(has, h, Statement(f"{numbered(pids, h)} AND {h}.id = {place.pointer}.id AND {h}.type = {own}"))]
        urls = [param for param in map(self.registry.canonical, place.types) if param is not None]
        if urls:
            h, u = (f"{letter}{next(self._names)}" for letter in "hu")
            table = self.sources.table("sp_uri", u)
            named = f"{u}.rid = {place.rid} AND {numbered([pid for param in urls for pid in param.pids], u)}"
            text = (
                f"{numbered(has.param.pids, h)} AND {h}.type = {reference.ABSOLUTE} AND {h}.id IN (SELECT {u}.value FROM {table.text} WHERE {named})"
            )
            ways.append(self._referring(has, h, Statement(text, table.params)))
        return ways[0] if len(ways) == 1 else any_of(ways)

    def _referring(self, has: Has, h: str, here: Statement) -> Statement:
        s = f"s{next(self._names)}"
        source = join(" JOIN ", (self.sources.table("sp_reference", h), self.sources.table("resource", s)))
        seen = self._seen(has.filter, Place(f"{s}.rid", s, (has.source,)))
        where = f"{here.text} AND {seen.text}"
        return self._exists(Statement(f"{source.text} ON {s}.rid = {h}.rid WHERE {where}", source.params + here.params + seen.params))

    def _seen(self, part: Filter, place: Place) -> Statement:
        """The condition on a resource beside the one searched for, which the grant has to show."""
        found = self.of(part, place)
        allowed = granted(self.grant, self.registry, place.types, place.pointer, self.sources)
        return found if allowed.text == "TRUE" else found.and_(allowed)

    def _exists(self, source: Statement) -> Statement:
        if self.pages:
            # EXISTS a plan may turn into a merge with all resources of a frequent value: 60 ms. This stays a look-up per row in page order.
            return Statement(f"(SELECT 1 FROM {source.text} LIMIT 1) IS NOT NULL", source.params)
        return Statement(f"EXISTS (SELECT FROM {source.text})", source.params)

    def _hierarchy(self, node: Hierarchy, place: Place) -> Statement:
        """The ids are gathered once per statement, from the given ones down or up; UNION ends at what was met before.

        Only what the grant shows tells what lies above it.
        """
        self.demand(node.param)
        h, t, s = (f"{letter}{next(self._names)}" for letter in "hts")
        own = self.registry.types[node.type]
        links, resources = self.sources.table("sp_reference", s), self.sources.table("resource", t)
        parents = f"{numbered(node.parent.pids, s)} AND {s}.type = {own}"
        if node.how == "below":
            step = f"SELECT {t}.id FROM d JOIN {links.text} ON {parents} AND {s}.id = d.id JOIN {resources.text} ON {t}.rid = {s}.rid"
            params = links.params + resources.params
        else:
            on = f"{t}.type = {own} AND {t}.id = d.id AND NOT {t}.deleted"
            step = f"SELECT {s}.id FROM d JOIN {resources.text} ON {on} JOIN {links.text} ON {s}.rid = {t}.rid AND {parents}"
            params = resources.params + links.params
        allowed = granted(self.grant, self.registry, (node.type,), t, self.sources) if self.grant.allows(node.type, "s") else NEVER
        step, params = f"{step} WHERE {allowed.text}", params + allowed.params
        ids = f'WITH RECURSIVE d(id) AS (SELECT unnest(%s::text[]) COLLATE "C" UNION {step}) SELECT id FROM d'
        table = self.sources.table("sp_reference", h)
        where = f"{h}.rid = {place.rid} AND {numbered(node.param.pids, h)} AND {h}.type = {own} AND {h}.id = ANY(ARRAY({ids}))"
        return Statement(f"EXISTS (SELECT FROM {table.text} WHERE {where})", (*table.params, list(node.ids), *params))


def grant_predicate(grant: Grant, registry: Registry, resource_type: str, alias: str) -> Statement:
    """The condition that a row of `resource` of this type, under this alias, may be seen; TRUE where nothing is held back.

    Whether the type is open to the grant at all is part of it.
    """
    return granted(grant, registry, (resource_type,), alias)


def granted(
    grant: Grant,
    registry: Registry,
    types: Sequence[str],
    alias: str,
    sources: Sources = CURRENT,
    permission: Permission = "r",
    *,
    named: str | None = None,
) -> Statement:
    """The same for rows of several types and any permission, read from the tables of `sources`.

    `named` is a patient in whose compartment all rows are known to be.
    """
    alike: dict[tuple[tuple[Way, ...], str], list[str]] = {}
    # What a rule asks of other resources is no look of the caller's at them; by what is hidden in the resource itself a scope opens none.
    ruling = replace(SYSTEM, hidden=grant.hidden) if grant.hidden else SYSTEM
    for name in types:
        ways = grant.ways(name, permission)
        # Whoever is held to a patient sees what is nobody's, but does not write it: an app that an administrator has opened for one patient.
        if name in PUBLIC and permission in "rs":
            ways = tuple(dict.fromkeys(way._replace(patient=None) for way in ways))
            ways = (_OPEN,) if _OPEN in ways else ways
        if ways:
            # What is asked of the content is asked in the type's own parameters.
            alike.setdefault((ways, name if grant.differs_by_content(name, permission) else ""), []).append(name)
    parts = []
    for (ways, _), names in alike.items():
        condition = _Granted(grant, Conditions(registry, ruling, sources), names, alias, named).of(ways)
        # Rows that refer to a patient tell the type by themselves.
        told = len(names) > 1 and all(way.patient is not None for way in ways)
        if len(names) < len(types) and not told:
            condition = _of(registry, names, alias) if condition == ALWAYS else _of(registry, names, alias).and_(condition)
        parts.append(condition)
    return any_of(parts)


def _attached(grant: Grant, registry: Registry, alias: str, sources: Sources, patient: str | None) -> Statement:
    """That all that a Binary belongs to is in the caller's reach: its security context, and what has it as an attachment.

    Of several all have to be, so that nobody opens a Binary by attaching it to something of their own, and what a result has is open with the result.
    For whoever is held to a patient there has to be something, in that one's compartment; what belongs to nothing is open to everybody else.
    """
    held = grant.reaching(patient)
    # What is open by way of others only, as an appointment by whose schedule it is in, is no context here: planning that took longer than all else.
    contexts = [name for name in registry.types if name not in {"Binary", *BEHIND} and not any(way.is_chained for way in held.ways(name))]
    seen = granted(held, registry, contexts, "bt", sources)
    if seen == ALWAYS and all(held.ways(name) == (_OPEN,) for name in registry.types):
        return ALWAYS
    context, *attaching = (
        registry.supported_params(name)[code].pid for name, code in (("Binary", "security-context"), *((name, "attachment") for name in ATTACHING))
    )
    links, targets = sources.table("sp_reference", "bl"), sources.table("resource", "bt")
    found: Statement = Statement("bt.rid IS NOT NULL")
    if patient is not None:
        # Whose it is sees it without the right to look at the Patient.
        found = any_of((found, Statement(f"bl.type = {registry.types['Patient']} AND bl.id = %s", (patient,))))
    by_context = Statement(
        f"(SELECT bool_or({found.text}) FROM {links.text} LEFT JOIN {targets.text}"
        f" ON bt.type = bl.type AND bt.id = bl.id AND NOT bt.deleted AND {seen.text} WHERE bl.rid = {alias}.rid AND bl.pid = {context})",
        found.params + links.params + targets.params + seen.params,
    )
    shown = granted(held, registry, ATTACHING, "bt", sources)
    by_link = Statement(
        f"(SELECT bool_and({shown.text}) FROM {links.text} JOIN {targets.text} ON bt.rid = bl.rid"
        f" WHERE bl.id = {alias}.id AND bl.type = {registry.types['Binary']} AND bl.pid IN ({', '.join(map(str, attaching))}))",
        shown.params + links.params + targets.params,
    )
    # OFFSET keeps both from being put in place of their names, and so from being looked up twice.
    return Statement(
        f"(SELECT coalesce(b.context, b.link, {'TRUE' if patient is None else 'FALSE'}) AND coalesce(b.link, TRUE)"
        f" FROM (SELECT {by_context.text} AS context, {by_link.text} AS link OFFSET 0) b)",
        by_context.params + by_link.params,
    )


@dataclass(frozen=True, slots=True)
class _Granted:
    """What makes rows under `alias`, of types that are open in the same ways, open to a permission."""

    grant: Grant
    conditions: Conditions
    names: Sequence[str]
    alias: str
    named: str | None

    def of(self, ways: Sequence[Way]) -> Statement:
        """Any of the ways, and nothing that was forbidden."""
        opened = [self.way(way) for way in ways]
        parts = [] if ALWAYS in opened else [any_of(opened)]
        if len(self.names) == 1:
            parts += [self.undenied(self.names[0], denial) for denial in self.grant.denials_of(self.names[0])]
        if NEVER in parts:
            return NEVER
        found = join(" AND ", parts)
        return ALWAYS if not parts else found if len(parts) == 1 else Statement(f"({found.text})", found.params)

    def way(self, way: Way) -> Statement:
        own = self.own(way.patient)
        if not way.query or own == NEVER:
            return own
        try:
            asked = self.matching(self.names[0], (way.query,))
        except Outcome:
            return NEVER
        return asked if own == ALWAYS else own.and_(asked)

    def own(self, patient: str | None) -> Statement:
        """What whoever is held to a patient, or to none, sees by whose it is."""
        if self.names == ["Binary"] and self.grant.differs_by_content("Binary"):
            return _attached(self.grant, self.conditions.registry, self.alias, self.conditions.sources, patient)
        return ALWAYS if patient in (None, self.named) else self.within(str(patient))

    def within(self, patient: str) -> Statement:
        """That a resource belongs to a patient."""
        registry, alias = self.conditions.registry, self.alias
        ways = []
        if "Patient" in self.names:
            own = Statement(f"{alias}.id = %s", (patient,))
            ways.append(_of(registry, ["Patient"], alias).and_(own) if len(self.names) > 1 else own)
        if (found := self.referring(equals("g.id", [patient]))) != NEVER:
            ways.append(Statement(f"EXISTS ({found.text})", found.params))
        for name in self.names:
            behind = [self.matching(name, (f"{path}={patient}",)) for path in BEHIND.get(name, ())]
            if behind:
                ways.append(_of(registry, [name], alias).and_(any_of(behind)))
        return any_of(ways)

    def referring(self, patients: Statement) -> Statement:
        """The rows, each TRUE, by which a resource is in the compartment of a patient, which it is not itself, whose id `g.id` meets a condition."""
        registry = self.conditions.registry
        pids = [pid for name in self.names if name != "Patient" and name not in PUBLIC for pid in compartment_pids(registry, name)]
        if not pids:
            return NEVER
        listed, own, table = ", ".join(map(str, pids)), registry.types["Patient"], self.conditions.sources.table("sp_reference", "g")
        text = f"SELECT TRUE FROM {table.text} WHERE g.rid = {self.alias}.rid AND g.pid IN ({listed}) AND {patients.text} AND g.type = {own}"
        return Statement(text, (*table.params, *patients.params))

    def matching(self, name: str, queries: Sequence[str]) -> Statement:
        """At least one of the queries; one that means nothing here opens nothing."""
        place = Place(f"{self.alias}.rid", self.alias, (name,))
        asked = (self.conditions.registry.condition(name, query) for query in queries)
        return any_of(join(" AND ", (self.conditions.of(node, place) for node in nodes)) for nodes in asked if nodes)

    def undenied(self, name: str, denial: Denial) -> Statement:
        """That a denial does not meet a resource."""
        own = self.met(name, denial)
        if own == NEVER:
            return ALWAYS
        if denial.labels:
            own = own.and_(self.matching(name, tuple(f"_security={label}" for label in denial.labels)))
        return Statement(f"NOT ({own.text})", own.params)

    def met(self, name: str, denial: Denial) -> Statement:
        """That a resource is, or is about, a patient whom a denial is about."""
        column = f"{self.alias}.id" if name == "Patient" else "g.id"
        one = equals(column, list(denial.patients)) if denial.unless is None else self.unpermitted(column, name, denial.unless)
        if name == "Patient":
            return one
        found = self.referring(one)
        if found == NEVER:
            return NEVER
        if denial.unless is None:
            return Statement(f"EXISTS ({found.text})", found.params)
        # Not EXISTS, which for a page of 20 became a pass over all rows that refer to patients: 45 ms. This stays a look-up per row, and a plan
        # takes half of these to be open; with IS NULL it counted on one in 200, and sorted a history in place of stopping early: 2.6 s.
        return Statement(f"coalesce(({found.text} LIMIT 1), FALSE)", found.params)

    def unpermitted(self, column: str, name: str, party: Party) -> Statement:
        """That no Consent of the patient whose id a column has permits a type to a party."""
        found = permitted(party, column, self.conditions.registry.types[name])
        return Statement(f"NOT ({found.text})", found.params)


def _of(registry: Registry, types: Sequence[str], alias: str) -> Statement:
    return Statement(f"{alias}.type IN ({', '.join(str(registry.types[name]) for name in types)})")


def numbered(pids: Sequence[int], alias: str) -> str:
    """The condition that a row stands under one of a parameter's numbers."""
    return f"{alias}.pid = {pids[0]}" if len(pids) == 1 else f"{alias}.pid IN ({', '.join(map(str, pids))})"


def of_the_pointer(criterion: Criterion, alias: str) -> Statement:
    """`_id` and `_lastUpdated`, which every resource has."""
    if criterion.modifier == "missing":
        return NEVER if criterion.values[0] else ALWAYS
    if criterion.param.code == "_id":
        found = equals(f"{alias}.id", list(dict.fromkeys(criterion.values))) if criterion.values else NEVER
        return Statement(f"NOT {found.text}", found.params) if criterion.modifier == "not" else found
    return any_of(_updated(span, f"{alias}.updated") for span in dict.fromkeys(criterion.values))


def _updated(span: Span, column: str) -> Statement:
    """The time of an update is a moment, so that every prefix is one range."""
    match span.prefix:
        case "eq" | "ap":
            return Statement(f"{column} >= %s AND {column} < %s", (span.lo, span.hi))
        case "ne":
            return Statement(f"({column} < %s OR {column} >= %s)", (span.lo, span.hi))
        case "gt" | "sa":
            return Statement(f"{column} >= %s", (span.hi,))
        case "ge":
            return Statement(f"{column} >= %s", (span.lo,))
        case "le":
            return Statement(f"{column} < %s", (span.hi,))
        case _:
            return Statement(f"{column} < %s", (span.lo,))
