"""`$pay`, `$refund`, `$approve-refund` and `$balance`: money that comes and goes at the desk."""

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
from fhir_server.clinic.billing.money import ZERO, money
from fhir_server.clinic.billing.payments.credit import Account, accounts
from fhir_server.clinic.billing.payments.receiving import METHODS
from fhir_server.clinic.billing.payments.refunds import GIVEN, Given, by_hand
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store.ops import Commit

from .acts import first_written, once
from .billing import acting_for, waits
from .operation import Level, Operation, acting, reading
from .parameters import Inputs, Json

_HOW: Final = ("method", "amount", "tendered", "reference", "location")


def pay(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the PaymentReconciliation; by a gateway Parameters with the `url` to pay at. Raises as the workflow."""
    if exchange.id is None:
        return _pay_several(engine, exchange)
    inputs, identity = Inputs(engine, exchange, _HOW), exchange.id
    if inputs.text("method") == "gateway":
        if any(inputs.has(name) for name in ("tendered", "reference", "location")):
            raise Outcome("parameter", "'tendered', 'reference' and 'location' are for payments at the desk", code="value")
        amount, currency = inputs.money("amount") or (None, None)
        return _begin(engine, exchange, identity, amount, currency)
    paid = _paid(inputs)
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
    inputs = Inputs(engine, exchange, ("request", "method", "reference", "location"))
    identity, request, method = inputs.needed("id", exchange.id), inputs.text("request"), inputs.text("method")
    way = next((each for each in GIVEN if each == method), None)
    if way is None and method is not None:
        raise Outcome("parameter", f"The parameter 'method' is {', '.join(GIVEN)}", code="value")
    given = Given(way, _text(inputs, "reference"), _place(inputs))
    gateway = gateway_of(engine.settings) if engine.settings is not None else None
    shares = by_hand if gateway is None else lambda connection, found: refunds.shares(engine.store, gateway, connection, identity, found)

    def run(act: Act) -> Commit:
        return payments.approve_refund(engine.store, act, identity, request, given, shares)

    reply = once(engine, exchange, "approve-refund", run, first_written(200))
    if gateway is not None:
        # After the commit: what is not sent now is sent by the task of the next minute.
        with suppress(Outcome):
            refunds.send(engine.store, gateway, identity)
    return reply


def balance(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters: an `account` for each currency. Raises Outcome as `credit.accounts`."""
    inputs = Inputs(engine, exchange, ())
    found = accounts(engine.store, exchange.grant, inputs.needed("id", exchange.id))
    parts = [{"name": "account", "part": _account(currency, account)} for currency, account in found.items()]
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters"} | ({"parameter": parts} if parts else {})))


def _account(currency: str, account: Account) -> list[Json]:
    sums = {"due": sum(account.due.values(), ZERO), "credit": sum(account.credit.values(), ZERO), "balance": account.balance}
    listed = [(each, amount) for each, amount in account.due.items()] + [(each, -amount) for each, amount in account.credit.items()]
    return [{"name": name, "valueMoney": money(amount, currency)} for name, amount in sums.items()] + [
        {
            "name": "invoice",
            "part": [
                {"name": "reference", "valueReference": {"reference": f"Invoice/{each}"}},
                {"name": "due", "valueMoney": money(amount, currency)},
            ],
        }
        for each, amount in listed
    ]


def _pay_several(engine: Engine, exchange: Exchange) -> Reply:
    inputs = Inputs(engine, exchange, (*_HOW, "invoice", "allocation"), several=("invoice", "allocation"))
    wanted = [payments.Wanted(each.partition("/")[2]) for each in inputs.references("invoice", "Invoice")]
    currencies = set()
    for part in inputs.parts("allocation"):
        if part.keys() - {"invoice", "amount"}:
            raise Outcome("parameter", "An 'allocation' has an invoice and an amount", code="not-supported")
        amount, currency = inputs.amount("allocation", part.get("amount"))
        currencies.add(currency)
        wanted.append(payments.Wanted(inputs.referred("allocation", part.get("invoice"), ("Invoice",)).partition("/")[2], amount))
    if not wanted:
        raise Outcome("parameter", "The parameter 'invoice' is needed, once for each that is paid", code="required")
    paid = _paid(inputs, currencies)
    return once(engine, exchange, "pay", lambda act: payments.pay_several(engine.store, act, wanted, paid), first_written(200))


def _paid(inputs: Inputs, currencies: set[str] | None = None) -> payments.Paid:
    method = inputs.needed("method", inputs.text("method"))
    amount, currency = inputs.money("amount") or (None, None)
    tendered, given = inputs.money("tendered") or (None, None)
    known = next((each for each in METHODS if each == method), None)
    if known is None:
        raise Outcome("parameter", f"The parameter 'method' is {', '.join(METHODS)} or gateway", code="value")
    named = {each for each in (currency, given, *(currencies or ())) if each is not None}
    if len(named) > 1:
        raise Outcome("parameter", "What is paid and what is tendered are in one currency", code="value")
    return payments.Paid(known, amount, next(iter(named), None), tendered, _text(inputs, "reference"), _place(inputs))


def _text(inputs: Inputs, name: str) -> str:
    text = inputs.text(name) or ""
    if len(text) > _LONGEST:
        raise Outcome("parameter", f"The parameter '{name}' has more than {_LONGEST} characters", code="too-long")
    return text


def _place(inputs: Inputs) -> str | None:
    found = inputs.reference("location", "Location")
    return found.partition("/")[2] if found is not None else None


_LONGEST: Final = 200
_BOTH: Final[frozenset[Level]] = frozenset({"type", "instance"})
OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Invoice", "pay"): Operation(f"{CANON}/OperationDefinition/Invoice-pay", _BOTH, affects_state=True, run=pay),
    ("Invoice", "refund"): acting("Invoice-refund", refund, "instance"),
    ("Invoice", "approve-refund"): acting("Invoice-approve-refund", approve_refund, "instance"),
    ("Patient", "balance"): reading(CANON, "Patient-balance", balance, frozenset({"instance"})),
}
