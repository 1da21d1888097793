"""A Query to SQL: one statement per page, which stops as soon as the page is full.

https://hl7.org/fhir/R4/search.html

A search finds numbers of resources first and fetches the page's resources then. Each criterion is a join on `rid`, so that PostgreSQL chooses which
to begin with; equations come out of their index in page order. Index rows exist for current versions only and belong to one type, so the resource's
own row is read in the first step only where something of it is asked for, or where newest-first order has nothing else to stop by. Pages continue
behind the last row shown (keyset), so page 1,000 costs what page 1 costs and rows written meanwhile shift nothing. Numbers of parameters and types
and the size of the page stand in the text, where a prepared plan can count on them; values never do.
"""

# ruff: noqa: S608 - SQL is put together from our own table names and fragments; values are always parameters.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from fhir_server.outcome import Outcome

from .compartment import grant_predicate
from .cursor import Position
from .grant import Grant
from .params import KINDS, reference
from .params.date import Span
from .query import OF_THE_POINTER, Criterion, Include, Query, SortKey
from .registry import Registry
from .statement import NEVER, Statement, any_of, equals, join

_EQUATIONS: Final = frozenset({"token", "reference", "uri"})
"""Types whose values are found by an equation, in page order."""
_PAGE: Final = "r.rid, r.type, r.id, r.version, r.updated, v.body"
_FETCH: Final = "JOIN resource r ON r.rid = p.rid JOIN resource_version v ON v.vid = r.vid"


class _Key(NamedTuple):
    """A sort key in SQL: its column, whether that may be missing, and the table and condition that bring it, empty for what is there already."""

    column: str
    descending: bool
    may_lack: bool = False
    sql_type: str = ""
    rid: str = "r.rid"
    table: str = ""
    on: str = ""

    def order(self) -> str:
        # What may lack comes last either way. What cannot lack must not say so: an index read backwards has NULLS FIRST.
        return self.column + (" DESC" if self.descending else "") + (" NULLS LAST" if self.may_lack else "")

    def join(self, how: str) -> list[Statement]:
        return [Statement(f"{how} {self.table} ON {self.on}")] if self.table else []


class _Shape(NamedTuple):
    """The FROM and WHERE of a query. `rids` are the columns that equal the resource's number, the base table's first."""

    table: str
    joins: tuple[Statement, ...]
    where: tuple[Statement, ...]
    rids: tuple[str, ...]

    def unique(self) -> bool:
        """Whether no resource can come twice."""
        return self.table == "resource r" and not self.joins

    def select(self, columns: str, joins: Sequence[Statement] = (), where: Sequence[Statement] = ()) -> Statement:
        source = join(" ", [Statement(f"SELECT {columns} FROM {self.table}"), *self.joins, *joins])
        condition = join(" AND ", [*self.where, *where])
        return Statement(f"{source.text} WHERE {condition.text}", source.params + condition.params)


def compile_search(query: Query, registry: Registry, grant: Grant, position: Position | None = None) -> Statement:
    """One page behind a position, or the first: rows (rid, type, id, version, updated, body, *sort keys as texts), one more than the page holds.

    Newest first without `_sort`. Resources that lack a sort key come last. Raises Outcome `forbidden` if the grant may not search the type, and
    `parameter` for a position that has other keys than the query.
    """
    clinical = _clinical(query, registry)
    shape = _shape(query, registry, grant, keep=clinical)
    keys = _keys(query, clinical, shape.rids[0])
    if position is not None and len(position.keys) != len(keys):
        raise Outcome("parameter", "The page link belongs to another search; start the search again")
    page = _newest(shape, position, query.count + 1) if not keys else _sorted(shape, keys, position, query.count + 1)
    texts = "".join(f", p.k{number}::text" for number in range(len(keys)))
    order = [f"p.k{number}{' DESC' if key.descending else ''} NULLS LAST" for number, key in enumerate(keys)]
    order.append("p.rid" + ("" if keys and not keys[0].descending else " DESC"))
    return Statement(f"SELECT {_PAGE}{texts} FROM ({page.text}) p {_FETCH} ORDER BY {', '.join(order)}", page.params, _by_value(query))


def compile_count(query: Query, registry: Registry, grant: Grant) -> Statement:
    """One row with the number of matches that the grant may see. Its cost grows with that number. Raises Outcome `forbidden`."""
    shape = _shape(query, registry, grant)
    return shape.select("count(*)" if shape.unique() else f"count(DISTINCT {shape.rids[0]})")._replace(by_value=_by_value(query))


def compile_matching(query: Query, registry: Registry, grant: Grant, limit: int) -> Statement:
    """Up to `limit` matches in no order: rows (rid, type, id, vid). Raises Outcome `forbidden`."""
    shape = _shape(query, registry, grant)
    found = shape.select(f"DISTINCT {shape.rids[0]}")
    return Statement(f"SELECT r.rid, r.type, r.id, r.vid FROM ({found.text} LIMIT {limit}) p JOIN resource r ON r.rid = p.rid", found.params)


def compile_revinclude(include: Include, registry: Registry, grant: Grant, target: tuple[str, Sequence[str]], limit: int) -> Statement:
    """Up to `limit` resources that refer to a type and ids, newest first: rows as of a search without sort keys. Raises Outcome `forbidden`."""
    target_type, ids = target
    _demand(grant, include.source)
    params = registry.supported_params(include.source)
    codes = [code for code, param in params.items() if param.type == "reference"] if include.code == "*" else [include.code]
    allowed = grant_predicate(grant, registry, include.source, "r")
    wanted = reference.predicate([reference.Target(identity, registry.types[target_type]) for identity in ids], "f.")
    return Statement(
        f"SELECT {_PAGE} FROM (SELECT DISTINCT r.rid FROM sp_reference f JOIN resource r ON r.rid = f.rid"
        f" WHERE f.pid IN ({', '.join(str(params[code].pid) for code in codes)}) AND {wanted.text} AND {allowed.text}"
        f" ORDER BY r.rid DESC LIMIT {limit}) p {_FETCH} ORDER BY p.rid DESC",
        (*wanted.params, *allowed.params),
    )


def _by_value(query: Query) -> bool:
    return not all(_is_equation(criterion) for criterion in query.filters)


def _demand(grant: Grant, resource_type: str) -> None:
    if not grant.allows(resource_type, "s"):
        raise Outcome("forbidden", f"The token does not allow to search {resource_type}")


def _shape(query: Query, registry: Registry, grant: Grant, *, keep: int | None = None) -> _Shape:
    """`keep` is a criterion whose rows the order needs, so that it has to be a join."""
    _demand(grant, query.type)
    anchor, other, implied = _anchor(query, registry, grant)
    probed, anchor = (other, None) if keep is not None else (None, anchor)
    joined = [n for n, c in enumerate(query.filters) if c.modifier is None and c.param.code not in OF_THE_POINTER and n not in (anchor, probed)]
    equations = [n for n in joined if _is_equation(query.filters[n])]
    # Only an equation with one value comes in page order; for others the plan should be free to go by newest resources instead.
    ordered = [n for n in equations if len(query.filters[n].values) == 1]
    first = keep if keep is not None else ordered[0] if ordered else None
    if first is None or _needs_pointer(query):
        base, table, first = "r", "resource r", None
        where = [Statement(f"r.type = {registry.types[query.type]}"), Statement("NOT r.deleted")]
    else:
        base, table = f"f{first}", f"{KINDS[query.filters[first].param.type].TABLE} f{first}"
        where = [_row(query.filters[first], base)]
    joins = [_joined(query.filters[number], f"f{number}", base) for number in joined if number != first]
    allowed = grant_predicate(grant, registry, query.type, base)
    if allowed.text != "TRUE" and not implied:
        where.append(allowed)
    for number, criterion in enumerate(query.filters):
        if criterion.param.code in OF_THE_POINTER:
            where.append(_of_the_pointer(criterion))
        elif criterion.modifier is not None:
            where.append(_subquery(criterion, f"f{number}", base))
    if anchor is not None:
        # One pass over the other's index for all resources of the patient: 0.8 ms for 1,000 of them, against 1.5 ms by a look-up for each.
        rids = _rids_of(query.filters[anchor], "a")
        where.append(Statement(f"f{equations[0]}.rid = ANY(ARRAY({rids.text}))", rids.params))
    if probed is not None:
        # Not EXISTS, which a plan may turn into a merge with all resources of a frequent code: 60 ms. This stays a look-up per row in page order.
        rids = _rids_of(query.filters[probed], "e")
        where.append(Statement(f"({rids.text} AND e.rid = {base}.rid LIMIT 1) IS NOT NULL", rids.params))
    return _Shape(table, tuple(joins), tuple(where), (f"{base}.rid", *(f"f{number}.rid" for number in joined if number != first)))


def _needs_pointer(query: Query) -> bool:
    """Whether something of the resource's own row is asked for; of a Patient also the grant asks its id."""
    params = [criterion.param for criterion in query.filters] + [key.param for key in query.sort]
    return query.type == "Patient" or any(param.code in OF_THE_POINTER for param in params)


def _rids_of(criterion: Criterion, alias: str) -> Statement:
    row = _row(criterion, alias)
    return Statement(f"SELECT {alias}.rid FROM {KINDS[criterion.param.type].TABLE} {alias} WHERE {row.text}", row.params)


def _anchor(query: Query, registry: Registry, grant: Grant) -> tuple[int | None, int | None, bool]:
    """The criterion that names one patient and another equation, if there are both; and whether what the grant demands follows from the first."""
    patient = registry.types["Patient"]
    equations = [n for n, c in enumerate(query.filters) if _is_equation(c)]
    naming = [n for n in equations if query.filters[n].param.type == "reference" and [v.type for v in query.filters[n].values] == [patient]]
    # Of Patients the grant opens one, not the compartment: another one's link to it opens nothing.
    within = () if query.type == "Patient" else _compartment(query, registry)
    implied = any(query.filters[n].values[0].id == grant.patient and query.filters[n].param.code in within for n in naming)
    others = [n for n in equations if naming and n != naming[0]]
    return (naming[0], others[0], implied) if others else (None, None, implied)


def _compartment(query: Query, registry: Registry) -> tuple[str, ...]:
    return registry.spec.compartments["Patient"].get(query.type, ())


def _is_equation(criterion: Criterion) -> bool:
    return criterion.modifier is None and criterion.param.code not in OF_THE_POINTER and criterion.param.type in _EQUATIONS


def _row(criterion: Criterion, alias: str) -> Statement:
    """The condition on a row of the criterion's table."""
    return Statement(f"{alias}.pid = {criterion.param.pid}").and_(KINDS[criterion.param.type].predicate(criterion.values, f"{alias}."))


def _joined(criterion: Criterion, alias: str, base: str) -> Statement:
    row = _row(criterion, alias)
    return Statement(f"JOIN {KINDS[criterion.param.type].TABLE} {alias} ON {alias}.rid = {base}.rid AND {row.text}", row.params)


def _subquery(criterion: Criterion, alias: str, base: str) -> Statement:
    """`:missing` and `:not`: whether there is a row for the resource."""
    text = f"EXISTS (SELECT FROM {KINDS[criterion.param.type].TABLE} {alias} WHERE {alias}.rid = {base}.rid AND "
    if criterion.modifier == "missing":
        return Statement(f"{'NOT ' if criterion.values[0] else ''}{text}{alias}.pid = {criterion.param.pid})")
    row = _row(criterion, alias)
    return Statement(f"NOT {text}{row.text})", row.params)


def _of_the_pointer(criterion: Criterion) -> Statement:
    """`_id` and `_lastUpdated`, which every resource has."""
    if criterion.modifier == "missing":
        return NEVER if criterion.values[0] else Statement("TRUE")
    if criterion.param.code == "_id":
        found = equals("r.id", list(dict.fromkeys(criterion.values)))
        return Statement(f"NOT {found.text}", found.params) if criterion.modifier == "not" else found
    return any_of(_updated(span) for span in dict.fromkeys(criterion.values))


def _updated(span: Span) -> Statement:
    """The time of an update is a moment, so that every prefix is one range."""
    match span.prefix:
        case "eq" | "ap":
            return Statement("r.updated >= %s AND r.updated < %s", (span.lo, span.hi))
        case "ne":
            return Statement("(r.updated < %s OR r.updated >= %s)", (span.lo, span.hi))
        case "gt" | "sa":
            return Statement("r.updated >= %s", (span.hi,))
        case "ge":
            return Statement("r.updated >= %s", (span.lo,))
        case "le":
            return Statement("r.updated < %s", (span.hi,))
        case _:
            return Statement("r.updated < %s", (span.lo,))


def _newest(shape: _Shape, position: Position | None, limit: int) -> Statement:
    # The bound on every join is the same bound; only written so does it reach whichever index the plan begins with.
    behind = [Statement(f"{rid} < %s", (position.rid,)) for rid in shape.rids] if position else []
    rid = shape.rids[0]
    found = shape.select(f"{'' if shape.unique() else 'DISTINCT '}{rid}", where=behind)
    return Statement(f"{found.text} ORDER BY {rid} DESC LIMIT {limit}", found.params)


def _keys(query: Query, clinical: int | None, rid: str) -> list[_Key]:
    if clinical is not None:
        return [_Key(f"f{clinical}.clinical", descending=True, may_lack=True, sql_type="timestamptz", rid=f"f{clinical}.rid")]
    return [_key(number, key, rid) for number, key in enumerate(query.sort)]


def _clinical(query: Query, registry: Registry) -> int | None:
    """The criterion whose rows carry the date to sort by: `patient=X` under `_sort=-date`. None where there is none.

    Descending by the latest end of the main date, the order is that of the general way.
    """
    if len(query.sort) != 1 or not query.sort[0].descending or query.sort[0].param.code != registry.main_date(query.type):
        return None
    for number, criterion in enumerate(query.filters):
        named = criterion.param.type == "reference" and criterion.modifier is None and len(criterion.values) == 1
        if named and criterion.values[0].type == registry.types["Patient"]:
            return number
    return None


def _key(number: int, key: SortKey, rid: str) -> _Key:
    if key.param.code in OF_THE_POINTER:
        return _Key("r.id" if key.param.code == "_id" else "r.updated", key.descending)
    kind, alias = KINDS[key.param.type], f"s{number}"
    assert kind.ORDER is not None
    least, greatest, sql_type = kind.ORDER
    return _Key(
        f"{alias}.{greatest if key.descending else least}",
        key.descending,
        may_lack=True,
        sql_type=sql_type,
        rid=f"{alias}.rid",
        table=f"{kind.TABLE} {alias}",
        on=f"{alias}.rid = {rid} AND {alias}.pid = {key.param.pid} AND {alias}.{'high' if key.descending else 'low'}",
    )


def _sorted(shape: _Shape, keys: list[_Key], position: Position | None, limit: int) -> Statement:
    """Those with the first key in the order of its index, then those without it: the second part runs only if the first does not fill the page."""
    first, *others = keys
    if not first.may_lack:
        return _part(shape, first, others, position, limit)
    parts = []
    if position is None or position.keys[0] is not None:
        parts.append(_part(shape, first, others, position, limit))
        position = None
    parts.append(_part(shape, first, others, position, limit, lacking=True))
    united = join(" UNION ALL ", (Statement(f"({part.text})", part.params) for part in parts))
    return Statement(f"SELECT * FROM ({united.text}) u LIMIT {limit}", united.params)


def _part(shape: _Shape, first: _Key, others: list[_Key], position: Position | None, limit: int, *, lacking: bool = False) -> Statement:
    """The page of those that have the first key, or of those that lack it."""
    joins = [join for key in others for join in key.join("LEFT JOIN")]
    where: list[Statement] = []
    if lacking:
        sort, column, rid = others, f"NULL::{first.sql_type}", shape.rids[0]
        where.append(Statement(f"NOT EXISTS (SELECT FROM {first.table} WHERE {first.on})" if first.table else f"{first.column} IS NULL"))
    else:
        sort, column, rid = [first._replace(may_lack=False), *others], first.column, first.rid
        joins = [*first.join("JOIN"), *joins]
        if first.may_lack and not first.table:
            where.append(Statement(f"{first.column} IS NOT NULL"))
    if position is not None:
        keys = position.keys[1:] if lacking else position.keys
        where.append(_behind(sort, keys, rid, position.rid, descending=first.descending))
    columns = "".join(f", {text} AS k{number}" for number, text in enumerate([column, *(key.column for key in others)]))
    distinct = "" if shape.unique() else f"DISTINCT ON ({', '.join([*(key.column for key in sort), rid])}) "
    found = shape.select(f"{distinct}{rid}{columns}", joins, where)
    order = ", ".join([*(key.order() for key in sort), rid + (" DESC" if first.descending else "")])
    return Statement(f"{found.text} ORDER BY {order} LIMIT {limit}", found.params)


def _behind(keys: Sequence[_Key], values: Sequence[str | None], rid: str, last: int, *, descending: bool) -> Statement:
    """Rows that sort after a position."""
    sign = "<" if descending else ">"
    if len(keys) == 1 and not keys[0].may_lack:
        return Statement(f"({keys[0].column}, {rid}) {sign} (%s, %s)", (values[0], last))
    behind = Statement(f"{rid} {sign} %s", (last,))
    for key, value in zip(reversed(keys), reversed(values), strict=True):
        behind = _after(key, value, behind)
    if keys and not keys[0].may_lack:
        # Follows from the alternatives, but only so does it bound the index.
        behind = Statement(f"{keys[0].column} {sign}= %s AND ({behind.text})", (values[0], *behind.params))
    return Statement(f"({behind.text})", behind.params)


def _after(key: _Key, value: str | None, tied: Statement) -> Statement:
    if value is None:
        return Statement(f"({key.column} IS NULL AND ({tied.text}))", tied.params)
    sign = "<" if key.descending else ">"
    lacking = f" OR {key.column} IS NULL" if key.may_lack else ""
    return Statement(f"({key.column} {sign} %s{lacking} OR ({key.column} = %s AND ({tied.text})))", (value, value, *tied.params))
