"""What was paid too much, and what is owed: read from the ledger's sums of a patient's invoices.

Credit lies where it came to be, on the invoice that was paid beyond what is due of it, be it by a transfer or since a part was credited later. So it
is never counted twice, and who takes of it holds that invoice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from fhir_server import fhirjson
from fhir_server.clinic.acting import Act, content, visible
from fhir_server.clinic.billing import ledger
from fhir_server.clinic.billing.ledger import Balance
from fhir_server.clinic.billing.money import ZERO
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, compile_search
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource

from .records import patient_of

MOST: Final = 1_000
"""Invoices of a patient that are open, or have credit, at once."""

# The sum of a ledger is what is due; of an invoice from elsewhere, which has no charge there, it is less than that.
_OVERPAID: Final = """
SELECT r.id FROM sp_reference g JOIN resource r USING (rid) JOIN ledger_entry l ON l.invoice = r.id
WHERE g.pid = %s AND g.id = %s AND g.type = %s AND r.type = %s AND NOT r.deleted
GROUP BY r.id HAVING sum(l.amount) < 0 ORDER BY min(l.number) LIMIT %s
"""


@dataclass(slots=True)
class Account:
    """What a patient owes in a currency, and what they have paid too much; by invoice, the oldest first."""

    due: dict[str, Decimal] = field(default_factory=dict)
    credit: dict[str, Decimal] = field(default_factory=dict)

    @property
    def balance(self) -> Decimal:
        """What is still to be paid when all credit is used; negative where some is left."""
        return sum(self.due.values(), ZERO) - sum(self.credit.values(), ZERO)


def accounts(store: Store, grant: Grant, patient: str) -> dict[str, Account]:
    """What a patient owes and has paid too much, by currency, of those invoices that a caller may see.

    Raises Outcome `not-found` where the caller does not see the patient, `forbidden` where they may not see invoices, `too-costly` beyond MOST.
    """
    if not grant.allows("Invoice", "s"):
        raise Outcome("forbidden", "The token does not allow to search Invoice")
    with store.snapshot(grant) as db:
        visible(db, Act("balance", grant), "Patient", patient)
        conditions = [("patient", f"Patient/{patient}"), ("status", "issued"), ("_sort", "date,_id")]
        query = replace(store.registry.parse("Invoice", conditions, strict=True), count=MOST)
        rows = db.select(compile_search(query, store.registry, grant, None, db.sources))
        if len(rows) > MOST:
            raise Outcome("too-costly", f"More than {MOST:,} invoices of this patient are open")
        found = [fhirjson.loads(db.body_of(row)) for row in rows]
        overpaid = _overpaid(store, db.connection, patient)
        found += [content(each) for each in db.read_many([("Invoice", each) for each in overpaid]) if each.body is not None] if overpaid else []
    made: dict[str, Account] = {}
    for invoice in sorted(found, key=lambda each: str(each.get("date", ""))):
        total, currency = ledger.total_of(invoice)
        due, paid = ledger.due_of(invoice), ledger.paid_of(invoice)
        if total > 0 and due > 0:
            made.setdefault(currency, Account()).due[invoice["id"]] = due
        elif total > 0 and min(-due, paid) > 0:
            made.setdefault(currency, Account()).credit[invoice["id"]] = min(-due, paid)
    return made


def sources(store: Store, connection: Connection, db: Snapshot, act: Act, invoices: Sequence[str]) -> list[str]:
    """The ids of invoices, the oldest first, that credit for others of the same patient may be on. To be locked, and looked at again.

    Raises Outcome `not-found`, `gone`, and `business-rule` for invoices that are no patient's.
    """
    patient = patient_of(content(visible(db, act, "Invoice", invoices[0])))
    if patient is None:
        raise Outcome("business-rule", "The invoice is for no patient, who could have credit", expression="Invoice.subject")
    found = _overpaid(store, connection, patient)
    return [each.id for each in db.seen_by(act.grant).read_many([("Invoice", each) for each in found])] if found else []


def left(connection: Connection, invoices: Sequence[Resource], currency: str) -> dict[str, Balance]:
    """The balances of those of some locked invoices that have credit in a currency, by id, in their order."""
    found = {}
    for invoice in invoices:
        balance = ledger.balance(connection, invoice)
        if balance.currency == currency and balance.credit > 0 and invoice.get("status") == "balanced":
            found[invoice["id"]] = balance
    return found


def taken(balances: Mapping[str, Balance], amount: Decimal) -> dict[str, Decimal]:
    """How an amount, which is there, is taken from credits: as much as there is of the first, and so on."""
    found = {}
    for identity, balance in balances.items():
        part = min(balance.credit, amount)
        if part > 0:
            found[identity] = part
        amount -= part
    return found


def _overpaid(store: Store, connection: Connection, patient: str) -> list[str]:
    registry = store.registry
    pid = registry.supported_params("Invoice")["patient"].pid
    arguments = (pid, patient, registry.types["Patient"], registry.types["Invoice"], MOST)
    return [identity for (identity,) in connection.execute(_OVERPAID, arguments)]
