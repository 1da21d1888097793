"""Who saw or changed a patient's record: for the patient themself, and for whoever may read the audit trail."""

from __future__ import annotations

from typing import Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.audit_trail import NOT_SENT, names_of, require, shown_to
from fhir_server.interactions.searchset import entry, searchset
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, cursor
from fhir_server.search.cursor import Position
from fhir_server.store.trail.search import Place, of_patient

from .parameters import date_in, texts

_KNOWN: Final = ("start", "end", "_count", "_cursor")
_USUAL: Final = 50
_MOST: Final = 500


def access_report(engine: Engine, exchange: Exchange) -> Reply:
    """200 and a searchset Bundle of AuditEvents, newest first, with the names of practitioners and without anything about others.

    Raises Outcome `forbidden`, `not-found`, and `parameter` for what is not understood.
    """
    patient = str(exchange.id)
    # A clinician's app is held to a patient too, who is not the one that asks.
    own = exchange.grant.roles <= {"patient"} and exchange.grant.patient == patient
    if not own or not exchange.grant.allows("Patient", "r"):
        require(exchange.grant, "s")
    with engine.store.latest(SYSTEM) as db:
        if db.read("Patient", patient) is None:
            raise Outcome("not-found", f"Patient/{patient} does not exist")
    given, size = _asked(engine, exchange)
    path = f"Patient/{patient}/$access-report"
    applied = [(name, value) for name, value in given.items() if name != "_cursor"]
    text = f"{path}?{applied}"
    after = None
    if "_cursor" in given:
        after = Place(cursor.decode(given["_cursor"], key=engine.page_key, query=text, actor=exchange.grant.text).rid)
    where = of_patient(patient, date_in(engine, given, "start", 0), date_in(engine, given, "end", 1)).and_(NOT_SENT)
    with engine.store.latest(SYSTEM) as db:
        found = db.events(where, size + 1, after=after)
    page = found[:size]
    names = names_of(engine.store, page)
    entries = [entry(exchange.base, "AuditEvent", str(each.id), fhirjson.dumps(shown_to(patient, each, names)), "match") for each in page]
    following = None
    if len(found) > size:
        following = cursor.encode(Position((), page[-1].id), key=engine.page_key, query=text, actor=exchange.grant.text)
    total = len(page) if after is None and following is None else None
    return searchset(exchange, path, applied, entries, total, following, given.get("_cursor"))


def _asked(engine: Engine, exchange: Exchange) -> tuple[dict[str, str], int]:
    given: dict[str, str] = {}
    for name, value in texts(engine, exchange):
        if name not in _KNOWN:
            raise Outcome("parameter", f"The parameter '{name[:80]}' is not known here; {', '.join(_KNOWN)} are", code="not-supported")
        if name in given:
            raise Outcome("parameter", f"The parameter '{name}' stands twice")
        given[name] = value
    text = given.get("_count", str(_USUAL))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):  # noqa: PLR2004 - beyond any size
        raise Outcome("parameter", f"_count is a whole number from 1, not '{text[:80]}'", code="value")
    return given, min(int(text), _MOST)
