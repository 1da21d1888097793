"""FHIR search of one resource type, and the Bundles that answer it. https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from fhir_server import fhirjson
from fhir_server.outcome import Issue, Outcome, operation_outcome
from fhir_server.search import Query, compile_count, compile_revinclude, compile_search, cursor
from fhir_server.search.query import Include
from fhir_server.store import Snapshot

from .engine import Engine
from .exchange import Exchange, Reply
from .subset import subset

MAX_INCLUDED: Final = 1_000
"""Resources that one `_revinclude` may bring on one page; a warning in the Bundle says when there are more."""

Found = tuple[str, str, bytes]
"""Type, id and JSON of a resource on a page."""


def search(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """200 and a searchset Bundle. Raises Outcome `parameter` for what is not understood, unless handling is lenient: then the Bundle says so.

    One statement for the page, one for each target type of `_include`, one for each `_revinclude`, one for a total that was asked for.
    """
    if exchange.type is None:
        raise Outcome("parameter", "Name a resource type to search, as in [base]/Patient?name=…; the whole system cannot be searched at once")
    name = engine.known_type(exchange.type)
    query = engine.registry.parse(name, exchange.params, strict=exchange.strict, now=engine.store.clock())
    if query.summary == "count":
        return _bundle(exchange, query, [], _count(engine, exchange, db, query), None)
    position = None
    if query.cursor is not None:
        position = cursor.decode(query.cursor, key=engine.page_key, query=query.text, actor=exchange.grant.actor)
    rows = db.select(compile_search(query, engine.registry, exchange.grant, position))
    page, more = rows[: query.count], len(rows) > query.count
    following = cursor.Position(tuple(page[-1][6:]), page[-1][0]) if more else None
    total = None
    if query.total in ("accurate", "estimate"):
        total = _count(engine, exchange, db, query)
    elif position is None and not more and query.total is None:
        total = len(page)
    matches = [(name, row[2], row[5].encode()) for row in page]
    notices = [Issue("warning", "not-supported", f"'{code}' was left out: {reason}") for code, reason in query.ignored]
    entries = list(_entries(exchange, _shaped(engine, query, matches, query.elements), b"match"))
    if query.includes or query.revincludes:
        included = _included(engine, exchange, db, query, matches, notices)
        entries += _entries(exchange, _shaped(engine, query, included, ()), b"include")
    if notices:
        entries.append(b'{"resource":' + fhirjson.dumps(operation_outcome(notices)) + b',"search":{"mode":"outcome"}}')
    link = cursor.encode(following, key=engine.page_key, query=query.text, actor=exchange.grant.actor) if following is not None else None
    return _bundle(exchange, query, entries, total, link)


def _count(engine: Engine, exchange: Exchange, db: Snapshot, query: Query) -> int:
    total: int = db.select(compile_count(query, engine.registry, exchange.grant))[0][0]
    return total


def _shaped(engine: Engine, query: Query, found: Iterable[Found], elements: tuple[str, ...]) -> Iterator[Found]:
    if query.summary in (None, "false") and not elements:
        yield from found
        return
    for name, identity, body in found:
        yield name, identity, fhirjson.dumps(subset(engine.spec, fhirjson.loads(body), query.summary, elements))


def _entries(exchange: Exchange, found: Iterable[Found], mode: bytes) -> Iterator[bytes]:
    for name, identity, body in found:
        url = f"{exchange.base}/{name}/{identity}"
        yield b'{"fullUrl":' + fhirjson.dumps(url) + b',"resource":' + body + b',"search":{"mode":"' + mode + b'"}}'


def _bundle(exchange: Exchange, query: Query, entries: Sequence[bytes], total: int | None, following: str | None) -> Reply:
    url = f"{exchange.base}/{query.type}"
    applied = [*query.applied, *([("_cursor", query.cursor)] if query.cursor is not None else [])]
    links = [{"relation": "self", "url": url + (f"?{urlencode(applied)}" if applied else "")}]
    if following is not None:
        links.append({"relation": "next", "url": f"{url}?{urlencode([*query.applied, ('_cursor', following)])}"})
    head: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        head["total"] = total
    head["link"] = links
    body = fhirjson.dumps(head)
    return Reply(200, body[:-1] + b',"entry":[' + b",".join(entries) + b"]}" if entries else body)


def _included(engine: Engine, exchange: Exchange, db: Snapshot, query: Query, matches: Sequence[Found], notices: list[Issue]) -> list[Found]:
    """What the matches refer to and what refers to them, each once, and only what the grant may see."""
    seen = {(name, identity) for name, identity, _ in matches}
    found: list[Found] = []

    def add(more: Iterable[Found]) -> None:
        for name, identity, body in more:
            if (name, identity) not in seen:
                seen.add((name, identity))
                found.append((name, identity, body))

    resources = [fhirjson.loads(body) for _, _, body in matches] if query.includes else []
    wanted = {target: None for include in query.includes for resource in resources for target in _targets(engine, include, resource)}
    versions = db.read_many([target for target in wanted if target not in seen])
    add((version.type, version.id, version.body) for version in versions if version.body is not None)
    ids = [identity for _, identity, _ in matches]
    for include in query.revincludes if ids else ():
        statement = compile_revinclude(include, engine.registry, exchange.grant, (query.type, ids), MAX_INCLUDED + 1)
        rows = db.select(statement)
        if len(rows) > MAX_INCLUDED:
            text = f"_revinclude={include.source}:{include.code} has more than {MAX_INCLUDED} resources on this page; the rest was left out"
            notices.append(Issue("warning", "incomplete", text))
        add((engine.registry.type_name(row[1]), row[2], row[5].encode()) for row in rows[:MAX_INCLUDED])
    return found


def _targets(engine: Engine, include: Include, resource: dict[str, Any]) -> list[tuple[str, str]]:
    if include.source not in (resource["resourceType"], "*"):
        return []
    found = engine.registry.references(resource, include.code)
    return [target for target in found if include.target in (None, target[0])]
