"""`_sort` in SQL: keys, pages behind a position, and where resources that lack a key stand.

https://hl7.org/fhir/R4/search.html#sort

Those that have the first key come in the order of its index and stop as soon as the page is full; those that lack it come last, either way.
"""

# ruff: noqa: S608 - SQL is put together from our own table names and fragments; values are always parameters.

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .conditions import ALWAYS, Conditions, numbered
from .cursor import Position
from .params import kind_of, words
from .query import OF_THE_POINTER, Criterion, Param, Query, SortKey
from .shape import Shape, in_few_ranges, names_one_patient
from .statement import NEVER, Statement, join


class Key(NamedTuple):
    """A sort key in SQL: its column, whether that may be missing, and the table and condition that bring it, None for what is there already.

    Where its rows stand under several numbers, `foremost` is that a row counts, and `apart` are the conditions by number: each is an index in order.
    """

    column: str
    descending: bool
    may_lack: bool = False
    sql_type: str = ""
    rid: str = "r.rid"
    table: Statement | None = None
    on: Statement = NEVER
    foremost: Statement = ALWAYS
    apart: tuple[Statement, ...] = ()

    def order(self) -> str:
        """The key in ORDER BY."""
        # What may lack comes last either way. What cannot lack must not say so: an index read backwards has NULLS FIRST.
        return self.column + (" DESC" if self.descending else "") + (" NULLS LAST" if self.may_lack else "")

    def join(self, how: str) -> list[Statement]:
        """The join that brings it."""
        if self.table is None:
            return []
        on = self.on if self.foremost == ALWAYS else self.on.and_(self.foremost)
        return [Statement(f"{how} {self.table.text} ON {on.text}", self.table.params + on.params)]


def clinical(query: Query, conditions: Conditions) -> int | None:
    """The filter whose rows carry the date to sort by: `patient=X` under `_sort=-date`. None where there is none.

    Descending by the latest end of the main date, the order is that of the general way.
    """
    main = conditions.registry.main_date(query.type) if len(query.types) == 1 else None
    if main is None or len(query.sort) != 1 or not query.sort[0].descending or query.sort[0].param is None or query.sort[0].param.code != main:
        return None
    for number, node in enumerate(query.filters):
        if isinstance(node, Criterion) and node.modifier is None and names_one_patient(node, conditions):
            return number
    return None


def keys(query: Query, conditions: Conditions, base: Shape, kept: int | None) -> list[Key]:
    """The keys of a query, most important first; `kept` is what `clinical` found."""
    if kept is not None:
        return [Key(f"f{kept}.clinical", descending=True, may_lack=True, sql_type="timestamptz", rid=f"f{kept}.rid")]
    sort = query.sort or ((SortKey(None, descending=True),) if query.scored else ())
    found = [_key(number, key.param, key, conditions, base.rids[0]) if key.param else _rank(query) for number, key in enumerate(sort)]
    return [key for key in found if key is not None]


def _key(number: int, param: Param, key: SortKey, conditions: Conditions, rid: str) -> Key:
    if param.code in OF_THE_POINTER:
        return Key("r.id" if param.code == "_id" else "r.updated", key.descending)
    kind, alias = kind_of(param), f"s{number}"
    assert kind.ORDER is not None
    least, greatest, sql_type = kind.ORDER
    column, mark = (greatest, "high") if key.descending else (least, "low")

    def on(pids: Sequence[int]) -> Statement:
        return Statement(f"{alias}.rid = {rid} AND {numbered(pids, alias)} AND {alias}.{mark}")

    def foremost(pids: Sequence[int]) -> Statement:
        return _foremost(conditions.table(param, "m"), pids, alias, column, mark)

    table = conditions.table(param, alias)
    found = Key(f"{alias}.{column}", key.descending, may_lack=True, sql_type=sql_type, rid=f"{alias}.rid", table=table, on=on(param.pids))
    if not param.parted:
        return found
    apart = [on((pid,)).and_(foremost([other for other in param.pids if other != pid])) for pid in param.pids if in_few_ranges(param.pids)]
    return found._replace(foremost=foremost(param.pids), apart=tuple(apart))


def _foremost(table: Statement, pids: Sequence[int], alias: str, column: str, mark: str) -> Statement:
    """That no row `m` of the same resource under these numbers comes before in the order, or is as far and has a greater number."""
    sign = ">" if mark == "high" else "<"
    before = f"(m.{column} {sign} {alias}.{column} OR m.{column} = {alias}.{column} AND m.pid > {alias}.pid)"
    found = f"SELECT TRUE FROM {table.text} WHERE m.rid = {alias}.rid AND {numbered(pids, 'm')} AND m.{mark} AND {before}"
    # Not EXISTS, which a plan may turn into a merge with all rows of the parameter. This stays a look-up per row in page order.
    return Statement(f"NOT coalesce(({found} LIMIT 1), FALSE)", table.params)


def _rank(query: Query) -> Key | None:
    """How well the words that were searched for fit; None where none were, which makes all equal."""
    for number, node in enumerate(query.filters):
        if isinstance(node, Criterion) and node.modifier is None and node.param.code in {"_text", "_content"} and node.values:
            ranked = join(" + ", (Statement(f"ts_rank(f{number}.words, %s::tsquery)", (words.lexemes(value),)) for value in node.values))
            table = Statement(f"LATERAL (SELECT {ranked.text} AS rank) k", ranked.params)
            return Key("k.rank", descending=True, sql_type="real", table=table, on=ALWAYS)
    return None


def sorted_page(base: Shape, sort: Sequence[Key], position: Position | None, limit: int) -> Statement:
    """Those with the first key in the order of its index, then those without it: the second part runs only if the first does not fill the page."""
    first, *others = sort
    if not first.may_lack:
        return _part(base, first, others, position, limit)
    parts = []
    if position is None or position.keys[0] is not None:
        parts.append(_having(base, first, others, position, limit))
        position = None
    parts.append(_part(base, first, others, position, limit, lacking=True))
    united = join(" UNION ALL ", (Statement(f"({part.text})", part.params) for part in parts))
    return Statement(f"SELECT * FROM ({united.text}) u LIMIT {limit}", united.params)


def _having(base: Shape, first: Key, others: list[Key], position: Position | None, limit: int) -> Statement:
    """The page of those that have the first key: of those that have it under each number, where there are several."""
    parts = [_part(base, first._replace(on=on, foremost=ALWAYS), others, position, limit) for on in first.apart]
    if not parts:
        return _part(base, first, others, position, limit)
    united = join(" UNION ALL ", (Statement(f"({part.text})", part.params) for part in parts))
    keys = [Key(f"w.k{number}", key.descending, may_lack=number > 0 and key.may_lack) for number, key in enumerate([first, *others])]
    order = ", ".join([*(key.order() for key in keys), "w.rid" + (" DESC" if first.descending else "")])
    return Statement(f"SELECT * FROM ({united.text}) w ORDER BY {order} LIMIT {limit}", united.params)


def _part(base: Shape, first: Key, others: list[Key], position: Position | None, limit: int, *, lacking: bool = False) -> Statement:
    """The page of those that have the first key, or of those that lack it."""
    joins = [joined for key in others for joined in key.join("LEFT JOIN")]
    where: list[Statement] = []
    if lacking:
        sort, column, rid = others, f"NULL::{first.sql_type}", base.rids[0]
        where.append(_lacks(first))
    else:
        sort, column, rid = [first._replace(may_lack=False), *others], first.column, first.rid if first.may_lack else base.rids[0]
        joins = [*first.join("JOIN"), *joins]
        if first.may_lack and first.table is None:
            where.append(Statement(f"{first.column} IS NOT NULL"))
    if position is not None:
        values = position.keys[1:] if lacking else position.keys
        where.append(_behind(sort, values, rid, position.rid, descending=first.descending))
    columns = "".join(f", {text} AS k{number}" for number, text in enumerate([column, *(key.column for key in others)]))
    distinct = "" if base.unique else f"DISTINCT ON ({', '.join([*(key.column for key in sort), rid])}) "
    found = base.select(f"{distinct}{rid}{columns}", joins, where)
    order = ", ".join([*(key.order() for key in sort), rid + (" DESC" if first.descending else "")])
    return Statement(f"{found.text} ORDER BY {order} LIMIT {limit}", found.params)


def _lacks(key: Key) -> Statement:
    if key.table is None:
        return Statement(f"{key.column} IS NULL")
    return Statement(f"NOT EXISTS (SELECT FROM {key.table.text} WHERE {key.on.text})", key.table.params + key.on.params)


def _behind(sort: Sequence[Key], values: Sequence[str | None], rid: str, last: int, *, descending: bool) -> Statement:
    """Rows that sort after a position; `descending` is the direction of their numbers, which those without the first key have from it."""
    sign = "<" if descending else ">"
    if len(sort) == 1 and not sort[0].may_lack and sort[0].descending is descending:
        return Statement(f"({sort[0].column}, {rid}) {sign} (%s, %s)", (values[0], last))
    behind = Statement(f"{rid} {sign} %s", (last,))
    for key, value in zip(reversed(sort), reversed(values), strict=True):
        behind = _after(key, value, behind)
    if sort and not sort[0].may_lack:
        # Follows from the alternatives, but only so does it bound the index.
        bound = "<=" if sort[0].descending else ">="
        behind = Statement(f"{sort[0].column} {bound} %s AND ({behind.text})", (values[0], *behind.params))
    return Statement(f"({behind.text})", behind.params)


def _after(key: Key, value: str | None, tied: Statement) -> Statement:
    if value is None:
        return Statement(f"({key.column} IS NULL AND ({tied.text}))", tied.params)
    sign = "<" if key.descending else ">"
    lacking = f" OR {key.column} IS NULL" if key.may_lack else ""
    return Statement(f"({key.column} {sign} %s{lacking} OR ({key.column} = %s AND ({tied.text})))", (value, value, *tied.params))
