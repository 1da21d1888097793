"""`/payments`: payments by the gateway, what it has told that does not fit, and the days that were compared with its list."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import date
from typing import Any, Final

from flask import Response

from fhir_server.access.audit import Event
from fhir_server.clinic.billing.gateway import Gateway, comparing, events, rows
from fhir_server.outcome import Outcome

from .exchange import Answer, act_apart, answered, done_by_caller, number_of
from .office import caller, identity_of, instant, office
from .pages import moment_before, number_before, paged, position
from .routes import Routes
from .schemas import payments as schemas
from .schemas.common import Paging

routes: Final = Routes("payments", "Payments by the gateway: what it has told that does not fit, and the days that were compared with its list.")

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TYPE: Final = "payment-event"


@routes.route("/payments/intents")
@routes.arguments(schemas.OnlinePaymentsQuery, location="query")
@routes.response(200, schemas.OnlinePayments)
def intents(asked: dict[str, Any]) -> Response:
    """List payments by the gateway

    The newest first. All conditions have to hold.
    """
    after = moment_before(asked)
    with office().store.database.connection() as connection:
        found = rows.page(connection, asked, after, asked["limit"] + 1)
    return paged(asked, found, lambda row: (row["asked"].isoformat(), row["id"]), _payment)


@routes.route("/payments/events")
@routes.arguments(schemas.PaymentEventsQuery, location="query")
@routes.response(200, schemas.PaymentEvents)
def told(asked: dict[str, Any]) -> Response:
    """List what the gateway has told

    The newest first; `state=parked` for what fits nothing that is known here, or has another amount.
    """
    after = number_before(asked)
    with office().store.database.connection() as connection:
        found = events.page(connection, asked.get("state"), after, asked["limit"] + 1)
    return paged(asked, found, lambda row: (str(row.number),), _event)


@routes.route("/payments/events/<identity>")
@routes.response(200, schemas.WholePaymentEvent)
def event(identity: str) -> Response:
    """Show what the gateway has told

    As it came, as long as somebody has to look at it.
    """
    with office().store.database.connection() as connection:
        found = events.one(connection, number_of(identity, "event"))
    office().store.note(done_by_caller(Event("read", type=_TYPE, resource=identity)))
    return answered(_event(found) | {"body": found.body})


@routes.route("/payments/events/<identity>/replay", methods=["POST"])
@routes.response(200, schemas.PaymentEvent)
@routes.idempotent
def replay(identity: str) -> Response:
    """Try what the gateway has told once more

    What still does not fit stays parked, with the reason.
    """
    number = number_of(identity, "event")

    def work() -> Answer:
        found = events.replay(office().store, _gateway(number), number, identity_of(caller()))
        office().store.note(done_by_caller(Event("operation", type=_TYPE, resource=identity, detail="tried again")))
        return Answer(_event(found))

    return act_apart(work)


@routes.route("/payments/events/<identity>/assign", methods=["POST"])
@routes.arguments(schemas.Assignment)
@routes.response(200, schemas.PaymentEvent)
@routes.idempotent
def assign(given: dict[str, Any], identity: str) -> Response:
    """Book what the gateway has told on an Invoice

    For as much as was paid, whatever was asked for. What is more than due is owed to the patient then.
    """
    number = number_of(identity, "event")

    def work() -> Answer:
        found = events.assign(office().store, _gateway(number), number, given["invoice"], identity_of(caller()))
        office().store.note(done_by_caller(Event("operation", type=_TYPE, resource=identity, detail=f"booked on Invoice/{given['invoice']}")))
        return Answer(_event(found))

    return act_apart(work)


@routes.route("/payments/reconciliations")
@routes.arguments(Paging, location="query")
@routes.response(200, schemas.ComparedDays)
def days(asked: dict[str, Any]) -> Response:
    """List days that were compared with the gateway

    The newest first.
    """
    after = position(asked)
    with office().store.database.connection() as connection:
        found = comparing.days(connection, date.fromisoformat(str(after[0])) if after else None, asked["limit"] + 1)
    return paged(asked, found, lambda row: (row.day.isoformat(),), _compared)


@routes.route("/payments/reconciliations", methods=["POST"])
@routes.arguments(schemas.DayToCompare)
@routes.response(200, schemas.ComparedDay)
@routes.idempotent
def compare(given: dict[str, Any]) -> Response:
    """Compare a day with the gateway

    At once, in place of what was found before. Nothing else is changed by it.
    """

    def work() -> Answer:
        here = office()
        if given["day"] > here.store.clock().astimezone(here.store.registry.zone).date():
            raise Outcome("invalid", "The day is still to come", expression="day")
        return Answer(_compared(comparing.compare(here.store, _gateway(None), given["day"])))

    return act_apart(work)


@routes.route("/payments/reconciliations/<day>")
@routes.response(200, schemas.WholeComparedDay)
def day(day: str) -> Response:
    """Show a day that was compared with the gateway

    With its differences.
    """
    try:
        wanted = date.fromisoformat(day if _DAY.fullmatch(day) else "")
    except ValueError:
        raise Outcome("not-found", "There is no such day") from None
    with office().store.database.connection() as connection:
        found, differences = comparing.one(connection, wanted)
    return answered(_compared(found) | {"items": [_difference(each) for each in differences]})


def _gateway(number: int | None) -> Gateway:
    """The gateway. Raises Outcome `not-found` for an event that is not there, `business-rule` where no gateway is set up."""
    if number is not None:
        with office().store.database.connection() as connection:
            events.one(connection, number)
    if not office().online.is_set_up:
        raise Outcome("business-rule", "No payment gateway is set up here")
    return office().online.gateway


def _payment(row: dict[str, Any]) -> dict[str, Any]:
    moments = {name: instant(row[name]) for name in ("asked", "checked", "disputed")}
    amounts = {name: None if row[name] is None else str(row[name]) for name in ("amount", "received", "refunded")}
    return row | moments | amounts


def _event(row: events.Kept) -> dict[str, Any]:
    names = ("number", "gateway", "id", "type", "reference", "state", "reason", "settled_by")
    return {name: getattr(row, name) for name in names} | {"payment": row.intent, "came": instant(row.came), "settled": instant(row.settled)}


def _compared(row: comparing.Day) -> dict[str, Any]:
    return asdict(row) | {"day": row.day.isoformat(), "compared": instant(row.compared)}


def _difference(row: comparing.Difference) -> dict[str, Any]:
    amounts = {name: None if getattr(row, name) is None else str(getattr(row, name)) for name in ("ours", "theirs")}
    names = ("kind", "invoice", "reference", "currency")
    return {name: getattr(row, name) for name in names} | {"payment": row.intent} | amounts
