"""The time that appointments take, and the Slots of whose time it is, kept in step by the transaction that writes either.

See docs/decisions/0025-no-double-booking.md and 0028-slots-follow-appointments.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from fhir_server import fhirjson
from fhir_server.search import Grant
from fhir_server.store.database import Connection
from fhir_server.store.writing.content import stamp
from fhir_server.store.writing.current import locked
from fhir_server.store.writing.plan import Current, Target, Writer

from . import occupancy, slots

_BESIDE = -1


def follow(
    writer: Writer, connection: Connection, targets: list[Target], foreseen: Mapping[str, Current], grant: Grant, at: datetime
) -> list[Target]:
    """Holds what appointments hold, once they are written; the new versions of Slots that are to be written with it.

    `foreseen` are Slots that are locked already. Raises Outcome as `occupancy.follow`.
    """
    beside = slots.project(connection, writer.registry, targets, at)
    spans = occupancy.follow(connection, writer.registry, targets, grant, at, beside.actors)
    changed = slots.steps(connection, targets, spans, beside, at)
    if not changed:
        return []
    known = {**foreseen, **{target.id: _as_current(target) for target in targets if target.type == "Slot"}}
    if missing := [step.id for step in changed if step.id not in known]:
        number = writer.dictionary.types["Slot"]
        known |= {identity: found for (_, identity), found in locked(writer, connection, [(number, each) for each in missing]).items()}
    return [_version(step, known[step.id], at) for step in changed]


def _version(step: slots.Step, current: Current, at: datetime) -> Target:
    assert current.body is not None
    resource = fhirjson.loads(current.body.encode()) | {"status": step.status}
    moment = max(at, current.updated + timedelta(milliseconds=1))
    target = Target(_BESIDE, "Slot", step.id, "U", current.rid, current.version + 1, moment, current)
    target.resource = stamp(resource, step.id, target.version, moment)
    target.body = fhirjson.dumps(target.resource)
    return target


def _as_current(target: Target) -> Current:
    assert target.at is not None
    return Current(target.rid, target.version, target.resource is None, target.at, target.body.decode() if target.body else None, 0)
