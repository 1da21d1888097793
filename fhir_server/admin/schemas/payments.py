"""Payments online as they are listed, and what is done about what does not fit."""

from __future__ import annotations

from typing import Final

from marshmallow import Schema, fields, validate

from .common import Page, Paging, Strict, moment, shown

STATES: Final = ("created", "requires_action", "processing", "succeeded", "failed", "cancelled", "unknown")
EVENTS: Final = ("parked", "applied", "ignored")
_ID: Final = validate.Regexp(r"^[A-Za-z0-9\-.]{1,64}$", error="Not the id of an Invoice.")
_KINDS: Final = (
    "unknown-here: the gateway has a payment that nobody has begun here; unknown-there: it does not know ours; state: one of the two takes it for"
    " paid, the other not; amount, refunded: they have other amounts; ledger: the payment is known, but not booked as it is."
)


def _money(description: str, *, may_lack: bool = False) -> fields.String:
    return fields.String(required=True, allow_none=may_lack, metadata={"description": description})


class OnlinePaymentsQuery(Paging):
    """Which payments."""

    state = fields.String(validate=validate.OneOf(STATES), metadata={"description": "The state."})
    invoice = fields.String(validate=_ID, metadata={"description": "The id of an Invoice."})
    disputed = fields.Boolean(truthy={"true"}, falsy={"false"}, metadata={"description": "Whether the payer's bank wants it back."})


class OnlinePayment(Schema):
    """A payment by the gateway."""

    id = shown("Our id, which the gateway has too.")
    gateway = shown("The gateway.")
    invoice = shown("The id of the Invoice.")
    amount = _money("How much was asked for.")
    currency = shown("Of the amounts.")
    state = fields.String(required=True, validate=validate.OneOf(STATES), metadata={"description": "`unknown`: the gateway is still to be asked."})
    reference = shown("The gateway's number.", may_lack=True)
    session = shown("The number of the gateway's page.", may_lack=True)
    payment = shown("The id of the PaymentReconciliation.", may_lack=True)
    received = _money("How much was paid.", may_lack=True)
    refunded = _money("How much the gateway has told of as given back.")
    disputed = moment("When a dispute was heard of.", may_lack=True)
    dispute = shown("The gateway's number of it, and the reason.", may_lack=True)
    fault = shown("Why it came to nothing, as a code of the gateway's.", may_lack=True)
    asked = moment("When it was begun.")
    asked_by = shown("By whom.")
    checked = moment("When the gateway was asked last.", may_lack=True)


class OnlinePayments(Page):
    """Payments, the newest first."""

    items = fields.List(fields.Nested(OnlinePayment), required=True)


class PaymentEventsQuery(Paging):
    """Which events."""

    state = fields.String(validate=validate.OneOf(EVENTS), metadata={"description": "`parked` for those that somebody has to look at."})


class PaymentEvent(Schema):
    """What the gateway has told."""

    number = fields.Integer(required=True, metadata={"description": "Its number here."})
    gateway = shown("The gateway.")
    id = shown("The gateway's id of it.")
    type = shown("The type, as `charge.refunded`; `answer` for what it has answered when it was asked.")
    reference = shown("The gateway's number of what it is about.", may_lack=True)
    state = fields.String(required=True, validate=validate.OneOf(EVENTS))
    reason = shown("Why it is parked.", may_lack=True)
    payment = shown("The id of the payment that it is about.", may_lack=True)
    came = moment("When it came.")
    settled = moment("When it was done with.", may_lack=True)
    settled_by = shown("By whom, where somebody had to.", may_lack=True)


class PaymentEvents(Page):
    """Events, the newest first."""

    items = fields.List(fields.Nested(PaymentEvent), required=True)


class WholePaymentEvent(PaymentEvent):
    """An event with what came."""

    body = shown("As it came, as long as it is parked.", may_lack=True)


class Assignment(Strict):
    """Which Invoice an event pays."""

    invoice = fields.String(required=True, validate=_ID, metadata={"description": "The id of an Invoice."})


class ComparedDay(Schema):
    """A day that was compared with the gateway's list."""

    gateway = shown("The gateway.")
    day = fields.String(required=True, metadata={"format": "date", "description": "The day, in the clinic's zone."})
    payments = fields.Integer(required=True, metadata={"description": "Payments that the gateway has of it."})
    differences = fields.Integer(required=True)
    compared = moment("When.")


class ComparedDays(Page):
    """Days, the newest first."""

    items = fields.List(fields.Nested(ComparedDay), required=True)


class PaymentDifference(Schema):
    """Where the gateway and we do not agree."""

    kind = shown(_KINDS)
    payment = shown("The id of our payment.", may_lack=True)
    invoice = shown("The id of the Invoice.", may_lack=True)
    reference = shown("The gateway's number.", may_lack=True)
    currency = shown("Of the amounts.", may_lack=True)
    ours = _money("What we have.", may_lack=True)
    theirs = _money("What the gateway has.", may_lack=True)


class WholeComparedDay(ComparedDay):
    """A day with its differences, of which 1,000 are shown."""

    items = fields.List(fields.Nested(PaymentDifference), required=True)


class DayToCompare(Strict):
    """Which day to compare."""

    day = fields.Date(required=True, metadata={"description": "The day, in the clinic's zone; not one that is to come."})
