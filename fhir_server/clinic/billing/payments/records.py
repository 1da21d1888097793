"""A payment as resources: a PaymentReconciliation for all of it, and for each invoice a PaymentNotice, which its patient may read.

https://hl7.org/fhir/R4/paymentreconciliation.html, https://hl7.org/fhir/R4/paymentnotice.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.billing.ledger import Balance
from fhir_server.clinic.billing.money import ZERO, money
from fhir_server.settings import CANON
from fhir_server.store.ids import new_id
from fhir_server.store.ops import Op, Put, Resource
from fhir_server.store.rules.billing.payments import METHOD, TENDERED, patient_extension

_KINDS: Final = "http://terminology.hl7.org/CodeSystem/payment-type"
_DETAIL: Final = f"{CANON}/CodeSystem/payment-detail"
_STATUS: Final = "http://terminology.hl7.org/CodeSystem/paymentstatus"


@dataclass(frozen=True, slots=True)
class Line:
    """What an invoice gets, negative for what is given back of it, and what was rounded of it."""

    invoice: Resource
    amount: Decimal
    rounding: Decimal = ZERO

    @classmethod
    def back(cls, invoice: Resource, balance: Balance, amount: Decimal) -> Line:
        """What is given back of an Invoice with a balance: what was rounded of it goes with the last of what was paid."""
        rounding = balance.rounding if amount == balance.paid else ZERO
        return cls(invoice, -(amount - rounding), -rounding)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A payment that is to be written: its id, when and how it was paid, in which currency, and its lines.

    One that is queued goes by somebody else, who has still to say that it went.
    """

    id: str
    at: datetime
    method: str
    currency: str
    lines: Sequence[Line]
    tendered: Decimal | None = None
    reference: str = ""
    disposition: str = ""
    is_queued: bool = False

    @property
    def total(self) -> Decimal:
        """What came in, negative for what went out."""
        return sum((line.amount + line.rounding for line in self.lines), ZERO)

    @property
    def cause(self) -> str:
        """What the ledger names it by."""
        return f"PaymentReconciliation/{self.id}"


def patient_of(invoice: Resource) -> str | None:
    """The id of the patient whom an invoice is for; None where it is for somebody else."""
    name, _, identity = str(invoice.get("subject", {}).get("reference", "")).partition("/")
    return identity if name == "Patient" and identity else None


def reconciliation(receipt: Receipt) -> Op:
    """The op that writes the PaymentReconciliation."""
    first = receipt.lines[0].invoice
    extension: list[Resource] = [{"url": METHOD, "valueCode": receipt.method}]
    patients = {patient_of(line.invoice) for line in receipt.lines}
    if len(patients) == 1 and (patient := patients.pop()) is not None:
        extension.append(patient_extension(patient))
    if receipt.tendered is not None:
        parts = (("given", receipt.tendered), ("change", receipt.tendered - receipt.total))
        extension.append({"url": TENDERED, "extension": [{"url": name, "valueMoney": money(value, receipt.currency)} for name, value in parts]})
    made: Resource = {
        "resourceType": "PaymentReconciliation",
        "id": receipt.id,
        "extension": extension,
        "status": "active",
        "created": receipt.at.isoformat(timespec="seconds"),
        "outcome": "queued" if receipt.is_queued else "complete",
        "formCode": {"text": receipt.method},
        "paymentDate": receipt.at.date().isoformat(),
        "paymentAmount": money(receipt.total, receipt.currency),
        "detail": [part for line in receipt.lines for part in _details(receipt, line)],
    }
    if "issuer" in first:
        made["requestor"] = first["issuer"]
    if receipt.reference:
        made["paymentIdentifier"] = {"value": receipt.reference}
    if receipt.disposition:
        made["disposition"] = receipt.disposition
    return Put(made, receipt.id, absent=True)


def notices(receipt: Receipt) -> list[Op]:
    """The ops that write a PaymentNotice for each line, none while it is queued."""
    return [] if receipt.is_queued else [_notice(receipt, line) for line in receipt.lines]


def _details(receipt: Receipt, line: Line) -> list[Resource]:
    kind = "payment" if line.amount > 0 else "adjustment"
    found = [_detail(receipt, line, {"system": _KINDS, "code": kind}, line.amount)]
    if line.rounding:
        found.append(_detail(receipt, line, {"system": _DETAIL, "code": "rounding", "display": "Cash rounding"}, line.rounding))
    return found


def _detail(receipt: Receipt, line: Line, kind: dict[str, Any], amount: Decimal) -> Resource:
    return {
        "type": {"coding": [kind]},
        "request": _reference(line.invoice),
        "date": receipt.at.date().isoformat(),
        "amount": money(amount, receipt.currency),
    }


def _notice(receipt: Receipt, line: Line) -> Op:
    patient = patient_of(line.invoice)
    made: Resource = {
        "resourceType": "PaymentNotice",
        "id": new_id(),
        "extension": [{"url": METHOD, "valueCode": receipt.method}, *([patient_extension(patient)] if patient is not None else [])],
        "status": "active",
        "request": _reference(line.invoice),
        "created": receipt.at.isoformat(timespec="seconds"),
        "payment": {"reference": receipt.cause},
        "paymentDate": receipt.at.date().isoformat(),
        # Whoever is told of it is who bills: R4 wants an organization, which not every clinic has as a resource.
        "recipient": line.invoice.get("issuer", {"display": "The clinic"}),
        "amount": money(line.amount + line.rounding, receipt.currency),
        "paymentStatus": {"coding": [{"system": _STATUS, "code": "cleared" if line.amount > 0 else "paid"}]},
    }
    return Put(made, made["id"], absent=True)


def _reference(invoice: Resource) -> Resource:
    return {"reference": f"Invoice/{invoice['id']}"}
