"""What a queue has to know of places: whether they are open, which minutes count, who works there."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.clinic.acting import Act, content, visible
from fhir_server.search import SYSTEM
from fhir_server.search.compile import compile_matching
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.rules.queueing import queue

from .order import DEFAULTS, Limits

_MOST: Final = 50
_ROLES: Final = "PractitionerRole"

Json = dict[str, Any]


def limits_at(connection: Connection, location: str) -> dict[str, Limits]:
    """Targets and maxima of a Location's queue by zone."""
    own = {zone: Limits(*minutes) for zone, minutes in queue.limits(connection, location).items()}
    return {**DEFAULTS, **own}


def open_place(db: Snapshot, act: Act, identity: str) -> Json:
    """A Location at which somebody may queue. Raises Outcome `not-found`, `gone`, and `business-rule` for one that is not in use."""
    found = content(visible(db, act, "Location", identity))
    queue.refuse_closed(found, identity)
    return found


def roles(store: Store, connection: Connection, db: Snapshot, practitioner: str, location: str | None = None) -> list[Json]:
    """The active PractitionerRoles of a practitioner, by reference, at a Location if one is named; fifty at the most."""
    asked = [("practitioner", practitioner)] + ([("location", f"Location/{location}")] if location is not None else [])
    statement = compile_matching(store.registry.parse(_ROLES, asked, strict=True), store.registry, SYSTEM, _MOST)
    rows = connection.execute(f"SELECT r.id FROM ({statement.text}) AS m JOIN resource r ON r.type = m.type AND r.id = m.id", statement.params)  # noqa: S608
    found = [content(each) for each in db.read_many([(_ROLES, identity) for (identity,) in rows.fetchall()])]
    return [each for each in found if each.get("active") is not False]
