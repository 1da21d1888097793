"""Shifts at drawers, and rules of payments, as they are sent and shown."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from .common import Page, Paging, Strict, Switch, moment, shown


class ShiftQuery(Paging):
    """Which shifts are asked for."""

    location = fields.String(validate=validate.Length(1, 64), metadata={"description": "The id of a Location: its shifts alone."})


class ShiftTotal(Schema):
    """What somebody took in and gave out in a shift by one method."""

    method = shown("cash, card, transfer, credit or gateway.")
    user = shown("Who.")
    currency = shown("Of the amounts.")
    payments = fields.Integer(required=True, metadata={"description": "How many."})
    taken = shown("What came in.")
    given = shown("What went out.")


class Shift(Schema):
    """A shift at a drawer. Of one that is open, sums are as of now."""

    id = shown("The id.")
    location = shown("The id of the Location.")
    opened = moment("When it was opened.")
    opened_by = shown("By whom.")
    closed = moment("When it was closed; null while it is open.", may_lack=True)
    closed_by = shown("By whom.", may_lack=True)
    currency = shown("Of the drawer.")
    float = shown("The cash that was in the drawer.")
    cash_in = shown("Cash that was taken.")
    cash_out = shown("Cash that was given back.")
    expected = shown("What should be in the drawer.")
    counted = shown("What was in it.", may_lack=True)
    difference = shown("What there was too much; negative for too little.", may_lack=True)
    reason = shown("Of the difference.", may_lack=True)
    totals = fields.List(fields.Nested(ShiftTotal), required=True)


class Shifts(Page):
    """Shifts, those opened last first."""

    items = fields.List(fields.Nested(Shift), required=True)


_COINS = {"description": "The smallest coin by currency, besides or instead of the usual ones; 0 for no rounding."}


class PaymentRules(Schema):
    """What holds for payments at the desk."""

    coins = fields.Dict(keys=fields.String(), values=fields.String(), required=True, metadata=_COINS)
    shift_required = fields.Boolean(required=True, metadata={"description": "Whether cash is taken, and given back, in a shift alone."})


class PaymentRuleChanges(Strict):
    """Rules that change; those that are left out stay."""

    coins = fields.Dict(
        keys=fields.String(validate=validate.Regexp(r"^[A-Z]{3}$", error="Not a currency, such as EUR.")),
        values=fields.String(validate=validate.Regexp(r"^[0-9]{1,5}(\.[0-9]{1,4})?$", error="Not a coin, such as 0.05.")),
        validate=validate.Length(0, 20),
        metadata=_COINS,
    )
    shift_required = Switch(metadata={"description": "Whether cash is taken, and given back, in a shift alone."})
