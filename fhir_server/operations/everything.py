"""All of a patient's or an encounter's record, with what it refers to.

https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.searchset import entry, searchset
from fhir_server.outcome import Outcome
from fhir_server.search import Statement, cursor
from fhir_server.search.cursor import Position
from fhir_server.search.everything import Everything, compile_beside, compile_within
from fhir_server.search.query import MAX_COUNT
from fhir_server.store import Snapshot

from .parameters import date_in, texts

MAX_AT_ONCE: Final = 5_000
"""Resources of an answer where no `_count` asks for pages; beyond them, or beyond 64 MB, there is a next page all the same."""

_WITHIN, _BESIDE = "within", "beside"
_KNOWN: Final = {
    "Patient": ("_type", "_since", "_count", "_cursor", "start", "end"),
    "Encounter": ("_type", "_since", "_count", "_cursor"),
}


def everything(engine: Engine, exchange: Exchange) -> Reply:
    """200 and a searchset Bundle: the resource itself, its compartment, then what these refer to, each once.

    All pages answer from the moment of the first. A page is two statements at the most, beside one that finds the resource itself.
    Raises Outcome `not-found`, `gone`, `forbidden`, and `parameter` for what is not understood; also for all patients at once, unless the caller is
    held to one.
    """
    asked, size, given = _asked(engine, exchange)
    path = f"{asked.type}/{asked.id}/$everything" if exchange.id is not None else f"{asked.type}/$everything"
    applied = [pair for pair in given if pair[0] != "_cursor"]
    text = f"{path}?{urlencode(applied)}"
    link = next((value for name, value in given if name == "_cursor"), None)
    with engine.store.snapshot(exchange.grant) as db:
        position = None
        if link is None:
            _require(db, asked)
        else:
            position = cursor.decode(link, key=engine.page_key, query=text, actor=exchange.grant.text)
            db.rewind(position.moment)
        page = _Page(engine, exchange, db, asked, size)
        entries, following = page.read(position)
    total = len(entries) if position is None and following is None else None
    token = cursor.encode(following, key=engine.page_key, query=text, actor=exchange.grant.text) if following is not None else None
    return searchset(exchange, path, applied, entries, total, token)


class _Page:
    def __init__(self, engine: Engine, exchange: Exchange, db: Snapshot, asked: Everything, size: int) -> None:
        self.registry = engine.registry
        self.grant = exchange.grant
        self.base = exchange.base
        self.db = db
        self.asked = asked
        self.size = size

    def read(self, position: Position | None) -> tuple[list[bytes], Position | None]:
        """The entries behind a position, and where the next page starts: the compartment first, then what is outside of it."""
        phase, after = (str(position.keys[0]), position.rid) if position is not None else (_WITHIN, None)
        entries: list[bytes] = []
        if phase == _WITHIN:
            statement = compile_within(self.asked, self.registry, self.grant, after, self.size + 1, self.db.sources)
            last, more = self._take(statement, entries, "match")
            if more:
                return entries, self._following(_WITHIN, last, position)
            after = 0
        # A page that is just full may be the last: the one row more tells.
        statement = compile_beside(self.asked, self.registry, self.grant, after or 0, self.size - len(entries) + 1, self.db.sources)
        last, more = self._take(statement, entries, "include")
        return entries, self._following(_BESIDE, last, position) if more else None

    def _take(self, statement: Statement, entries: list[bytes], mode: Any) -> tuple[int, bool]:
        """Adds entries as long as there is room. The number to go on behind, and whether there is more."""
        last = 0
        for rid, number, identity, body in self.db.select(statement):
            if body is None or len(entries) == self.size:
                return last, True
            name = self.registry.type_name(number)
            entries.append(entry(self.base, name, identity, self.db.shown(name, body), mode))
            # The owner comes before all, whatever its number.
            last = 0 if name == self.asked.type and identity == self.asked.id else rid
        return last, False

    def _following(self, phase: str, last: int, position: Position | None) -> Position:
        return Position((phase,), last, position.moment if position is not None else self.db.moment())


def _require(db: Snapshot, asked: Everything) -> None:
    found = db.read(asked.type, asked.id)
    if found is None:
        raise Outcome("not-found", f"{asked.type}/{asked.id} does not exist")
    if found.body is None:
        raise Outcome("gone", f"{asked.type}/{asked.id} was deleted")


def _asked(engine: Engine, exchange: Exchange) -> tuple[Everything, int, list[tuple[str, str]]]:
    """What is asked for, the size of a page, and the parameters as they stand in links."""
    kind = engine.known_type(exchange.type)
    identity = exchange.id if exchange.id is not None else exchange.grant.patient
    if identity is None:
        raise Outcome(
            "parameter",
            "Patient/$everything would be the record of all patients, for which there is export; name one: Patient/[id]/$everything",
            code="too-costly",
        )
    given = texts(engine, exchange)
    single: dict[str, str] = {}
    for name, value in given:
        if name not in _KNOWN[kind]:
            raise Outcome("parameter", f"The parameter '{name[:80]}' is not known here; {', '.join(_KNOWN[kind])} are", code="not-supported")
        if name in single and name != "_type":
            raise Outcome("parameter", f"The parameter '{name}' stands twice")
        single[name] = value
    start = date_in(engine, single, "start", 0)
    end = date_in(engine, single, "end", 1)
    if start is not None and end is not None and start >= end:
        raise Outcome("parameter", f"start={single['start'][:80]} is after end={single['end'][:80]}; start is the earlier date", code="value")
    types = _types(engine, (value for name, value in given if name == "_type"))
    return Everything(kind, identity, types, date_in(engine, single, "_since", 0), start, end), _size(single.get("_count")), given


def _types(engine: Engine, values: Iterable[str]) -> tuple[str, ...] | None:
    named = [name.strip() for value in values for name in value.split(",") if name.strip()]
    for name in named:
        if name not in engine.registry.types:
            raise Outcome("parameter", f"_type names no resource type: '{name[:80]}'; a list such as Observation,Condition is expected", code="value")
    return tuple(dict.fromkeys(named)) or None


def _size(text: str | None) -> int:
    if text is None:
        return MAX_AT_ONCE
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):  # noqa: PLR2004 - beyond any size
        raise Outcome("parameter", f"_count is a whole number from 1, not '{text[:80]}'", code="value")
    return min(int(text), MAX_COUNT)
