"""`$pay`, `$refund` and `$approve-refund`: money that comes and goes at the desk."""

from __future__ import annotations

from typing import Final

from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing import payments
from fhir_server.clinic.billing.approvals import Request
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.store.ops import Commit

from .acts import first_written, once
from .billing import acting_for, waits
from .operation import Operation, acting
from .parameters import Inputs


def pay(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the PaymentReconciliation. Raises as the workflow, and Outcome `not-implemented` for a gateway."""
    inputs = Inputs(engine, exchange, ("method", "amount", "tendered", "reference"))
    identity, method = inputs.needed("id", exchange.id), inputs.needed("method", inputs.text("method"))
    amount, currency = inputs.money("amount") or (None, None)
    tendered, given = inputs.money("tendered") or (None, None)
    if method == "gateway":
        raise Outcome("not-implemented", "This clinic takes no payments online yet: pay in cash, by card or by transfer")
    known = next((each for each in payments.METHODS if each == method), None)
    if known is None:
        raise Outcome("parameter", f"The parameter 'method' is {', '.join(payments.METHODS)} or gateway", code="value")
    if None not in (currency, given) and currency != given:
        raise Outcome("parameter", "What is paid and what is tendered are in one currency", code="value")
    paid = payments.Paid(known, amount, currency or given, tendered, inputs.text("reference") or "")
    return once(engine, exchange, "pay", lambda act: payments.pay(engine.store, act, identity, paid), first_written(200))


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
    return once(engine, exchange, "approve-refund", lambda act: payments.approve_refund(engine.store, act, identity, request), first_written(200))


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Invoice", "pay"): acting("Invoice-pay", pay, "instance"),
    ("Invoice", "refund"): acting("Invoice-refund", refund, "instance"),
    ("Invoice", "approve-refund"): acting("Invoice-approve-refund", approve_refund, "instance"),
}
