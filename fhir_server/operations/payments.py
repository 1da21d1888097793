"""`$pay`, `$refund` and `$approve-refund`: money that comes and goes at the desk."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act, carry_out
from fhir_server.clinic.billing import payments
from fhir_server.clinic.billing.approvals import Request
from fhir_server.clinic.billing.gateway import Online, gateway_of, refunds
from fhir_server.clinic.billing.gateway.rows import Intent
from fhir_server.clinic.billing.money import money
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.store.ops import Commit

from .acts import first_written, once
from .billing import acting_for, waits
from .operation import Operation, acting
from .parameters import Inputs, Json


def pay(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the PaymentReconciliation; by a gateway Parameters with the `url` to pay at. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("method", "amount", "tendered", "reference"))
    identity, method = inputs.needed("id", exchange.id), inputs.needed("method", inputs.text("method"))
    amount, currency = inputs.money("amount") or (None, None)
    tendered, given = inputs.money("tendered") or (None, None)
    if method == "gateway":
        if tendered is not None or inputs.text("reference") is not None:
            raise Outcome("parameter", "'tendered' and 'reference' are for payments at the desk", code="value")
        return _begin(engine, exchange, identity, amount, currency)
    known = next((each for each in payments.METHODS if each == method), None)
    if known is None:
        raise Outcome("parameter", f"The parameter 'method' is {', '.join(payments.METHODS)} or gateway", code="value")
    if None not in (currency, given) and currency != given:
        raise Outcome("parameter", "What is paid and what is tendered are in one currency", code="value")
    paid = payments.Paid(known, amount, currency or given, tendered, inputs.text("reference") or "")
    return once(engine, exchange, "pay", lambda act: payments.pay(engine.store, act, identity, paid), first_written(200))


def _begin(engine: Engine, exchange: Exchange, identity: str, amount: Decimal | None, currency: str | None) -> Reply:
    online = online_of(engine)
    begun: list[Intent] = []

    def run(act: Act) -> Commit:
        begun[:] = [online.begin(replace(act, beside=None), identity, amount, currency, exchange.base)]
        # What the gateway has answered is written by now; the answer to the caller is kept with a key of theirs.
        return carry_out(engine.store, act, lambda _, __: ())

    return once(engine, exchange, "pay", run, lambda _: Reply(200, fhirjson.dumps(_told(begun[-1]))))


def _told(begun: Intent) -> Json:
    parts: list[Json] = [
        {"name": "url", "valueUrl": begun.place},
        {"name": "id", "valueString": begun.id},
        {"name": "state", "valueCode": begun.state},
        {"name": "amount", "valueMoney": money(begun.amount, begun.currency)},
    ]
    numbers = (("reference", begun.reference), ("session", begun.session))
    return {"resourceType": "Parameters", "parameter": [*parts, *({"name": name, "valueString": value} for name, value in numbers if value)]}


def online_of(engine: Engine) -> Online:
    """Payments by the gateway that is set up. Raises Outcome `not-implemented` for an engine without settings."""
    if engine.settings is None:
        raise Outcome("not-implemented", "This clinic takes no payments online")
    return Online(engine.store, engine.settings)


def refund(engine: Engine, exchange: Exchange) -> Reply:
    """202 and Parameters with the `request`, which a second person has to approve. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("amount", "reason"))
    identity = inputs.needed("id", exchange.id)
    amount, currency = inputs.money("amount") or (None, None)
    reason = inputs.needed("reason", inputs.text("reason"))
    made: list[Request] = []

    def run(act: Act) -> Commit:
        made.clear()
        return payments.ask_refund(engine.store, acting_for(act, reason), identity, amount, currency, made.append)

    return once(engine, exchange, "refund", run, lambda _: waits(made[-1]))


def approve_refund(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the PaymentReconciliation of what is given back. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("request",))
    identity, request = inputs.needed("id", exchange.id), inputs.text("request")
    gateway = gateway_of(engine.settings) if engine.settings is not None else None
    shares = payments.by_hand if gateway is None else lambda connection, found: refunds.shares(engine.store, gateway, connection, identity, found)

    def run(act: Act) -> Commit:
        return payments.approve_refund(engine.store, act, identity, request, shares)

    reply = once(engine, exchange, "approve-refund", run, first_written(200))
    if gateway is not None:
        # After the commit: what is not sent now is sent by the task of the next minute.
        with suppress(Outcome):
            refunds.send(engine.store, gateway, identity)
    return reply


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Invoice", "pay"): acting("Invoice-pay", pay, "instance"),
    ("Invoice", "refund"): acting("Invoice-refund", refund, "instance"),
    ("Invoice", "approve-refund"): acting("Invoice-approve-refund", approve_refund, "instance"),
}
