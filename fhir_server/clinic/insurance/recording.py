"""`$record-response`: what a payer has answered, by letter or by a portal, is written down, and booked in the same transaction.

https://hl7.org/fhir/R4/claimresponse.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.clinic.billing import approvals, ledger
from fhir_server.clinic.billing.approvals import Request
from fhir_server.clinic.billing.invoices import require_desk
from fhir_server.clinic.billing.money import digits, money, rounded
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Commit, Op, Patch, Put, Resource, Version
from fhir_server.store.rules.billing.insurance import answer_of, fits, invoice_of

from .settling import answers, settlement

_ADJUDICATION: Final = "http://terminology.hl7.org/CodeSystem/adjudication"
_PAYMENT: Final = "http://terminology.hl7.org/CodeSystem/ex-paymenttype"
_PASSING: Final = ("id", "meta", "text", "created")


@dataclass(frozen=True, slots=True)
class Told:
    """What a payer has answered: the ClaimResponse itself, or how much it covers, in all, and has paid of that.

    `day` and `reference` are those of the payment, `said` is what the payer says for people. `give_up` writes off what is not covered, up to `limit`
    at once and over it when a second person has approved; else the patient has to pay it.
    """

    response: Resource | None = None
    outcome: str = "complete"
    benefit: Decimal | None = None
    paid: Decimal | None = None
    day: str | None = None
    reference: str = ""
    said: str = ""
    give_up: bool = False
    limit: Decimal = Decimal(0)
    currencies: frozenset[str] = frozenset()


def record(store: Store, act: Act, identity: str, told: Told, tell: Callable[[Version], None]) -> Commit:
    """Writes down the answer to a Claim, by id, in the place of the ones before, and books it: the ClaimResponse comes first.

    Where the same was said already nothing is written, and `tell` told so. Raises Outcome `forbidden` for anybody but the desk, `not-found`, `gone`,
    and `business-rule` where the claim is not active or not of an invoice of here, or the answer does not fit it.
    """
    require_desk(act)
    act.require("ClaimResponse", "c")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        claim = content(visible(db, act, "Claim", identity))
        number = invoice_of(claim)
        if number is None:
            raise Outcome("business-rule", "The claim is not of an invoice of here: its answer is a ClaimResponse, and no more", expression="Claim")
        invoice = ledger.locked(store, connection, db, act, number)
        # Read once more, under the lock.
        claim = content(visible(db, act, "Claim", identity))
        if claim.get("status") != "active":
            raise Outcome("business-rule", f"The claim is {claim.get('status')}", expression="Claim.status")
        before = answers(store, db, identity)
        response = _response(store, claim, told)
        if before and _content(before[0]) == _content(response):
            there = db.read("ClaimResponse", before[0]["id"])
            assert there is not None
            tell(there)
            return ()
        return _ops(store, connection, act, invoice, claim, response, before, told)

    return carry_out(store, act, prepare)


def _ops(
    store: Store, connection: Connection, act: Act, invoice: Resource, claim: Resource, response: Resource, before: Sequence[Resource], told: Told
) -> list[Op]:
    named = new_id()
    response = {**response, "id": named}
    if (answer := answer_of(response)) is not None:
        fits(answer, response, claim)
    found = settlement(store, connection, invoice, claim, response, f"ClaimResponse/{named}")
    more = _given_up(store, connection, act, invoice, found.denied, told) if told.give_up and found.denied else []
    replaced = [Patch("ClaimResponse", _replaced, each["id"]) for each in before]
    return [Put(response, named, absent=True), *replaced, *found.post(store, connection, act, invoice, *more)]


def _given_up(store: Store, connection: Connection, act: Act, invoice: Resource, denied: Decimal, told: Told) -> list[ledger.Entry]:
    """The write-off of what is not covered, as far as the patient owes it then; none where a second person has to approve."""
    balance = ledger.balance(connection, invoice)
    amount = min(denied, balance.due + denied)
    if amount <= 0:
        return []
    reason = act.reason or told.said or "not covered"
    asking = Act(act.name, act.grant, act.request_id, act.address, act.beside, reason)
    request: Request = approvals.ask(store, connection, asking, "write-off", invoice["id"], amount, balance.currency, told.limit)
    return [ledger.Entry("write-off", amount, balance.currency, request.id)] if request.state == "approved" else []


def _response(store: Store, claim: Resource, told: Told) -> Resource:
    now = store.clock().astimezone(store.registry.zone)
    kept: Resource = {name: claim[name] for name in ("type", "use", "patient", "insurer") if name in claim}
    made: Resource = {
        "resourceType": "ClaimResponse",
        "status": "active",
        **kept,
        "created": now.isoformat(timespec="seconds"),
        "request": {"reference": f"Claim/{claim['id']}"},
        "outcome": told.outcome,
    }
    if told.response is None:
        made |= _amounts(told, str(claim.get("total", {}).get("currency", "")))
    else:
        asked = str(told.response.get("request", {}).get("reference", made["request"]["reference"]))
        if asked != made["request"]["reference"]:
            raise Outcome("business-rule", "The answer is to another claim", expression="ClaimResponse.request")
        made = {**told.response, **{name: value for name, value in made.items() if name in {"request", "patient"} or name not in told.response}}
    if "insurer" not in made:
        raise Outcome("business-rule", "A ClaimResponse names the insurer: give the Coverage a payor", expression="ClaimResponse.insurer")
    return made


def _amounts(told: Told, currency: str) -> Resource:
    made: Resource = {}
    if other := next(iter(told.currencies - {currency}), None):
        raise Outcome("business-rule", f"The claim is in {currency}, and the answer in {other}")
    for amount in (told.benefit, told.paid):
        if amount is not None and (amount < 0 or amount != rounded(amount, currency)):
            said = f"An amount in {currency} is not negative, and has {digits(currency)} digits"
            raise Outcome("business-rule", said, code="value")
    if told.said:
        made["disposition"] = told.said
    if told.benefit is not None:
        category: Any = {"coding": [{"system": _ADJUDICATION, "code": "benefit"}]}
        made["total"] = [{"category": category, "amount": money(told.benefit, currency)}]
    if told.paid:
        kind = "complete" if told.benefit in (None, told.paid) else "partial"
        made["payment"] = {"type": {"coding": [{"system": _PAYMENT, "code": kind}]}, "amount": money(told.paid, currency)}
        if told.day is not None:
            made["payment"]["date"] = told.day
        if told.reference:
            made["payment"]["identifier"] = {"value": told.reference}
    return made


def _replaced(response: Resource) -> Resource:
    return {**response, "status": "cancelled"}


def _content(response: Resource) -> Resource:
    return {name: value for name, value in response.items() if name not in _PASSING}
