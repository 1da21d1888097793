"""What a write means beyond itself: the parts of the store whose rules hold at every door, each named once and in the order of its turn.

Some write more than they were told (`derive`, `raised`), some refuse (`own`, `check`), some bring their own rows to what was written (`foresee`,
`bring`) and can make them anew (`renew`). A transaction that is about nothing of theirs (`concern`) is a single statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from fhir_server.search import Grant, Registry
from fhir_server.store import consents
from fhir_server.store.database import Connection
from fhir_server.store.index import parameters
from fhir_server.store.ops import Op, Resource
from fhir_server.store.snapshot import Snapshot
from fhir_server.store.units import Unit
from fhir_server.store.writing.plan import Current, Target, Writer

from . import fulfilment, lifecycle, prescriptions, subscribers
from .billing import bills, insurance, payments
from .queueing import following as queue
from .reports import rows as reports
from .scheduling import occupancy, slots, timekeeping

_PARTS: Final = (consents, occupancy, slots, subscribers, queue, bills, payments, insurance)


def concern(ops: Sequence[Op], grants: Iterable[Grant]) -> bool:
    """Whether something has to be looked up for ops, or follows from them, in the name of some caller."""
    return any(part.concerns(ops) for part in _PARTS) or any(prescriptions.concerns(ops, grant) for grant in grants)


def foresee(writer: Writer, connection: Connection, targets: Sequence[Target], at: datetime) -> set[str]:
    """The ids of the Slots that are likely to change, to be locked with what is written."""
    return slots.foresee(connection, writer.registry, targets, at)


def own(writer: Writer, connection: Connection, targets: list[Target], unit: Unit) -> None:
    """Completes what is the server's to say in what a unit brings. Raises Outcome `business-rule` and others."""
    payments.own(connection, writer.registry, targets, unit.grant, unit.operation)


def derive(writer: Writer, connection: Connection, targets: list[Target], grant: Grant, at: datetime) -> set[str]:
    """Adds to what is written what has to be written with it; the ids of the Encounters that the queue has judged already."""
    targets += fulfilment.take_back(writer, connection, targets, at)
    queued = queue.follow(writer, connection, targets, grant, at)
    targets += fulfilment.follow(writer, connection, targets, at)
    return queued


def raised(writer: Writer, connection: Connection, targets: list[Target], at: datetime) -> list[Target]:
    """The Encounters whose zone goes up by what is written."""
    return queue.raised(writer, connection, targets, at)


def check(writer: Writer, targets: Sequence[Target], unit: Unit, at: datetime, queued: set[str]) -> None:
    """Holds what a unit writes to the states that may follow each other and to the rules of bills. Raises Outcome `business-rule` and others."""
    judged = [target for target in targets if target.type != "Encounter" or target.id not in queued]
    lifecycle.check(judged, unit.grant, at, writer.registry.zone)
    for part in (bills, payments, insurance):
        part.check(targets, unit.grant, unit.operation)


def bring_common(writer: Writer, connection: Connection, targets: Sequence[Target]) -> None:
    """Brings up to date what is about all units of a transaction together."""
    if found := [(target.id, target.resource) for target in targets if target.type == "SearchParameter"]:
        parameters.follow(connection, writer.registry, found)
    consents.follow(connection, writer.registry, targets)


def bring(writer: Writer, connection: Connection, targets: list[Target], grant: Grant, foreseen: Mapping[str, Current], at: datetime) -> list[Target]:
    """Brings up to date what is about one unit; the new versions of Slots that are to be written after it.

    Raises Outcome as `occupancy.follow`, and `business-rule` for a prescription that something speaks against.
    """
    changed = timekeeping.follow(writer, connection, targets, foreseen, grant, at)
    subscribers.follow(connection, targets, grant)
    bills.follow(connection, writer.registry, targets)
    insurance.follow(connection, writer.registry, targets)
    reports.follow(connection, writer.registry, reports.changes(writer.registry, targets))
    prescriptions.check(targets, writer.registry, grant, Snapshot(connection, writer.registry, writer.dictionary, grant))
    return changed


def bring_counts(writer: Writer, connection: Connection, targets: Iterable[Target], write: Callable[[bool], None]) -> None:
    """Writes plain creates, from which nothing follows but what reports count; `write` is told whether it does so inside of a transaction."""
    counted = reports.changes(writer.registry, targets)
    if not counted:
        write(False)
        return
    with connection.transaction():
        write(True)
        reports.follow(connection, writer.registry, counted)


def renew(connection: Connection, registry: Registry, at: datetime) -> None:
    """Makes all that is kept beside resources anew, from their current versions. In a transaction that nobody writes beside."""
    consents.renew(connection, registry)
    occupancy.renew(connection, registry, at)
    slots.renew(connection, registry)
    bills.renew(connection, registry)
    insurance.renew(connection, registry)
    reports.renew(connection, registry)


def renew_some(connection: Connection, registry: Registry, resources: Mapping[int, Resource | None], at: datetime) -> None:
    """Makes anew what time, Slots and reports have of some resources, by number, None for one that is deleted. In the transaction that locks them."""
    booked = {rid: resource for rid, resource in resources.items() if resource is None or resource["resourceType"] == "Appointment"}
    occupancy.renew(connection, registry, at, booked)
    timed = {rid: (resource["resourceType"], resource["id"], resource) for rid, resource in resources.items() if resource is not None}
    slots.renew(connection, registry, timed)
    reports.renew(connection, registry, resources)
