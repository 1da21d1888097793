"""A Query to SQL: one statement per page, which stops as soon as the page is full.

https://hl7.org/fhir/R4/search.html

Each criterion is a join on `rid`, so that PostgreSQL chooses which to begin with; equations come out of their index in page order. Pages continue
behind the last row shown (keyset), so page 1,000 costs what page 1 costs and rows written meanwhile shift nothing. Numbers of parameters and types
and the size of the page stand in the text, where a prepared plan can count on them; values never do.
"""

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

_POINTER: Final = "r.rid, r.type, r.id, r.version, r.updated, r.vid"


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
    """The FROM and WHERE of a query. `rids` are the columns that equal the resource's number."""

    joins: tuple[Statement, ...]
    where: tuple[Statement, ...]
    rids: tuple[str, ...]

    def select(self, columns: str, joins: Sequence[Statement] = (), where: Sequence[Statement] = ()) -> Statement:
        source = join(" ", [Statement(f"SELECT {columns} FROM resource r"), *self.joins, *joins])
        condition = join(" AND ", [*self.where, *where])
        return Statement(f"{source.text} WHERE {condition.text}", source.params + condition.params)


def compile_search(query: Query, registry: Registry, grant: Grant, position: Position | None = None) -> Statement:
    """One page behind a position, or the first: rows (rid, type, id, version, updated, body, *sort keys as texts), one more than the page holds.

    Newest first without `_sort`. Resources that lack a sort key come last. Raises Outcome `forbidden` if the grant may not search the type, and
    `parameter` for a position that has other keys than the query.
    """
    clinical = _clinical(query, registry)
    shape = _shape(query, registry, grant, keep=clinical)
    keys = _keys(query, clinical)
    if position is not None and len(position.keys) != len(keys):
        raise Outcome("parameter", "The page link belongs to another search; start the search again")
    page = _newest(shape, position, query.count + 1) if not keys else _sorted(shape, keys, position, query.count + 1)
    texts = "".join(f", p.k{number}::text" for number in range(len(keys)))
    order = [f"p.k{number}{' DESC' if key.descending else ''} NULLS LAST" for number, key in enumerate(keys)]
    direction = "" if keys and not keys[0].descending else " DESC"
    return Statement(
        f"SELECT p.rid, p.type, p.id, p.version, p.updated, v.body{texts} FROM ({page.text}) p JOIN resource_version v ON v.vid = p.vid"
        f" ORDER BY {', '.join([*order, 'p.rid' + direction])}",
        page.params,
    )


def compile_count(query: Query, registry: Registry, grant: Grant) -> Statement:
    """One row with the number of matches that the grant may see. Its cost grows with that number. Raises Outcome `forbidden`."""
    shape = _shape(query, registry, grant)
    return shape.select("count(DISTINCT r.rid)" if shape.joins else "count(*)")


def compile_matching(query: Query, registry: Registry, grant: Grant, limit: int) -> Statement:
    """Up to `limit` matches in no order: rows (rid, type, id, vid). Raises Outcome `forbidden`."""
    found = _shape(query, registry, grant).select("DISTINCT r.rid, r.type, r.id, r.vid")
    return Statement(f"{found.text} LIMIT {limit}", found.params)


def compile_revinclude(include: Include, registry: Registry, grant: Grant, target: tuple[str, Sequence[str]], limit: int) -> Statement:
    """Up to `limit` resources that refer to a type and ids, newest first: rows as of a search without sort keys. Raises Outcome `forbidden`."""
    target_type, ids = target
    _demand(grant, include.source)
    params = registry.supported_params(include.source)
    codes = [code for code, param in params.items() if param.type == "reference"] if include.code == "*" else [include.code]
    allowed = grant_predicate(grant, registry, include.source, "r")
    wanted = reference.predicate([reference.Target(identity, registry.types[target_type]) for identity in ids], "f")
    return Statement(
        "SELECT p.rid, p.type, p.id, p.version, p.updated, v.body FROM"
        f" (SELECT DISTINCT ON (r.rid) {_POINTER} FROM sp_reference f JOIN resource r ON r.rid = f.rid"
        f" WHERE f.pid IN ({', '.join(str(params[code].pid) for code in codes)}) AND {wanted.text} AND NOT r.deleted AND {allowed.text}"
        f" ORDER BY r.rid DESC LIMIT {limit}) p JOIN resource_version v ON v.vid = p.vid ORDER BY p.rid DESC",
        (*wanted.params, *allowed.params),
    )


def _demand(grant: Grant, resource_type: str) -> None:
    if not grant.allows(resource_type, "s"):
        raise Outcome("forbidden", f"The token does not allow to search {resource_type}")


def _shape(query: Query, registry: Registry, grant: Grant, *, keep: int | None = None) -> _Shape:
    """`keep` is a criterion whose rows the order needs, so that it has to be a join."""
    _demand(grant, query.type)
    joins: list[Statement] = []
    where = [Statement(f"r.type = {registry.types[query.type]}"), Statement("NOT r.deleted")]
    rids = ["r.rid"]
    anchor, other, implied = _anchor(query, registry, grant)
    allowed = grant_predicate(grant, registry, query.type, "r")
    if allowed.text != "TRUE" and not implied:
        where.append(allowed)
    for number, criterion in enumerate(query.filters):
        alias = f"f{number}"
        if criterion.param.code in OF_THE_POINTER:
            where.append(_of_the_pointer(criterion))
        elif criterion.modifier is not None:
            where.append(_subquery(criterion, alias))
        elif number == keep or number not in (anchor, other):
            found = _rows_of(criterion, alias)
            joins.append(Statement(f"JOIN {found.text}", found.params))
            rids.append(f"{alias}.rid")
    if anchor is not None and other is not None:
        # One pass over the index for all resources of the patient took half the time of a look-up for each (PostgreSQL 18, 1,000 resources).
        of_patient = _rids_of(query.filters[anchor], "a")
        both = _rids_of(query.filters[other], "e").and_(Statement(f"e.rid = ANY(ARRAY({of_patient.text}))", of_patient.params))
        where.append(Statement(f"{'r' if keep is None else f'f{keep}'}.rid = ANY(ARRAY({both.text}))", both.params))
    return _Shape(tuple(joins), tuple(where), tuple(rids))


def _rids_of(criterion: Criterion, alias: str) -> Statement:
    kind = KINDS[criterion.param.type]
    condition = kind.predicate(criterion.values, alias)
    return Statement(f"SELECT {alias}.rid FROM {kind.TABLE} {alias} WHERE {alias}.pid = {criterion.param.pid} AND {condition.text}", condition.params)


def _anchor(query: Query, registry: Registry, grant: Grant) -> tuple[int | None, int | None, bool]:
    """The criterion that names one patient and another equation, if there are both; and whether what the grant demands follows from the first."""
    patient = registry.types["Patient"]
    equations = [n for n, c in enumerate(query.filters) if _is_equation(c)]
    naming = [n for n in equations if query.filters[n].param.type == "reference" and [v.type for v in query.filters[n].values] == [patient]]
    implied = any(query.filters[n].values[0].id == grant.patient and query.filters[n].param.code in _compartment(query, registry) for n in naming)
    others = [n for n in equations if naming and n != naming[0]]
    return (naming[0], others[0], implied) if others else (None, None, implied)


def _compartment(query: Query, registry: Registry) -> tuple[str, ...]:
    return registry.spec.compartments["Patient"].get(query.type, ())


def _is_equation(criterion: Criterion) -> bool:
    return criterion.modifier is None and criterion.param.code not in OF_THE_POINTER and KINDS[criterion.param.type].ORDER is None


def _rows_of(criterion: Criterion, alias: str) -> Statement:
    kind = KINDS[criterion.param.type]
    condition = kind.predicate(criterion.values, alias)
    return Statement(f"{kind.TABLE} {alias} ON {alias}.rid = r.rid AND {alias}.pid = {criterion.param.pid} AND {condition.text}", condition.params)


def _subquery(criterion: Criterion, alias: str) -> Statement:
    """`:missing` and `:not`: whether there is a row for the resource."""
    kind = KINDS[criterion.param.type]
    text = f"EXISTS (SELECT FROM {kind.TABLE} {alias} WHERE {alias}.rid = r.rid AND {alias}.pid = {criterion.param.pid}"
    if criterion.modifier == "missing":
        return Statement(f"{'NOT ' if criterion.values[0] else ''}{text})")
    condition = kind.predicate(criterion.values, alias)
    return Statement(f"NOT {text} AND {condition.text})", condition.params)


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
    found = shape.select(("DISTINCT ON (r.rid) " if shape.joins else "") + _POINTER, where=behind)
    return Statement(f"{found.text} ORDER BY r.rid DESC LIMIT {limit}", found.params)


def _keys(query: Query, clinical: int | None) -> list[_Key]:
    if clinical is not None:
        return [_Key(f"f{clinical}.clinical", descending=True, may_lack=True, sql_type="timestamptz", rid=f"f{clinical}.rid")]
    return [_key(number, key) for number, key in enumerate(query.sort)]


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


def _key(number: int, key: SortKey) -> _Key:
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
        on=f"{alias}.rid = r.rid AND {alias}.pid = {key.param.pid} AND {alias}.{'high' if key.descending else 'low'}",
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
        sort, column, rid = others, f"NULL::{first.sql_type}", "r.rid"
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
    distinct = f"DISTINCT ON ({', '.join([*(key.column for key in sort), rid])}) " if shape.joins else ""
    found = shape.select(distinct + _POINTER + columns, joins, where)
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
