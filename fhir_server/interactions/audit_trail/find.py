"""AuditEvents found by the search parameters of the specification: the trail's columns keep out what cannot match, the rest is decided in memory.

https://hl7.org/fhir/R4/auditevent.html#search
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fhir_server.interactions.engine import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import Query, Statement, matches
from fhir_server.search.cursor import Position
from fhir_server.search.params.token import Token, folded
from fhir_server.search.query import Criterion, below
from fhir_server.store import Snapshot
from fhir_server.store.trail import Kind
from fhir_server.store.trail.search import Entry, Kinds, Place, compiled

from .render import MEANINGS, codes, rendered

MAX_LOOKED_AT: Final = 20_000
"""Events that are rendered and compared for one answer: two seconds of CPU."""
_AT_ONCE: Final = 500


class Shown(NamedTuple):
    """An event of the trail, and the AuditEvent that it is."""

    entry: Entry
    resource: dict[str, Any]


class Found(NamedTuple):
    """A page of events, where the next one goes on, and how many match in all where that is known."""

    shown: list[Shown]
    following: Position | None
    total: int | None


class Search:
    """A search of the trail. Raises Outcome `parameter` for what cannot be asked of it."""

    def __init__(self, engine: Engine, db: Snapshot, query: Query) -> None:
        """Takes the query as the registry has understood it."""
        _refuse(query)
        self._engine = engine
        self._db = db
        self._query = query
        self._by_time = bool(query.sort)
        self._ascending = self._by_time and not query.sort[0].descending
        self._where, self._exact = compiled(query, engine.registry.types, Kinds(_of_type, _of_subtype))

    def page(self, position: Position | None) -> Found:
        """The events behind a position."""
        query, after = self._query, _place(position)
        size = max(query.count, 0)
        shown: list[Shown] = []
        for each in self._matching(self._where, after):
            shown.append(each)
            if len(shown) > size:
                break
        more, shown = len(shown) > size, shown[:size]
        total = position.total if position is not None else None
        if position is None and not more:
            total = len(shown)
        elif total is None and query.total in ("accurate", "estimate"):
            total = self.count()
        following = None
        if more and shown:
            last = shown[-1].entry
            following = Position((last.recorded.isoformat(),), last.id, "", 0, total)
        return Found(shown, following, total)

    def count(self) -> int:
        """How many events match. Raises Outcome `too-costly` where too many would have to be looked at."""
        if not self._exact:
            return sum(1 for _ in self._matching(self._where, None))
        # What clients have sent tells its times and codes in its own ways.
        sent = self._where.and_(Statement("e.received IS NOT NULL"))
        return self._db.count_events(self._where.and_(Statement("e.received IS NULL"))) + sum(1 for _ in self._matching(sent, None))

    def _matching(self, where: Statement, after: Place | None) -> Iterator[Shown]:
        for looked in range(0, MAX_LOOKED_AT, _AT_ONCE):
            # A page of the usual size costs no more rows than it needs.
            limit = min(_AT_ONCE, self._query.count + 1) if looked == 0 and self._exact else _AT_ONCE
            rows = self._db.events(where, limit, after=after, by_time=self._by_time, ascending=self._ascending)
            for entry in rows:
                shown = Shown(entry, rendered(entry))
                if not self._query.filters or matches(self._query, shown.resource, self._engine.registry):
                    yield shown
            if len(rows) < limit:
                return
            after = Place(rows[-1].id, rows[-1].recorded.isoformat())
        raise Outcome("too-costly", f"More than {MAX_LOOKED_AT:,} events would have to be looked at; ask for fewer by date, patient, agent or type")


def _place(position: Position | None) -> Place | None:
    return Place(position.rid, position.keys[0]) if position is not None else None


def _refuse(query: Query) -> None:
    for node in (inner for top in query.filters for inner in below(top)):
        if not isinstance(node, Criterion) and type(node).__name__ not in ("AllOf", "AnyOf", "Not"):
            raise Outcome("parameter", "AuditEvents are found by their own elements: no chains, _has, nor terminology", code="not-supported")
    if query.includes or query.revincludes:
        raise Outcome("parameter", "Nothing is included with AuditEvents: _include and _revinclude are not supported here", code="not-supported")
    if query.contained != "false" or query.explain or query.ranked:
        raise Outcome("parameter", "_contained, _explain and _score are not supported for AuditEvent", code="not-supported")
    if len(query.sort) > 1 or any(key.param is None or key.param.code != "date" for key in query.sort):
        raise Outcome("parameter", "AuditEvents are sorted by date alone: _sort=date or _sort=-date", code="not-supported")


@lru_cache(maxsize=256)
def _of_type(token: Token) -> tuple[Kind, ...]:
    return tuple(kind for kind in MEANINGS if any(_is(token, coding) for coding in codes(kind)[0]))


@lru_cache(maxsize=256)
def _of_subtype(token: Token) -> tuple[Kind, ...]:
    return tuple(kind for kind in MEANINGS if any(_is(token, coding) for coding in codes(kind)[1]))


def _is(token: Token, coding: dict[str, Any]) -> bool:
    system = token.system in (None, coding["system"])
    return system and (token.code == folded(coding["code"]) if token.code is not None else folded(coding["code"]) not in token.but)
