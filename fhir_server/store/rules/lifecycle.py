"""Which status of a resource may follow which: the table that every door is held to, as all of them write through `transact`.

https://hl7.org/fhir/R4/appointment.html#status

A new resource may begin with any status: another system hands over appointments that are long over. One that keeps its status may change otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.params.date import parse_date
from fhir_server.store.ops import Resource
from fhir_server.store.writing.plan import Target

_FINANCIAL: Final[dict[str, tuple[str, ...]]] = {
    "draft": ("active", "cancelled", "entered-in-error"),
    "active": ("cancelled", "entered-in-error"),
    "cancelled": (),
    "entered-in-error": (),
}
MOVES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "Appointment": {
        "proposed": ("pending", "booked", "cancelled"),
        "waitlist": ("pending", "booked", "cancelled"),
        "pending": ("booked", "cancelled"),
        "booked": ("arrived", "checked-in", "noshow", "cancelled"),
        "arrived": ("checked-in", "cancelled", "booked"),
        "checked-in": ("fulfilled", "cancelled", "arrived"),
        "noshow": ("booked", "arrived"),
        "fulfilled": (),
        "cancelled": (),
        "entered-in-error": (),
    },
    # Of those who stand in a queue less is allowed; see `following`.
    "Encounter": {
        "planned": ("arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error"),
        "arrived": ("triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error"),
        "triaged": ("in-progress", "onleave", "finished", "cancelled", "entered-in-error"),
        "in-progress": ("onleave", "finished", "cancelled", "entered-in-error"),
        "onleave": ("in-progress", "finished", "cancelled", "entered-in-error"),
        "finished": ("entered-in-error",),
        "cancelled": ("entered-in-error",),
        "entered-in-error": (),
    },
    "ChargeItemDefinition": {"draft": ("active", "retired"), "active": ("retired",), "retired": ()},
    "ChargeItem": {
        "planned": ("billable", "not-billable", "aborted", "entered-in-error"),
        "billable": ("planned", "billed", "not-billable", "aborted", "entered-in-error"),
        "not-billable": ("billable", "aborted", "entered-in-error"),
        "billed": ("billable",),
        "aborted": ("entered-in-error",),
        "entered-in-error": (),
    },
    "Invoice": {
        # Of nothing there is nothing to be paid.
        "draft": ("issued", "balanced", "cancelled", "entered-in-error"),
        "issued": ("balanced", "cancelled"),
        "balanced": ("issued", "cancelled"),
        "cancelled": (),
        "entered-in-error": (),
    },
    "Claim": _FINANCIAL,
    "ClaimResponse": _FINANCIAL,
}
"""By type and status, those that may come next; a status without any is final, and one that is not here, as `unknown`, says nothing."""

_AGAIN: Final = frozenset({"planned", "arrived", "in-progress"})


def check(targets: Iterable[Target], grant: Grant, at: datetime, zone: ZoneInfo) -> None:
    """Raises Outcome `business-rule` for a move that is not in the table, `forbidden` for one that is not the caller's to make.

    `zone` is the clinic's, whose day it is `at` that moment.
    """
    for target in targets:
        moves, current = MOVES.get(target.type), target.current
        if moves is None or target.resource is None or current is None or current.body is None or current.deleted:
            continue
        old, new = fhirjson.loads(current.body.encode()), target.resource
        before, after = old.get("status"), new.get("status")
        if before == after or before not in moves:
            continue
        if target.type == "Encounter" and _is_taken_back(old, new, grant):
            continue
        if after not in moves[before]:
            raise Outcome("business-rule", _refusal(target.type, before, after, moves[before]), expression=f"{target.type}.status")
        if before == "noshow":
            _late(old, grant, at, zone)


def _refusal(name: str, before: str, after: Any, open_to_it: tuple[str, ...]) -> str:
    said = f"may become {' or '.join(open_to_it)}" if open_to_it else "stays so; make a new one"
    return f"{'An' if name[0] in 'AEIOU' else 'A'} {name} that is {before} cannot become {after}: it {said}"


def _is_taken_back(old: Resource, new: Resource, grant: Grant) -> bool:
    """Whether a message tells that a visit is not over after all, or is another one under its number: the system that sends it keeps the visits."""
    is_hospital = "admin" in grant.roles and any(scope.type == "*" and scope.patient is None for scope in grant.scopes)
    return is_hospital and old.get("status") in {"finished", "cancelled"} and new.get("status") in _AGAIN


def _late(old: Resource, grant: Grant, at: datetime, zone: ZoneInfo) -> None:
    """Who was taken for a no-show may still come on the day, which the desk decides."""
    if not is_of_the_desk(grant, "u"):
        raise Outcome("forbidden", "Only staff take back that somebody did not come", expression="Appointment.status")
    try:
        is_over = parse_date(old.get("start", ""), zone)[0].astimezone(zone).date() < at.astimezone(zone).date()
    except (ValueError, OverflowError):
        is_over = True
    if is_over:
        said = "That somebody did not come can be taken back until the end of the appointment's day; make a new appointment"
        raise Outcome("business-rule", said, expression="Appointment.status")


def is_of_the_desk(grant: Grant, permission: Literal["c", "u"]) -> bool:
    """Whether the caller decides what staff decide about appointments: staff, admins, and backend services that may write all of them."""
    if grant.roles:
        return bool(grant.roles & {"staff", "admin"})
    return any(way.patient is None and not way.query for way in grant.ways("Appointment", permission))
