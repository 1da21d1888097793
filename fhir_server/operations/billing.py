"""`$apply`, `$generate`, `$issue`, `$credit` and what else becomes of charges and invoices before money moves."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from fhir_server import fhirjson
from fhir_server.clinic import billing
from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing import insured
from fhir_server.clinic.billing.approvals import Kind, Request, listed
from fhir_server.clinic.billing.invoices import require_desk
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.writing import written_reply
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store.ops import Commit

from .acts import first_written, once
from .operation import Operation, acting, reading
from .parameters import Inputs, Json


def apply(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the ChargeItem, priced. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("patient", "encounter", "quantity"))
    template = inputs.needed("id", exchange.id)
    patient, encounter = inputs.reference("patient", "Patient"), inputs.reference("encounter", "Encounter")
    quantity = inputs.quantity("quantity")

    def run(act: Act) -> Commit:
        return billing.apply(
            engine.store,
            act,
            template,
            patient=_id(patient),
            encounter=_id(encounter),
            quantity=Decimal(1) if quantity is None else quantity,
            currency=engine.currency,
        )

    return once(engine, exchange, "apply", run, first_written(201))


def generate(engine: Engine, exchange: Exchange) -> Reply:
    """201 and a draft Invoice. Raises as the workflow, and Outcome `parameter` unless just one of the ways to choose charges is named."""
    inputs = Inputs(engine, exchange, ("account", "encounter", "charge-item", "coverage", "self-pay"), several=("charge-item",))
    account, encounter = inputs.reference("account", "Account"), inputs.reference("encounter", "Encounter")
    charges = inputs.references("charge-item", "ChargeItem")
    if sum(map(bool, (account, encounter, charges))) != 1:
        raise Outcome("parameter", "Name an account, an encounter, or charge-items: one of the three", code="required")
    payer = insured.Asked(_id(inputs.reference("coverage", "Coverage")), self_pay=inputs.flag("self-pay"))
    if payer.coverage is not None and payer.self_pay:
        raise Outcome("parameter", "Name a coverage or self-pay, not both")
    chosen = billing.Chosen(_id(account), _id(encounter), tuple(each.partition("/")[2] for each in charges), payer)
    return once(engine, exchange, "generate", lambda act: billing.generate(engine.store, act, chosen), first_written(201))


def issue(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Invoice with its number. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ())
    identity, limit = inputs.needed("id", exchange.id), Decimal(engine.approval_limit)
    return once(engine, exchange, "issue", lambda act: billing.issue(engine.store, act, identity, limit), first_written(200))


def cancel(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Invoice, cancelled before it was issued. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("reason",))
    identity, reason = inputs.needed("id", exchange.id), inputs.text("reason") or ""
    return once(engine, exchange, "cancel", lambda act: billing.cancel(engine.store, act, identity, reason=reason), first_written(200))


def credit(engine: Engine, exchange: Exchange) -> Reply:
    """201 and the credit note. Raises as the workflow."""
    inputs = Inputs(engine, exchange, ("amount", "line", "reason", "rebill"), several=("line",))
    identity = inputs.needed("id", exchange.id)
    amount, currency = inputs.money("amount") or (None, None)
    lines = tuple(inputs.numbers("line"))
    if lines and amount is not None:
        raise Outcome("parameter", "Name an amount or lines, not both")
    wanted = billing.Wanted(amount, currency, lines, rebill=inputs.flag("rebill"))
    reason = inputs.needed("reason", inputs.text("reason"))
    return once(engine, exchange, "credit", lambda act: billing.credit(engine.store, acting_for(act, reason), identity, wanted), first_written(201))


def discount(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the draft with the discount; 202 and Parameters with the `request` where a second person has to approve. Raises as the workflow."""
    return _adjusted(engine, exchange, "discount")


def write_off(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Invoice, of which less is due; 202 as `discount`. Raises as the workflow."""
    return _adjusted(engine, exchange, "write-off")


def approve(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the Invoice, with what was asked for done. Raises as the workflow."""
    return _decided(engine, exchange, "approve")


def reject(engine: Engine, exchange: Exchange) -> Reply:
    """204: what was asked for is not done. Raises as the workflow."""
    return _decided(engine, exchange, "reject")


def approvals(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters: a `request` for each thing that waits for a second person, the oldest first. Raises `forbidden` but for the desk."""
    Inputs(engine, exchange, ())
    require_desk(Act("approvals", exchange.grant))
    with engine.store.database.connection() as connection:
        parts = [{"name": "request", "part": _told(each)} for each in listed(connection)]
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters"} | ({"parameter": parts} if parts else {})))


def _told(request: Request) -> list[Json]:
    return [
        {"name": "id", "valueString": request.id},
        {"name": "kind", "valueCode": request.kind},
        {"name": "invoice", "valueReference": {"reference": f"Invoice/{request.invoice}"}},
        {"name": "amount", "valueMoney": {"value": request.amount, "currency": request.currency}},
        {"name": "reason", "valueString": request.reason},
        {"name": "asked-by", "valueString": request.asked_by.partition(" ")[2]},
    ]


def _adjusted(engine: Engine, exchange: Exchange, kind: Kind) -> Reply:
    inputs = Inputs(engine, exchange, ("amount", "factor", "reason"))
    identity = inputs.needed("id", exchange.id)
    amount, currency = inputs.money("amount") or (None, None)
    factor = inputs.decimal("factor")
    if amount is not None and factor is not None:
        raise Outcome("parameter", "Name an amount or a factor, not both")
    if kind == "discount":
        inputs.needed("amount", factor if amount is None else amount)
    reason = inputs.needed("reason", inputs.text("reason"))
    asked = billing.Asked(amount, currency, factor)
    made: list[Request] = []

    def run(act: Act) -> Commit:
        made.clear()
        return billing.adjust(engine.store, acting_for(act, reason), kind, identity, asked, Decimal(engine.approval_limit), made.append)

    def answer(commit: Commit) -> Reply:
        return first_written(200)(commit) if commit.written else waits(made[-1])

    return once(engine, exchange, kind, run, answer)


def _decided(engine: Engine, exchange: Exchange, name: str) -> Reply:
    inputs = Inputs(engine, exchange, ("request",))
    identity, request = inputs.needed("id", exchange.id), inputs.text("request")

    def run(act: Act) -> Commit:
        return billing.decide(engine.store, act, identity, request, approved=name == "approve")

    def answer(commit: Commit) -> Reply:
        return written_reply(commit.written[0], SYSTEM) if commit.written else Reply(204)

    return once(engine, exchange, name, run, answer)


def waits(request: Request) -> Reply:
    """202 and Parameters: what waits for a second person."""
    parts = [
        {"name": "request", "valueString": request.id},
        {"name": "state", "valueCode": request.state},
        {"name": "amount", "valueMoney": {"value": request.amount, "currency": request.currency}},
    ]
    return Reply(202, fhirjson.dumps({"resourceType": "Parameters", "parameter": parts}))


def acting_for(act: Act, reason: str) -> Act:
    """The act for a reason."""
    return Act(act.name, act.grant, act.request_id, act.address, act.beside, reason)


def _id(reference: str | None) -> str | None:
    return reference.partition("/")[2] if reference is not None else None


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("ChargeItemDefinition", "apply"): acting("ChargeItemDefinition-apply", apply, "instance"),
    ("Invoice", "generate"): acting("Invoice-generate", generate, "type"),
    ("Invoice", "issue"): acting("Invoice-issue", issue, "instance"),
    ("Invoice", "cancel"): acting("Invoice-cancel", cancel, "instance"),
    ("Invoice", "credit"): acting("Invoice-credit", credit, "instance"),
    ("Invoice", "discount"): acting("Invoice-discount", discount, "instance"),
    ("Invoice", "write-off"): acting("Invoice-write-off", write_off, "instance"),
    ("Invoice", "approve"): acting("Invoice-approve", approve, "instance"),
    ("Invoice", "approvals"): reading(CANON, "Invoice-approvals", approvals, frozenset({"type"})),
    ("Invoice", "reject"): acting("Invoice-reject", reject, "instance"),
}
