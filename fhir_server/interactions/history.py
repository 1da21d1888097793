"""FHIR history of a resource, a type or the whole system. https://hl7.org/fhir/R4/http.html#history"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, cursor
from fhir_server.search.params.date import parse_date
from fhir_server.store import HistoryScope, Snapshot, instant
from fhir_server.store.ops import Version

from .engine import Engine
from .exchange import Exchange, Reply
from .read import is_versioned, shaped, were_open

DEFAULT_COUNT: Final = 50
MAX_COUNT: Final = 1_000
_KNOWN: Final = frozenset({"_count", "_since", "_at", "_cursor", "_summary", "_elements", "_total"})
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_STATUS: Final = {"POST": "201 Created", "PUT": "200 OK", "PATCH": "200 OK", "DELETE": "204 No Content"}


def history(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """200 and a history Bundle, newest version first. Raises Outcome `not-found` for a resource that never was, `parameter` for what is unclear.

    The history of a type or of everything finds resources whose ids the caller did not know, so that it takes the right to search as well:
    `forbidden` without it. A page costs as many rows as it shows, wherever it is: links carry the number of the last version shown, signed.
    """
    name = engine.known_type(exchange.type) if exchange.type is not None else None
    _demand_search(engine, exchange.grant, name, exchange.id)
    params = _parameters(exchange)
    position = None
    if "_cursor" in params:
        position = cursor.decode(params["_cursor"], key=engine.page_key, query=_address(exchange), actor=exchange.grant.text)
    since = _bounds(engine, params, "_since")
    scope = HistoryScope(name, exchange.id, since[0] if since else None, _bounds(engine, params, "_at"))
    if position is not None:
        scope = replace(scope, before=position.rid, moment=position.moment)
    count = _count(params)
    # One resource's versions are few; those of a type or of everything are counted only where the caller asks.
    total = _total(engine, exchange, db, scope) if count == 0 or exchange.id is not None or params.get("_total") == "accurate" else None
    if exchange.id is not None and total == 0 and scope.since is None and scope.at is None:
        raise Outcome("not-found", f"{name}/{exchange.id} does not exist")
    rows, more = _page(engine, exchange, db, scope, count) if count else ([], False)
    links = [{"relation": "self", "url": _url(exchange, params)}]
    if more:
        # All pages show what was there at the first: numbers of versions are not given out in the order of commits.
        moment = scope.moment or db.moment()
        link = cursor.encode(cursor.Position((), rows[-1][0], moment), key=engine.page_key, query=_address(exchange), actor=exchange.grant.text)
        links.append({"relation": "next", "url": _url(exchange, {**params, "_cursor": link})})
    head = {"resourceType": "Bundle", "type": "history", **({"total": total} if total is not None else {}), "link": links}
    revived = db.revived([vid for vid, version in rows if version.method == "PUT" and version.version > 1])
    entries = [_entry(engine, exchange, version, created=version.version == 1 or vid in revived) for vid, version in rows]
    body = fhirjson.dumps(head)
    return Reply(200, body[:-1] + b',"entry":[' + b",".join(entries) + b"]}" if entries else body)


def _demand_search(engine: Engine, grant: Grant, name: str | None, identity: str | None) -> None:
    if identity is not None:
        return
    for each in engine.registry.types if name is None else (name,):
        if grant.allows(each, "r") and not grant.allows(each, "s"):
            raise Outcome("forbidden", f"The token allows to read {each} but not to search it, as the history of more than one resource does")


def _page(engine: Engine, exchange: Exchange, db: Snapshot, scope: HistoryScope, count: int) -> tuple[list[tuple[int, Version]], bool]:
    """Up to `count` versions that the caller may see, and whether there are more."""
    if not exchange.grant.narrows:
        return db.history(scope, count)
    kept: list[tuple[int, Version]] = []
    more = True
    while more and len(kept) <= count:
        rows, more = db.history(scope, count + 1)
        opened = were_open(engine, exchange.grant, db, [version for _, version in rows])
        kept += [row for row, is_open in zip(rows, opened, strict=True) if is_open]
        scope = replace(scope, before=rows[-1][0]) if rows else scope
    return kept[:count], len(kept) > count


def _total(engine: Engine, exchange: Exchange, db: Snapshot, scope: HistoryScope) -> int:
    """How many versions there are in all that the caller may see: counted where the grant tells it, looked at where they were misfiled once."""
    grant = exchange.grant
    if scope.type is None and grant.narrows:
        return sum(_total(engine, exchange, db, replace(scope, type=name)) for name in engine.registry.types if grant.allows(name, "r"))
    if not is_versioned(grant, scope.type):
        return db.history_total(scope)
    found, more, scope = 0, True, replace(scope, before=None)
    while more:
        rows, more = _page(engine, exchange, db, scope, MAX_COUNT)
        found += len(rows)
        scope = replace(scope, before=rows[-1][0]) if rows else scope
    return found


def _entry(engine: Engine, exchange: Exchange, version: Version, *, created: bool) -> bytes:
    url = f"{version.type}/{version.id}"
    response = {
        "status": "201 Created" if created else _STATUS[version.method],
        "etag": f'W/"{version.version}"',
        "lastModified": instant(version.at),
    }
    request = {"method": version.method, "url": version.type if version.method == "POST" else url}
    parts = [b'"fullUrl":' + fhirjson.dumps(f"{exchange.base}/{url}")]
    if version.body is not None:
        parts.append(b'"resource":' + shaped(engine, exchange, version.body))
    parts += [b'"request":' + fhirjson.dumps(request), b'"response":' + fhirjson.dumps(response)]
    return b"{" + b",".join(parts) + b"}"


def _parameters(exchange: Exchange) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in exchange.params:
        if key not in _KNOWN:
            if exchange.strict:
                raise Outcome("parameter", f"History has no parameter '{key}'; it knows _count, _since and _at", code="not-supported")
            continue
        if key in found:
            raise Outcome("parameter", f"'{key}' stands twice")
        found[key] = value
    return found


def _count(params: dict[str, str]) -> int:
    if params.get("_summary") == "count":
        return 0
    text = params.get("_count", str(DEFAULT_COUNT))
    if not _COUNT.fullmatch(text):
        raise Outcome("parameter", f"_count is a whole number from 0, not '{text}'")
    return min(int(text), MAX_COUNT)


def _bounds(engine: Engine, params: dict[str, str], name: str) -> tuple[datetime, datetime] | None:
    """The half-open range of a date or time. A '+' before the zone that arrived as a space is read as what was meant."""
    text = params.get(name)
    if text is None:
        return None
    try:
        return parse_date(text.replace(" ", "+"), engine.registry.zone)
    except ValueError as error:
        raise Outcome("parameter", f"{name}: {error}") from None


def _url(exchange: Exchange, params: dict[str, str]) -> str:
    query = urlencode(params)
    return f"{exchange.base}/{_address(exchange)}" + (f"?{query}" if query else "")


def _address(exchange: Exchange) -> str:
    """What a page link is bound to."""
    return "/".join(part for part in (exchange.type, exchange.id, "_history") if part is not None)
