"""`/payments/shifts`, `/payments/settings`: what was in the drawers and should have been, and the rules of payments at the desk."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec
from flask import Response
from flask.views import MethodView

from fhir_server.clinic.billing.payments import rules, shifts
from fhir_server.store.database import Connection

from . import decisions
from .exchange import answered
from .office import caller, instant, office
from .pages import moment_before, paged
from .routes import Routes
from .schemas import shifts as schemas

routes: Final = Routes("shifts", "Payments at the desk: shifts at drawers, and which rules hold.")

_HEAD: Final = ("item", "method", "user", "currency", "payments", "taken", "given")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@routes.route("/payments/shifts")
@routes.arguments(schemas.ShiftQuery, location="query")
@routes.response(200, schemas.Shifts)
def listed(asked: dict[str, Any]) -> Response:
    """List shifts

    Those opened last first, with what should be in their drawers and what was counted.
    """
    after = moment_before(asked)
    with office().store.database.connection() as connection:
        rows = shifts.page(connection, asked.get("location"), after, asked["limit"] + 1)
    return paged(asked, rows, lambda row: (row.opened.isoformat(), row.id), _shown)


@routes.route("/payments/shifts/<identity>")
@routes.response(200, schemas.Shift)
def one(identity: str) -> Response:
    """Show a shift"""
    with office().store.database.connection() as connection:
        return answered(_shown(shifts.shift_of(connection, identity)))


@routes.route("/payments/shifts/<identity>/report")
@routes.response(200, {"type": "string"}, content_type="text/csv")
def report(identity: str) -> Response:
    """Show a shift as a table

    Comma-separated values: a line for each method and user, and one each for the float, what should be in the drawer, what was, and the difference.
    """
    with office().store.database.connection() as connection:
        found = shifts.shift_of(connection, identity)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(_rows(found))
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="shift-{found.id}.csv"'}
    return Response(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


@routes.route("/payments/settings")
class PaymentSettings(MethodView):
    """The rules."""

    @routes.tagged(schemas.PaymentRules)
    def get(self) -> Response:
        """Show the rules of payments"""
        return decisions.show(_rules)

    @routes.arguments(schemas.PaymentRuleChanges)
    @routes.tagged(schemas.PaymentRules)
    @routes.conditional
    def patch(self, given: dict[str, Any]) -> Response:
        """Change the rules of payments

        They count from the next payment on. What is not named stays.
        """
        here, by = office(), caller().actor
        return decisions.change("policy", _rules, lambda connection: rules.set_rules(here.store, connection, given, by))


def _rules(connection: Connection) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(rules.rules_of(office().store, connection))
    return found


def _shown(shift: shifts.Shift) -> dict[str, Any]:
    return {
        "id": shift.id,
        "location": shift.location,
        "opened": instant(shift.opened),
        "opened_by": shift.opened_by,
        "closed": instant(shift.closed) if shift.closed is not None else None,
        "closed_by": shift.closed_by,
        "currency": shift.currency,
        **{name: str(value) for name, value in _sums(shift)},
        "counted": _text(shift.counted),
        "difference": _text(shift.difference),
        "reason": shift.reason,
        "totals": [msgspec.to_builtins(each) for each in shift.report.totals],
    }


def _sums(shift: shifts.Shift) -> tuple[tuple[str, Decimal], ...]:
    return (("float", shift.float), ("cash_in", shift.cash_in), ("cash_out", shift.cash_out), ("expected", shift.report.expected))


def _text(value: Decimal | None) -> str | None:
    return str(value) if value is not None else None


def _rows(shift: shifts.Shift) -> Iterator[tuple[str, ...]]:
    yield _HEAD
    yield ("float", "", "", shift.currency, "", str(shift.float), "")
    for each in shift.report.totals:
        # A spreadsheet would compute a name that begins like a formula.
        user = f"'{each.user}" if each.user.startswith(_FORMULA) else each.user
        yield ("total", each.method, user, each.currency, str(each.payments), str(each.taken), str(each.given))
    for name, value in (("expected", shift.report.expected), ("counted", shift.counted), ("difference", shift.difference)):
        if value is not None:
            yield (name, "", "", shift.currency, "", str(value), "")
