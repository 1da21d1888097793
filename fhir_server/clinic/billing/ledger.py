"""The ledger: what adds to what is due of an invoice and what takes from it, and the balance that the Invoice shows.

Rows are added in the transaction that writes what caused them, and are never changed. Whoever adds some holds the invoice's row until the transaction
ends, so that each sees what the ones before have left. The Invoice shows its balance, and is balanced, by the op that `post` gives.

    def prepare(connection, db):
        invoice = ledger.locked(store, connection, db, act, identity)
        …
        return [Create(reconciliation, link=link), ledger.post(store, connection, act, invoice, [Entry("payment", amount, currency, cause)])]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from fhir_server.clinic.acting import Act, content, visible
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.arrays import one_of
from fhir_server.store.database import Connection
from fhir_server.store.ops import Op, Patch, Resource
from fhir_server.store.rules.billing.bills import BALANCE, SHARE

from .money import EXACT, ZERO, amount_of, money, rounded

Kind = Literal["charge", "payment", "credit", "refund", "write-off", "rounding", "insurance"]
_SIGN: Final[dict[Kind, int]] = {
    "charge": 1,
    "payment": -1,
    "credit": -1,
    "refund": 1,
    "write-off": -1,
    "rounding": 1,
    # What a payer has to pay in the patient's place.
    "insurance": -1,
}

_LOCK: Final = f"SELECT 1 FROM resource WHERE type = %s AND id = {one_of('text')} ORDER BY id FOR NO KEY UPDATE"  # noqa: S608 - our own words
_ADD: Final = """
INSERT INTO ledger_entry (invoice, kind, amount, currency, cause, at, actor)
SELECT %s, x.kind, x.amount, x.currency, x.cause, %s, %s
FROM unnest(%s::text[], %s::numeric[], %s::text[], %s::text[]) AS x(kind, amount, currency, cause)
"""
_SUMS: Final = """
SELECT kind, sum(amount) FROM ledger_entry WHERE invoice = %(invoice)s GROUP BY kind
UNION ALL SELECT 'insurer', sum(amount) FROM insurer_payment WHERE invoice = %(invoice)s HAVING count(*) > 0
"""
_FROM_INSURER: Final = "INSERT INTO insurer_payment (invoice, amount, currency, cause, at, actor) VALUES (%s, %s, %s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that is to be made: how much, positive but for rounding and what a payer has or takes back, which go either way.

    `cause` is the reference to what it is written for, of which an invoice has one entry of a kind.
    """

    kind: Kind
    amount: Decimal
    currency: str
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What has become of an invoice. `paid` is less what was given back; `due` is negative where more was paid than is due.

    `insured` is what a payer has to pay in the patient's place, and `insurer_paid` what it has paid of that.
    """

    currency: str
    charged: Decimal
    paid: Decimal
    credited: Decimal
    written_off: Decimal
    rounding: Decimal
    insured: Decimal = ZERO
    insurer_paid: Decimal = ZERO

    @property
    def due(self) -> Decimal:
        """What the patient has still to pay."""
        return self.charged + self.rounding - self.paid - self.credited - self.written_off - self.insured

    @property
    def credit(self) -> Decimal:
        """What was paid beyond what is due: it can be used for other invoices, or given back."""
        return max(min(-self.due, self.paid), rounded(ZERO, self.currency))

    @property
    def left(self) -> Decimal:
        """What can still be credited or written off: not what a payer has paid, which its answer has to take back first."""
        return self.charged - self.credited - self.written_off - self.insurer_paid

    @property
    def insurer_due(self) -> Decimal:
        """What the payer has still to pay."""
        return self.insured - self.insurer_paid

    def of_insurer(self, amount: Decimal) -> Decimal:
        """How much of an amount that is credited the payer need not pay: by its part of what is left."""
        if not self.insurer_due:
            return ZERO
        part = rounded(EXACT.divide(EXACT.multiply(amount, self.insurer_due), self.left), self.currency)
        return min(max(part, amount - (self.left - self.insurer_due)), amount, self.insurer_due)

    @property
    def status(self) -> str:
        """The status that the invoice has by it."""
        if self.due > 0:
            return "issued"
        return "cancelled" if self.credited == self.charged and not self.paid and self.credited > 0 else "balanced"


def locked(store: Store, connection: Connection, db: Snapshot, act: Act, identity: str) -> Resource:
    """The Invoice as it is, which no other transaction changes until this one ends.

    Raises Outcome `not-found` where the caller does not see it, `gone` where it was deleted.
    """
    return locked_all(store, connection, db, act, [identity])[0]


def locked_all(store: Store, connection: Connection, db: Snapshot, act: Act, identities: Sequence[str]) -> list[Resource]:
    """The same for several, in their order; they are locked in another one, which is the same for everybody. Raises as `locked`."""
    connection.execute(_LOCK, (store.registry.types["Invoice"], list(identities)))
    return [content(visible(db, act, "Invoice", each)) for each in identities]


def opened(invoice: Resource) -> None:
    """Raises Outcome `business-rule` for an invoice that nothing can be booked on: a draft, a credit note, one that was cancelled."""
    if invoice.get("status") not in {"issued", "balanced"}:
        raise Outcome("business-rule", f"The invoice is {invoice.get('status')}; it has to be issued", expression="Invoice.status")
    if total_of(invoice)[0] < 0:
        raise Outcome("business-rule", "This is a credit note", expression="Invoice.type")


def balance(connection: Connection, invoice: Resource) -> Balance:
    """The balance of an issued Invoice by the ledger; one that came from another system begins with its total."""
    gross, currency = total_of(invoice)
    sums: dict[str, Decimal] = dict(connection.execute(_SUMS, {"invoice": invoice["id"]}).fetchall())
    zero = rounded(ZERO, currency)
    of = {kind: sums.get(kind, zero) for kind in _SIGN}
    charged = of["charge"] if "charge" in sums else gross
    paid = -of["payment"] - of["refund"]
    return Balance(currency, charged, paid, -of["credit"], -of["write-off"], of["rounding"], -of["insurance"], sums.get("insurer", zero))


def post(store: Store, connection: Connection, act: Act, invoice: Resource, entries: Sequence[Entry]) -> Op:
    """Adds entries to an invoice that the transaction has locked; the op that makes the Invoice show what it comes to then.

    Raises Outcome `business-rule` for another currency than the invoice's, and where more would be given back than was paid.
    """
    before = balance(connection, invoice)
    if other := next((each.currency for each in entries if each.currency != before.currency), None):
        raise Outcome("business-rule", f"The invoice is in {before.currency}, not in {other}", expression="Invoice.totalGross")
    book(store, connection, act, invoice["id"], entries)
    after = balance(connection, invoice)
    if after.paid < 0:
        raise Outcome("business-rule", f"Only {before.paid} {before.currency} were paid, and can be given back", expression="Invoice")
    return Patch("Invoice", lambda current: shown(current, after), invoice["id"])


def book(store: Store, connection: Connection, act: Act, identity: str, entries: Sequence[Entry]) -> None:
    """Adds entries, and no more."""
    if not entries:
        return
    columns = [(each.kind, _SIGN[each.kind] * each.amount, each.currency, each.cause) for each in entries]
    connection.execute(_ADD, (identity, store.clock(), act.grant.actor, *map(list, zip(*columns, strict=True))))


def receive(store: Store, connection: Connection, act: Act, identity: str, amount: Decimal, currency: str, cause: str) -> None:
    """Keeps what a payer has paid of its share of an invoice, by id, or has taken back: it changes nothing of what the patient owes."""
    connection.execute(_FROM_INSURER, (identity, amount, currency, cause, store.clock(), act.grant.actor))


def shown(invoice: Resource, after: Balance) -> Resource:
    """The Invoice with a balance, and the status that it has by it."""
    amounts = {"paid": after.paid, "credited": after.credited, "due": after.due}
    extension = {"url": BALANCE, "extension": [{"url": name, "valueMoney": money(value, after.currency)} for name, value in amounts.items()]}
    others = [_share(each, after) if each.get("url") == SHARE else each for each in invoice.get("extension", ()) if each.get("url") != BALANCE]
    made = {**invoice, "extension": [*others, extension], "status": after.status}
    return made | ({"cancelledReason": "credited in full"} if after.status == "cancelled" else {})


def _share(extension: Resource, after: Balance) -> Resource:
    """The payer's share as it is by now."""
    amounts = {"amount": after.insured, "patient": after.charged - after.credited - after.insured, "due": after.insurer_due}
    kept = [part for part in extension["extension"] if part["url"] not in amounts]
    return {**extension, "extension": [*kept, *({"url": name, "valueMoney": money(value, after.currency)} for name, value in amounts.items())]}


def total_of(invoice: Mapping[str, Any]) -> tuple[Decimal, str]:
    """The gross total of an Invoice and its currency. Raises Outcome `invalid` for one without."""
    amount, currency = amount_of(invoice.get("totalGross"), None, "Invoice.totalGross")
    if currency is None:
        raise Outcome("invalid", "An amount needs a currency", expression="Invoice.totalGross", code="required")
    return amount, currency


def paid_of(invoice: Mapping[str, Any]) -> Decimal:
    """What an Invoice shows as paid."""
    return _shown_part(invoice, "paid") or ZERO


def due_of(invoice: Mapping[str, Any]) -> Decimal:
    """What an Invoice shows as due; all of it where it shows nothing. Raises Outcome `invalid` for one without a total."""
    due = _shown_part(invoice, "due")
    return total_of(invoice)[0] if due is None else due


def _shown_part(invoice: Mapping[str, Any], name: str) -> Decimal | None:
    parts = (part for each in invoice.get("extension", ()) if each.get("url") == BALANCE for part in each.get("extension", ()))
    return next((Decimal(part["valueMoney"].get("value", 0)) for part in parts if part.get("url") == name), None)
