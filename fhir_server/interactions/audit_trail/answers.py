"""Read, vread, history, search and create of AuditEvents. An event has one version, and nothing ever changes or deletes it.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, Literal

from fhir_server import fhirjson
from fhir_server.interactions.engine import Engine
from fhir_server.interactions.exchange import Exchange, Reply
from fhir_server.interactions.read import shaped
from fhir_server.interactions.searchset import entry as bundle_entry
from fhir_server.interactions.searchset import searchset
from fhir_server.interactions.subset import subset
from fhir_server.outcome import Outcome
from fhir_server.search import Statement, cursor
from fhir_server.search.params.date import parse_date
from fhir_server.store import Snapshot, instant
from fhir_server.store.trail import Event
from fhir_server.store.trail.search import Entry
from fhir_server.store.witness import patients_in, seen_patients

from .access import require
from .find import Search, Shown
from .render import rendered

MAX_SENT: Final = 64 * 1024
"""Characters of an event that a client sends."""
_OUTCOMES: Final[dict[str, Literal[0, 4, 8, 12]]] = {"0": 0, "4": 4, "8": 8, "12": 12}
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")


def read(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """200 and the event, 304 where the caller has it. Raises Outcome `forbidden` and `not-found`."""
    require(exchange.grant, "r")
    found = _entry(db, str(exchange.id))
    if "1" in exchange.if_none_match or "*" in exchange.if_none_match:
        return Reply(304, None, "AuditEvent", str(found.id), "1", _updated(found))
    return _reply(engine, exchange, found)


def vread(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """The same; there is version 1 and no other: Outcome `not-found` for them."""
    require(exchange.grant, "r")
    found = _entry(db, str(exchange.id))
    if exchange.version != "1":
        raise Outcome("not-found", f"AuditEvent/{exchange.id} has no version '{exchange.version}'")
    return _reply(engine, exchange, found)


def history(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """200 and a Bundle with the one version of an event. Raises Outcome `not-implemented` for that of all: a search shows these."""
    require(exchange.grant, "r")
    if exchange.id is None:
        raise Outcome("not-implemented", "AuditEvents never change: AuditEvent?_sort=-date shows all that their history would")
    found = _entry(db, exchange.id)
    url = f"{exchange.base}/AuditEvent/{found.id}"
    listed = {
        "fullUrl": url,
        "resource": fhirjson.loads(shaped(engine, exchange, fhirjson.dumps(rendered(found)))),
        "request": {"method": "POST", "url": "AuditEvent"},
        "response": {"status": "201 Created", "etag": 'W/"1"', "lastModified": instant(_updated(found))},
    }
    link = [{"relation": "self", "url": f"{url}/_history"}]
    return Reply(200, fhirjson.dumps({"resourceType": "Bundle", "type": "history", "total": 1, "link": link, "entry": [listed]}))


def search(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """200 and a searchset Bundle, newest first. Raises Outcome `forbidden`, `parameter` for what cannot be asked, `too-costly`.

    Within a compartment it is the same search: there is no trail of one's own.
    """
    require(exchange.grant, "s")
    owner = (engine.known_type(exchange.type), exchange.id) if exchange.id is not None else None
    if owner is not None and owner[0] != "Patient":
        raise Outcome("parameter", "AuditEvents are in the compartment of patients only", code="not-supported")
    params = (*exchange.params, ("patient", f"Patient/{exchange.id}")) if owner is not None else exchange.params
    query = engine.registry.parse("AuditEvent", params, strict=exchange.strict, now=engine.store.clock())
    position = None
    if query.cursor is not None:
        position = cursor.decode(query.cursor, key=engine.page_key, query=query.text, actor=exchange.grant.text)
    asked = Search(engine, db, query)
    if query.summary == "count":
        return searchset(exchange, query.path, query.applied, [], asked.count(), None)
    page = asked.page(position)
    for each in page.shown:
        seen_patients(each.entry.patients)
    entries = [
        bundle_entry(exchange.base, "AuditEvent", str(each.entry.id), _body(engine, query.summary, query.elements, each), "match")
        for each in page.shown
    ]
    token = cursor.encode(page.following, key=engine.page_key, query=query.text, actor=exchange.grant.text) if page.following is not None else None
    return searchset(exchange, query.path, query.applied, entries, page.total, token, query.cursor)


def create(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the event, which is in the trail as it came, with the server's id and meta. Raises Outcome `forbidden`, `invalid` and others."""
    require(exchange.grant, "c")
    if exchange.if_none_exist is not None or exchange.params:
        raise Outcome("parameter", "An AuditEvent is taken as it is: no conditional create", code="not-supported")
    given = engine.checked(exchange.body, "AuditEvent")
    now = engine.store.clock()
    text = fhirjson.dumps({name: value for name, value in given.items() if name != "id"}).decode()
    if len(text) > MAX_SENT:
        raise Outcome("too-large", f"An AuditEvent may be {MAX_SENT // 1024} KiB long: it is kept for good", expression="AuditEvent")
    event = Event(
        "received",
        outcome=_OUTCOMES[given.get("outcome", "0")],
        action=given.get("action", "E"),
        recorded=parse_date(given["recorded"], engine.registry.zone)[0],
        received=now,
        patients=tuple(sorted(patients_in(text))),
        body=text,
    )
    # Whoever sent it stands in the trail; what it says of its agents is what the sender says.
    found = engine.store.append_event(event.by(exchange.grant, address=exchange.address, request_id=exchange.request_id))
    return Reply(201, fhirjson.dumps(rendered(found)), "AuditEvent", str(found.id), "1", now)


def _entry(db: Snapshot, identity: str) -> Entry:
    rows = db.events(Statement("e.id = %s::bigint", (identity,)), 1) if _NUMBER.fullmatch(identity) else []
    if not rows:
        raise Outcome("not-found", f"AuditEvent/{identity} does not exist")
    seen_patients(rows[0].patients)
    return rows[0]


def _updated(entry: Entry) -> datetime:
    return entry.received or entry.recorded


def _reply(engine: Engine, exchange: Exchange, entry: Entry) -> Reply:
    body = shaped(engine, exchange, fhirjson.dumps(rendered(entry)))
    return Reply(200, body, "AuditEvent", str(entry.id), "1", _updated(entry))


def _body(engine: Engine, summary: Any, elements: tuple[str, ...], shown: Shown) -> bytes:
    if summary in (None, "false") and not elements:
        return fhirjson.dumps(shown.resource)
    return fhirjson.dumps(subset(engine.spec, shown.resource, summary, elements))
