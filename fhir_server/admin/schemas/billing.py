"""Bill templates as they are tried out."""

from __future__ import annotations

from typing import Final

from marshmallow import Schema, fields, validate

from .common import Strict, shown

MOST_CASES: Final = 20
_AMOUNT: Final = validate.Regexp(r"^[0-9]{1,12}(\.[0-9]{1,6})?$", error="Not an amount, such as 12.50.")


def _resource(description: str) -> fields.Dict:
    return fields.Dict(keys=fields.String(), metadata={"description": description})


def _amount(description: str) -> fields.String:
    return fields.String(validate=_AMOUNT, metadata={"description": description})


class Expected(Strict):
    """What a charge should come to; what is left out is not looked at."""

    net = _amount("Before tax.")
    tax = _amount("Tax.")
    gross = _amount("With tax.")


class Case(Strict):
    """Somebody who would be charged."""

    name = fields.String(load_default="", validate=validate.Length(0, 200), metadata={"description": "What the case is called in the answer."})
    patient = _resource("A Patient, `%patient`.")
    encounter = _resource("An Encounter, `%encounter`.")
    coverage = fields.List(fields.Dict(keys=fields.String()), validate=validate.Length(0, 10), metadata={"description": "Coverages, `%coverage`."})
    quantity = fields.String(
        load_default="1",
        validate=validate.Regexp(r"^[0-9]{1,6}(\.[0-9]{1,6})?$", error="Not a quantity, such as 2."),
        metadata={"description": "How many."},
    )
    now = fields.AwareDateTime(metadata={"description": "When, `%now`, with its zone; without it now."})
    days_since_paid_visit = fields.Integer(
        strict=True, validate=validate.Range(0, 36_500), metadata={"description": "`%daysSincePaidVisit`; without it there was none."}
    )
    expected = fields.Nested(Expected)


class BillPreview(Strict):
    """A template, and whom it is tried out on."""

    template = fields.Dict(keys=fields.String(), required=True, metadata={"description": "A ChargeItemDefinition, stored or not."})
    cases = fields.List(fields.Nested(Case), required=True, validate=validate.Length(1, MOST_CASES))


class PricedLine(Schema):
    """A component as it came out."""

    type = shown("base, surcharge, discount, deduction, tax or informational; discounts and deductions are subtracted.")
    amount = shown("The amount, with all digits of the currency.")
    factor = shown("The factor, where it has one.", may_lack=True)


class CaseResult(Schema):
    """What a case comes to."""

    name = shown("The case.")
    applies = fields.Boolean(required=True, metadata={"description": "Whether the template applies; without that there are no amounts."})
    currency = shown("Of the amounts.", may_lack=True)
    net = shown("Before tax.", may_lack=True)
    tax = shown("Tax.", may_lack=True)
    gross = shown("With tax.", may_lack=True)
    lines = fields.List(fields.Nested(PricedLine), required=True)
    fault = shown("What is wrong with the template in this case, with its place.", may_lack=True)
    passed = fields.Boolean(required=True, allow_none=True, metadata={"description": "Whether it is as expected; null where nothing was."})


class BillPreviewed(Schema):
    """What the cases come to, in their order."""

    items = fields.List(fields.Nested(CaseResult), required=True)
    passed = fields.Boolean(required=True, metadata={"description": "Whether no case is other than expected."})
