"""What a payer's answer does to an invoice: the ledger is brought to what the answer says, whatever was booked before.

https://hl7.org/fhir/R4/claimresponse.html, https://hl7.org/fhir/R4/paymentreconciliation.html

Of a Claim the newest answer counts that is active and says something. What it does not cover the patient has to pay. Told again it changes nothing;
another one in its place, or its end, books the difference.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import PASSING, Act, carry_out, resource_of
from fhir_server.clinic.billing import ledger
from fhir_server.clinic.billing.money import ZERO, money
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, compile_search
from fhir_server.settings import CANON
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection, scalar
from fhir_server.store.ops import Op, Put, Resource
from fhir_server.store.outbox import Change
from fhir_server.store.rules.billing.insurance import CONSUMER, answer_of, claim_of, invoice_of
from fhir_server.store.rules.billing.payments import METHOD

__all__ = ["CONSUMER", "Settlement", "Settling", "answers", "settlement"]

_SPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, f"{CANON}/insurance")
_KINDS: Final = "http://terminology.hl7.org/CodeSystem/payment-type"
_MOST_ANSWERS: Final = 100
# The payer's share as the terms and credit notes have made it: without what was answered.
_AGREED: Final = """
SELECT coalesce(-sum(amount), 0) FROM ledger_entry WHERE invoice = %s AND kind = 'insurance' AND cause NOT LIKE 'ClaimResponse/%%'
"""

_log = logging.getLogger("fhir_server.insurance")


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be booked: `entries` of what the patient owes, and what the payer has `paid`, with its PaymentReconciliation.

    Less than nothing is paid where something was taken back; `denied` is what comes back to the patient.
    """

    entries: tuple[ledger.Entry, ...]
    paid: Decimal
    payment: Put | None
    denied: Decimal

    def post(self, store: Store, connection: Connection, act: Act, invoice: Resource, *more: ledger.Entry) -> list[Op]:
        """Books it, with more entries; the ops that show it, none where there is nothing. Raises Outcome as `ledger.opened` and `ledger.post`."""
        entries = (*self.entries, *more)
        if not entries and self.payment is None:
            return []
        ledger.opened(invoice)
        ops: list[Op] = []
        if self.payment is not None:
            cause, currency = f"PaymentReconciliation/{self.payment.id}", str(self.payment.resource["paymentAmount"]["currency"])
            ledger.receive(store, connection, act, invoice["id"], self.paid, currency, cause)
            ops.append(self.payment)
        return [*ops, ledger.post(store, connection, act, invoice, entries)]


def settlement(store: Store, connection: Connection, invoice: Resource, claim: Resource, response: Resource | None, cause: str) -> Settlement:
    """What an answer to a Claim comes to for its invoice, which the transaction has locked; None where there is no answer any more.

    `cause` is what the entries are booked for, another one each time. Raises Outcome `business-rule` where more is covered than is left of the
    invoice.
    """
    found = ledger.balance(connection, invoice)
    room = found.charged - found.credited
    agreed = max(min(Decimal(scalar(connection, _AGREED, invoice["id"])), room), ZERO)
    answer = answer_of(response) if response is not None else None
    share, paid = agreed, ZERO
    if answer is not None:
        share, paid = answer.benefit if answer.is_final else max(agreed, answer.benefit), answer.paid
    if share > room:
        said = f"Of the invoice {room} {found.currency} are left, by credit notes; more is not covered"
        raise Outcome("business-rule", said, expression="ClaimResponse.total")
    entries = [ledger.Entry("insurance", share - found.insured, found.currency, cause)]
    # What was given up and is paid after all is not lost any more.
    entries.append(ledger.Entry("write-off", -max(found.written_off - (room - share), ZERO), found.currency, cause))
    arrived = paid - found.insurer_paid
    payment = _payment(store, claim, response, arrived, found.currency, cause) if arrived else None
    return Settlement(tuple(entry for entry in entries if entry.amount), arrived, payment, max(found.insured - share, ZERO))


def answers(store: Store, db: Snapshot, claim: str) -> list[Resource]:
    """The active ClaimResponses to a Claim, by id, the newest first."""
    query = store.registry.parse("ClaimResponse", [("request", f"Claim/{claim}"), ("status", "active"), ("_sort", "-_lastUpdated")], strict=True)
    rows = db.select(compile_search(replace(query, count=_MOST_ANSWERS), store.registry, SYSTEM, None, db.sources))
    return [fhirjson.loads(db.body_of(row)) for row in rows[:_MOST_ANSWERS]]


class Settling:
    """What a worker does for insurance: answers that came by no operation. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        """Books by the server's own right."""
        self._store = store

    def hear(self, _connection: Connection, changes: Sequence[Change]) -> set[tuple[str, str]]:
        """Settles the invoices of Claims whose answers have changed; there are no tasks to follow. What does not fit is left, and the log says so.

        Raises Outcome where others are in the way, or the database is away: then all of it is heard of again.
        """
        for change in changes:
            with self._store.latest(SYSTEM) as db:
                versions = [db.version(change.type, change.resource, number) for number in (change.version, change.version - 1) if number > 0]
            responses = [response for version in versions if (response := resource_of(version)) is not None]
            for claim in dict.fromkeys(found for each in responses if (found := claim_of(each, self._store.registry)) is not None):
                self._settle(claim, change)
        return set()

    def _settle(self, identity: str, change: Change) -> None:
        act = Act("record-response", SYSTEM)

        def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
            claim = resource_of(db.read("Claim", identity))
            invoice = invoice_of(claim) if claim is not None else None
            if claim is None or invoice is None or claim.get("status") != "active":
                return ()
            locked = ledger.locked(self._store, connection, db, act, invoice)
            said = (each for each in answers(self._store, db, identity) if answer_of(each) is not None)
            cause = f"ClaimResponse/{change.resource}/{change.version}/heard"
            found = settlement(self._store, connection, locked, claim, next(said, None), cause)
            return found.post(self._store, connection, act, locked)

        try:
            carry_out(self._store, act, prepare)
        except Outcome as outcome:
            if outcome.category in PASSING:
                raise
            told = {"claim": identity, "resource": f"{change.type}/{change.resource}", "fault": outcome.category}
            _log.warning("an answer could not be booked", extra=told)


def _payment(store: Store, claim: Resource, response: Resource | None, amount: Decimal, currency: str, cause: str) -> Put:
    """What the payer has paid, or less than nothing where an answer is taken back. Its id is made of the cause."""
    now = store.clock().astimezone(store.registry.zone)
    paid = (response or {}).get("payment", {})
    day = str(paid.get("date") or now.date().isoformat())
    detail: Resource = {
        "type": {"coding": [{"system": _KINDS, "code": "payment" if amount > 0 else "adjustment"}]},
        "request": {"reference": f"Claim/{claim['id']}"},
        "date": day,
        "amount": money(amount, currency),
    }
    if response is not None and "id" in response:
        detail["response"] = {"reference": f"ClaimResponse/{response['id']}"}
    identity = str(uuid.uuid5(_SPACE, cause))
    made: Resource = {
        "resourceType": "PaymentReconciliation",
        "id": identity,
        "extension": [{"url": METHOD, "valueCode": "insurance"}],
        "status": "active",
        "created": now.isoformat(timespec="seconds"),
        "outcome": "complete",
        "formCode": {"text": "insurance"},
        "paymentDate": day,
        "paymentAmount": money(amount, currency),
        "detail": [detail],
    }
    if "identifier" in paid:
        made["paymentIdentifier"] = paid["identifier"]
    for name, value in (("paymentIssuer", claim.get("insurer")), ("requestor", claim.get("provider"))):
        if value:
            made[name] = value
    return Put(made, identity, absent=True)
