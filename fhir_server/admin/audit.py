"""`/audit`: what was done, by whom and to whose record; the same events as AuditEvent over FHIR."""

from __future__ import annotations

from typing import Any, Final

from flask import Response, request

from fhir_server.access.audit import Event
from fhir_server.outcome import Outcome
from fhir_server.search import Statement
from fhir_server.store.database import scalar
from fhir_server.store.trail.chain import verify
from fhir_server.store.trail.search import Entry, Place, events

from .exchange import answered, done_by_caller
from .office import instant, office
from .pages import number_before, paged
from .routes import Routes
from .schemas import audit as schemas

routes: Final = Routes("audit", "What was done, by whom and to whose record. Reading it is written down too.")

_LOCK: Final = 0x46484958
_CONDITIONS: Final = {
    "kind": "e.kind = %s",
    "outcome": "e.outcome = %s",
    "actor": "e.actor = %s",
    "account": "e.account = %s",
    "patient": "e.patients @> ARRAY[%s]",
    "type": "e.type = %s",
    "resource": "e.resource = %s",
    "request_id": "e.request_id = %s",
    "since": "e.recorded >= %s",
    "before": "e.recorded < %s",
}


@routes.route("/audit")
@routes.arguments(schemas.EventQuery, location="query")
@routes.response(200, schemas.Events)
def search(asked: dict[str, Any]) -> Response:
    """Search the audit trail

    The newest first. All conditions have to hold.
    """
    after = number_before(asked)
    where = Statement("TRUE")
    for name, condition in _CONDITIONS.items():
        if name in asked:
            where = where.and_(Statement(condition, (asked[name],)))
    with office().store.database.connection() as connection:
        rows = events(connection, where, asked["limit"] + 1, after=Place(after) if after is not None else None)
    patients = (asked["patient"],) if "patient" in asked else ()
    office().store.note(done_by_caller(Event("search", type="AuditEvent", patients=patients, query=request.full_path)))
    return paged(asked, rows, lambda row: (str(row.id),), _shown)


@routes.route("/audit/verify", methods=["POST"])
@routes.response(200, schemas.Verdict)
def verify_chain() -> Response:
    """Verify the audit trail

    Goes through the whole chain, 10 to 20 s for a million events. One at a time: 409 while another runs.
    """
    store = office().store
    with store.database.connection() as connection:
        if not scalar(connection, "SELECT pg_try_advisory_lock(%s)", _LOCK):
            raise Outcome("conflict", "The trail is being verified already; wait for that", headers={"Retry-After": "10"})
        try:
            found = verify(store.database)
        finally:
            if not connection.closed:
                connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    detail = found.fault or f"{found.entries} entries in order"
    store.note(done_by_caller(Event("operation", type="AuditEvent", outcome=0 if found.fault is None else 8, detail=f"verify: {detail}")))
    body = {
        "ok": found.fault is None,
        "entries": found.entries,
        "archived": found.archived,
        "head": found.head,
        "unsealed": found.unsealed,
        "fault": found.fault,
    }
    return answered(body)


def _shown(entry: Entry) -> dict[str, Any]:
    names = ("kind", "action", "outcome", "actor", "account", "client", "session", "purpose", "address", "request_id", "type", "resource", "version")
    return {name: getattr(entry, name) for name in (*names, "query", "detail")} | {
        "id": str(entry.id),
        "recorded": instant(entry.recorded),
        "received": instant(entry.received),
        "fhirUser": entry.fhir_user,
        "roles": list(entry.roles),
        "patients": list(entry.patients),
    }
