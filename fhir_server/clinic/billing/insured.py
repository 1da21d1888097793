"""The payer's share of an invoice: shown on the draft, and booked when it is issued, so that what is due is due of the patient.

https://hl7.org/fhir/R4/coverage.html

A line counts where the Coverage is in force on the day of its charge; of several coverages the first in their order decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.acting import Act, content, resource_of, visible
from fhir_server.outcome import Outcome
from fhir_server.search.params.date import parse_date
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource
from fhir_server.store.rules.billing.bills import SHARE

from .coverage import is_in_force, payer, rank, terms_of
from .money import ZERO, money
from .pricing import Price
from .shares import Terms, Used, split

_LOCK: Final = "SELECT 1 FROM resource WHERE type = %s AND id = %s FOR NO KEY UPDATE"
_WAITS: Final = "SELECT claim FROM claimed WHERE invoice = %s AND NOT answered"
_KEEP: Final = "INSERT INTO insured_invoice (invoice, coverage, day, deductible, outside, currency) VALUES (%s, %s, %s, %s, %s, %s)"
# What the patient has of an invoice by now: whatever was credited, given up, or paid by the payer after all, they have not.
_USED: Final = """
SELECT coalesce(sum(least(i.deductible, own.part)), 0), coalesce(sum(own.part), 0)
FROM insured_invoice i
CROSS JOIN LATERAL (
    SELECT greatest(coalesce(sum(e.amount), 0) - i.outside, 0) AS part FROM ledger_entry e
    WHERE e.invoice = i.invoice AND e.kind IN ('charge', 'credit', 'write-off', 'insurance')
) own
WHERE i.coverage = %s AND i.day BETWEEN %s AND %s AND i.currency = %s
"""


@dataclass(frozen=True, slots=True)
class Share:
    """What the payer of a Coverage, by id, has of an invoice, and the patient; `outside` is what is not covered, and the patient's too.

    `day` is that of the first line that is covered, `named` the payer's name.
    """

    coverage: Resource
    day: date
    payer: Decimal
    patient: Decimal
    deductible: Decimal
    outside: Decimal
    currency: str
    named: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose share is wanted: that of a Coverage, by id, of none, or of whichever is in force."""

    coverage: str | None = None
    self_pay: bool = False


def drafted(
    store: Store, connection: Connection, db: Snapshot, act: Act, charges: Sequence[Resource], prices: Sequence[Price], asked: Asked
) -> Share | None:
    """The payer's share of what a draft is made of; None where the patient pays all.

    Raises Outcome `not-found`, and `business-rule` where the Coverage that was asked for is another patient's, is not in force or does not say what
    the patient pays, or where the terms of one cannot be.
    """
    patient = str(charges[0].get("subject", {}).get("reference", ""))
    if asked.self_pay or not patient.startswith("Patient/"):
        return None
    found = _Lines(store, charges, prices)
    if asked.coverage is not None:
        coverage = content(visible(db, act, "Coverage", asked.coverage))
        if not _is_of(store, coverage, patient):
            raise Outcome("business-rule", "The coverage is another patient's", expression="Coverage.beneficiary")
        return _named(db, found.needed(connection, coverage))
    there = [content(version) for version in db.of_patient("Coverage", patient.partition("/")[2])]
    shares = (found.share(connection, each) for each in sorted(there, key=rank) if _is_of(store, each, patient))
    return next((_named(db, share) for share in shares if share is not None), None)


def of_draft(store: Store, connection: Connection, db: Snapshot, draft: Resource, prices: Sequence[Price], *, finally_: bool = False) -> Share | None:
    """The share of the Coverage that a draft names, of its lines as they are now. `finally_`: nobody else uses up the year's terms meanwhile.

    Raises Outcome `business-rule` where that Coverage is not in force any more, or another patient's.
    """
    identity = coverage_of(draft)
    if identity is None:
        return None
    if finally_:
        connection.execute(_LOCK, (store.registry.types["Coverage"], identity))
    coverage = resource_of(db.read("Coverage", identity))
    if coverage is None:
        raise Outcome("business-rule", f"Coverage/{identity} is not there any more: take the draft back by $cancel", expression="Invoice.extension")
    if not _is_of(store, coverage, str(draft.get("subject", {}).get("reference", ""))):
        raise Outcome("business-rule", "The coverage is another patient's", expression="Invoice.extension")
    return _named(db, _Lines(store, _charges(db, draft), prices).needed(connection, coverage))


def unclaimed(connection: Connection, invoice: str) -> None:
    """Raises Outcome `business-rule` where a payer has still to answer what was claimed for an invoice, by id: it would answer something else."""
    row = connection.execute(_WAITS, (invoice,)).fetchone()
    if row is not None:
        raise Outcome("business-rule", f"Claim/{row[0]} waits for its payer's answer: record that first, or cancel the claim", expression="Invoice")


def keep(connection: Connection, invoice: str, share: Share) -> None:
    """Keeps what an invoice, by id, that is issued uses up of the year's terms."""
    row = (invoice, share.coverage["id"], share.day, share.deductible, share.outside, share.currency)
    connection.execute(_KEEP, row)


def coverage_of(invoice: Mapping[str, Any]) -> str | None:
    """The id of the Coverage whose payer has a share of an Invoice."""
    parts = (part for each in invoice.get("extension", ()) if each.get("url") == SHARE for part in each.get("extension", ()))
    text = next((str(part.get("valueReference", {}).get("reference", "")) for part in parts if part.get("url") == "coverage"), "")
    return text.removeprefix("Coverage/") if text.startswith("Coverage/") else None


def shown(invoice: Resource, share: Share | None) -> Resource:
    """A draft with the share."""
    others = [each for each in invoice.get("extension", ()) if each.get("url") != SHARE]
    return {**invoice, "extension": [*others, _extension(share)]} if share is not None else invoice


def _extension(share: Share) -> Resource:
    reference = {"reference": f"Coverage/{share.coverage['id']}"} | ({"display": share.named} if share.named else {})
    amounts = {"amount": share.payer, "patient": share.patient}
    parts = [{"url": name, "valueMoney": money(value, share.currency)} for name, value in amounts.items()]
    return {"url": SHARE, "extension": [{"url": "coverage", "valueReference": reference}, *parts]}


class _Lines:
    """The lines of an invoice with the days of their charges; one without a charge is nobody's to cover."""

    def __init__(self, store: Store, charges: Sequence[Resource], prices: Sequence[Price]) -> None:
        self._store = store
        self._zone = store.registry.zone
        self._prices = prices
        self._days = [self._day(charge) if charge else None for charge in charges]

    def share(self, connection: Connection, coverage: Resource) -> Share | None:
        """What the payer of a Coverage has; None where it is not in force for any line, or does not say."""
        days = [day if day is not None and is_in_force(coverage, day, self._zone) else None for day in self._days]
        first = next((day for day in days if day is not None), None)
        if first is None:
            return None
        currency = self._prices[0].currency
        terms = terms_of(coverage, first, self._zone, currency)
        if terms is None:
            return None
        lines = [price.gross if day is not None else ZERO for price, day in zip(self._prices, days, strict=True)]
        covered, whole = sum(lines, ZERO), sum((price.gross for price in self._prices), ZERO)
        found = split(lines, terms, self._used(connection, coverage, terms, first, currency), currency)
        patient = sum(found.patient, ZERO)
        return Share(coverage, first, covered - patient, whole - covered + patient, found.deductible, whole - covered, currency)

    def needed(self, connection: Connection, coverage: Resource) -> Share:
        """The same; raises Outcome `business-rule` where there is none."""
        found = self.share(connection, coverage)
        if found is None:
            said = f"Coverage/{coverage['id']} is not in force on the day of the charges, or does not say what the patient pays (costToBeneficiary)"
            raise Outcome("business-rule", said, expression="Coverage")
        return found

    def _used(self, connection: Connection, coverage: Resource, terms: Terms, day: date, currency: str) -> Used:
        if not terms.are_of_the_year:
            return Used()
        row = connection.execute(_USED, (coverage["id"], day.replace(month=1, day=1), day.replace(month=12, day=31), currency)).fetchone()
        assert row is not None
        return Used(*row)

    def _day(self, charge: Mapping[str, Any]) -> date:
        text = charge.get("occurrenceDateTime") or charge.get("occurrencePeriod", {}).get("start") or charge.get("enteredDate")
        try:
            at = parse_date(str(text), self._zone)[0] if text else self._store.clock()
        except (ValueError, OverflowError):
            at = self._store.clock()
        return at.astimezone(self._zone).date()


def _named(db: Snapshot, share: Share) -> Share:
    """The share with the name of its payer."""
    reference = payer(share.coverage)
    text = str(reference.get("reference", ""))
    organization = resource_of(db.read("Organization", text.partition("/")[2])) if text.startswith("Organization/") else None
    name = (organization or {}).get("name")
    return replace(share, named=str(reference.get("display") or name or ""))


def _charges(db: Snapshot, draft: Resource) -> list[Resource]:
    """The charges of a draft's lines; empty where a line has none."""
    named = [str(line.get("chargeItemReference", {}).get("reference", "")).removeprefix("ChargeItem/") for line in draft["lineItem"]]
    there = {version.id: content(version) for version in db.read_many([("ChargeItem", each) for each in named if each])}
    return [there.get(each, {}) for each in named]


def _is_of(store: Store, coverage: Resource, patient: str) -> bool:
    return ("Patient", patient.partition("/")[2]) in store.registry.references(coverage, "beneficiary")
