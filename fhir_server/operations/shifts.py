"""`$open-shift`, `$close-shift` and `$shift-report`: the drawer of a place, from its float to what was counted."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing.money import money
from fhir_server.clinic.billing.payments import shifts
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store import instant
from fhir_server.store.ops import Commit

from .acts import once
from .billing import acting_for
from .operation import Operation, acting, reading
from .parameters import Inputs, Json

_LONGEST: Final = 500


def open_shift(engine: Engine, exchange: Exchange) -> Reply:
    """201 and Parameters, as of the report. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("float",))
    place = inputs.needed("id", exchange.id)
    amount, currency = inputs.needed("float", inputs.money("float"))
    made: list[shifts.Shift] = []

    def run(act: Act) -> Commit:
        made.clear()
        return shifts.open_shift(engine.store, act, place, amount, currency, made.append)

    return once(engine, exchange, "open-shift", run, lambda _: Reply(201, _told(made[-1])))


def close_shift(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters, as of the report. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("counted", "reason"))
    place = inputs.needed("id", exchange.id)
    counted, currency = inputs.needed("counted", inputs.money("counted"))
    reason = inputs.text("reason") or ""
    if len(reason) > _LONGEST:
        raise Outcome("parameter", f"The parameter 'reason' has more than {_LONGEST} characters", code="too-long")
    made: list[shifts.Shift] = []

    def run(act: Act) -> Commit:
        made.clear()
        return shifts.close_shift(engine.store, acting_for(act, reason), place, counted, currency, made.append)

    return once(engine, exchange, "close-shift", run, lambda _: Reply(200, _told(made[-1])))


def report(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters: the shift that is open at the place, else the last one, or that of an id. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("shift",))
    place, identity = inputs.needed("id", exchange.id), inputs.text("shift")
    return Reply(200, _told(shifts.at(engine.store, Act("shift-report", exchange.grant), place, identity)))


def _told(shift: shifts.Shift) -> bytes:
    def amount(name: str, value: Decimal | None, currency: str = shift.currency) -> list[Json]:
        return [{"name": name, "valueMoney": money(value, currency)}] if value is not None else []

    def text(name: str, kind: str, value: str | None) -> list[Json]:
        return [{"name": name, f"value{kind}": value}] if value else []

    parts = [
        *text("shift", "String", shift.id),
        {"name": "location", "valueReference": {"reference": f"Location/{shift.location}"}},
        *text("state", "Code", "open" if shift.closed is None else "closed"),
        *text("opened", "Instant", instant(shift.opened)),
        *text("opened-by", "String", shift.opened_by),
        *text("closed", "Instant", instant(shift.closed) if shift.closed is not None else None),
        *text("closed-by", "String", shift.closed_by),
        *amount("float", shift.float),
        *amount("cash-in", shift.cash_in),
        *amount("cash-out", shift.cash_out),
        *amount("expected", shift.report.expected),
        *amount("counted", shift.counted),
        *amount("difference", shift.difference),
        *text("reason", "String", shift.reason),
    ]
    for total in shift.report.totals:
        found = [
            *text("method", "Code", total.method),
            *text("user", "String", total.user),
            {"name": "payments", "valueUnsignedInt": total.payments},
            *amount("taken", total.taken, total.currency),
            *amount("given", total.given, total.currency),
        ]
        parts.append({"name": "total", "part": found})
    return fhirjson.dumps({"resourceType": "Parameters", "parameter": parts})


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Location", "open-shift"): acting("Location-open-shift", open_shift, "instance"),
    ("Location", "close-shift"): acting("Location-close-shift", close_shift, "instance"),
    ("Location", "shift-report"): reading(CANON, "Location-shift-report", report, frozenset({"instance"})),
}
"""By resource type and name, for the registry."""
