"""FHIR search of a type, of the whole system or of a compartment, and the Bundles that answer it.

https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from fhir_server import fhirjson
from fhir_server.outcome import Issue, operation_outcome
from fhir_server.search import Query, cursor, matches
from fhir_server.search.contained import inside, over_containers
from fhir_server.search.narrow import resolved
from fhir_server.store import Snapshot

from .codes import expansion
from .engine import Engine
from .exchange import Exchange, Reply
from .explain import explained
from .finding import Found, count, find, position_of, prepared
from .includes import included
from .searchset import entry, searchset
from .subset import subset


def search(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """200 and a searchset Bundle. Raises Outcome `parameter` for what is not understood, unless handling is lenient: then the Bundle says so.

    One statement for the page and one for each chain and for what terminology names, one for each target type of `_include`, one for each
    `_revinclude`, one for a total that was asked for. Pages behind the first answer from the moment of the first.
    """
    query = _query(engine, exchange)
    if query.explain:
        return explained(engine, exchange, db, query)
    if query.contained != "false":
        return _inside(engine, exchange, db, query)
    if query.summary == "count":
        total = count(engine.registry, db, prepared(engine, db, query, exchange.grant), exchange.grant)
        return _bundle(exchange, query, [], total, None)
    position = position_of(engine, db, query, exchange.grant)
    page = find(engine, db, prepared(engine, db, query, exchange.grant), exchange.grant, position)
    notices = _notices(query)
    entries = list(_entries(exchange, _shaped(engine, query, page.found, query.elements), "match"))
    if query.includes or query.revincludes:
        beside = included(engine.registry, db, query, exchange.grant, page.found, notices)
        entries += _entries(exchange, _shaped(engine, query, beside, ()), "include")
    entries += _told(notices)
    return _bundle(exchange, query, entries, page.total, _link(engine, exchange, query, page.following))


def _query(engine: Engine, exchange: Exchange) -> Query:
    owner = (engine.known_type(exchange.type), exchange.id) if exchange.id is not None else None
    name = exchange.member if owner is not None else exchange.type
    return engine.registry.parse(
        None if name is None or name == "*" else engine.known_type(name),
        exchange.params,
        strict=exchange.strict,
        now=engine.store.clock(),
        compartment=owner,
    )


def _inside(engine: Engine, exchange: Exchange, db: Snapshot, query: Query) -> Reply:
    """Matches inside of other resources, with their containers or without. A page has as many containers as it has room for, not matches."""
    query = resolved(query, expansion(engine, db, exchange.grant))
    position = position_of(engine, db, query, exchange.grant)
    outer = prepared(engine, db, over_containers(query, engine.registry, exchange.grant), exchange.grant)
    total = 0
    while query.summary == "count":
        page = find(engine, db, outer, exchange.grant, position)
        total += sum(1 for _ in _unpacked(engine, query, page.found))
        if page.following is None:
            return _bundle(exchange, query, [], total, None)
        position = page.following
    page = find(engine, db, outer, exchange.grant, position)
    found = _shaped(engine, query, _unpacked(engine, query, page.found), query.elements)
    entries = [*_entries(exchange, found, "match"), *_told(_notices(query))]
    return _bundle(exchange, query, entries, None, _link(engine, exchange, query, page.following))


def _unpacked(engine: Engine, query: Query, found: Iterable[Found]) -> Iterator[Found]:
    for each in found:
        body = fhirjson.loads(each.body)
        inner = list(inside(query, body, engine.registry))
        itself = query.contained == "both" and matches(query, body, engine.registry)
        if itself or (inner and query.whole):
            yield each
        if not query.whole:
            yield from (each._replace(id=f"{each.id}#{one.get('id', '')}", body=fhirjson.dumps(one)) for one in inner)


def _notices(query: Query) -> list[Issue]:
    return [Issue("warning", "not-supported", f"'{code}' was left out: {reason}") for code, reason in query.ignored]


def _told(notices: Sequence[Issue]) -> list[bytes]:
    return [b'{"resource":' + fhirjson.dumps(operation_outcome(notices)) + b',"search":{"mode":"outcome"}}'] if notices else []


def _shaped(engine: Engine, query: Query, found: Iterable[Found], elements: tuple[str, ...]) -> Iterator[Found]:
    if query.summary in (None, "false") and not elements:
        yield from found
        return
    for each in found:
        yield each._replace(body=fhirjson.dumps(subset(engine.spec, fhirjson.loads(each.body), query.summary, elements)))


def _entries(exchange: Exchange, found: Iterable[Found], mode: Literal["match", "include"]) -> Iterator[bytes]:
    for each in found:
        yield entry(exchange.base, each.type, each.id, each.body, mode, each.score)


def _link(engine: Engine, exchange: Exchange, query: Query, following: cursor.Position | None) -> str | None:
    return cursor.encode(following, key=engine.page_key, query=query.text, actor=exchange.grant.text) if following is not None else None


def _bundle(exchange: Exchange, query: Query, entries: Sequence[bytes], total: int | None, following: str | None) -> Reply:
    return searchset(exchange, query.path, query.applied, entries, total, following, query.cursor)
