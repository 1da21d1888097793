"""Finding resources: one page of a search with all that belongs to it, as values. What a Bundle shows of it is `search`'s.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from fhir_server.search import Grant, Query, Registry, Statement, compile_count, compile_search, cursor
from fhir_server.search.compile import MAX_PAGE_BYTES
from fhir_server.search.cursor import Position
from fhir_server.search.narrow import narrowed, resolved
from fhir_server.search.query import Criterion
from fhir_server.store import Snapshot

from .codes import expansion
from .engine import Engine

_HEAD: Final = 6
"""Columns of a row before its sort keys."""


class Found(NamedTuple):
    """A resource on a page; `score` is how well it fits, from 0 to 1, where that was asked for."""

    type: str
    id: str
    body: bytes
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its resources, the link to the next one's place if there is one, and the number of all matches where it is known."""

    found: list[Found]
    following: Position | None
    total: int | None


def prepared(engine: Engine, db: Snapshot, query: Query, grant: Grant, watch: Callable[[Statement], None] = lambda _statement: None) -> Query:
    """The query with codes from terminology and with few-valued chains as ids: what `find` and `count` run.

    `watch` is told each statement before it is run.
    """

    def run(statement: Statement) -> list[tuple[Any, ...]]:
        watch(statement)
        return db.select(statement)

    return narrowed(resolved(query, expansion(engine, db, grant)), engine.registry, grant, run, db.sources)


def find(engine: Engine, db: Snapshot, query: Query, grant: Grant, position: Position | None) -> Page:
    """A page of a prepared query behind a position, or the first."""
    shown = position.shown if position is not None else 0
    size = query.count if query.most is None else min(query.count, query.most - shown)
    rows = db.select(compile_search(replace(query, count=max(size, 0)), engine.registry, grant, position, db.sources))
    page = _within_bytes(db, rows[: max(size, 0)])
    more = len(rows) > len(page) and (query.most is None or shown + len(page) < query.most)
    total = position.total if position is not None else None
    if position is None and not more and query.total != "none" and (query.most is None or len(page) < query.most):
        total = len(page)
    elif total is None and (query.total == "accurate" or (query.total == "estimate" and grant.narrows)):
        # The planner's estimate knows little of who may see what, and must not tell how much there is besides.
        total = count(engine.registry, db, query, grant)
    elif query.total == "estimate" and total is None:
        total = max(db.estimate(compile_count(query, engine.registry, grant, db.sources)), shown + len(page) + more)
    following = None
    if more and page:
        moment = position.moment if position is not None and position.moment else db.moment()
        following = Position(tuple(page[-1][0][_HEAD:]), page[-1][0][0], moment, shown + len(page), total)
    rank = _rank(query)
    return Page([_found(engine.registry, row, body, rank) for row, body in page], following, total)


def count(registry: Registry, db: Snapshot, query: Query, grant: Grant) -> int:
    """The number of all matches of a prepared query."""
    total: int = db.select(compile_count(query, registry, grant, db.sources))[0][0]
    return total if query.most is None else min(total, query.most)


def _within_bytes(db: Snapshot, rows: Sequence[tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], bytes]]:
    """The rows with their bodies, as many as fit one answer, and at least one."""
    page: list[tuple[tuple[Any, ...], bytes]] = []
    size = 0
    for row in rows:
        body = db.body_of(row)
        size += len(body)
        if page and size > MAX_PAGE_BYTES:
            break
        page.append((row, body))
    return page


def _rank(query: Query) -> int | None:
    """Where a row has the rank of its words, None where there is none or nobody asked for it."""
    worded = any(isinstance(node, Criterion) and node.modifier is None and node.param.code in {"_text", "_content"} for node in query.filters)
    if not query.scored or not worded:
        return None
    places = [number for number, key in enumerate(query.sort) if key.param is None]
    return _HEAD if not query.sort else _HEAD + places[0] if places else None


def _found(registry: Registry, row: tuple[Any, ...], body: bytes, rank: int | None) -> Found:
    return Found(registry.type_name(row[1]), row[2], body, min(1.0, round(float(row[rank]), 4)) if rank is not None and len(row) > rank else None)


def position_of(engine: Engine, db: Snapshot, query: Query, grant: Grant) -> Position | None:
    """Where the page link of a query leads; the view is set back to its moment. Raises Outcome `parameter` and `gone`."""
    if query.cursor is None:
        return None
    position = cursor.decode(query.cursor, key=engine.page_key, query=query.text, actor=grant.text)
    if position.moment:
        db.rewind(position.moment)
    return position
