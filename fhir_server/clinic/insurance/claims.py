"""`$claim`: what a payer has to pay of an invoice is claimed of it, line by line.

https://hl7.org/fhir/R4/claim.html

What was credited before is not claimed. The amounts are those of the invoice, with taxes: the payer answers with its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content, resource_of
from fhir_server.clinic.billing import insured, ledger
from fhir_server.clinic.billing.coverage import payer
from fhir_server.clinic.billing.credits import credited_lines
from fhir_server.clinic.billing.invoices import prices_of, require_desk
from fhir_server.clinic.billing.money import EXACT, ZERO, money, rounded
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, compile_search
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Resource, Version
from fhir_server.store.rules.billing.bills import NUMBER
from fhir_server.store.rules.billing.insurance import CHARGE, CLAIMED, INSURER

_THO: Final = "http://terminology.hl7.org/CodeSystem"
_MOST_DIAGNOSES: Final = 50
_MADE: Final = "SELECT claim FROM claimed WHERE invoice = %s AND coverage = %s"


def claim(store: Store, act: Act, identity: str, tell: Callable[[Version], None]) -> Commit:
    """Claims what a payer has of an invoice, by id: the Claim comes first. Where it is claimed already nothing is written, and `tell` told so.

    Raises Outcome `forbidden` for anybody but the desk, `not-found`, `gone`, and `business-rule` where the invoice is not issued, nothing is due of a
    payer, or nobody is named who provided.
    """
    require_desk(act)
    act.require("Claim", "c")

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        invoice = ledger.locked(store, connection, db, act, identity)
        ledger.opened(invoice)
        named = insured.coverage_of(invoice)
        if named is None:
            raise Outcome("business-rule", "No payer has a share of this invoice: its patient pays all", expression="Invoice.extension")
        made = connection.execute(_MADE, (identity, named)).fetchone()
        there = db.read("Claim", made[0]) if made is not None else None
        if there is not None:
            tell(there)
            return ()
        found = ledger.balance(connection, invoice)
        if found.insurer_due <= 0:
            raise Outcome("business-rule", "Nothing is due of the payer", expression="Invoice.extension")
        coverage = resource_of(db.read("Coverage", named))
        if coverage is None:
            raise Outcome("business-rule", f"Coverage/{named} is not there any more", expression="Invoice.extension")
        return [Create(_Claim(store, db, invoice, coverage).made(credited_amounts(connection, db, invoice)))]

    return carry_out(store, act, prepare)


def credited_amounts(connection: Connection, db: Snapshot, invoice: Resource) -> list[Decimal]:
    """How much each line of an invoice was credited, with its taxes."""
    return [price.gross for price in credited_lines(connection, db, invoice)]


class _Claim:
    """Makes the Claim of an invoice by a Coverage."""

    def __init__(self, store: Store, db: Snapshot, invoice: Resource, coverage: Resource) -> None:
        self._store = store
        self._db = db
        self._invoice = invoice
        self._coverage = coverage
        self._currency = ledger.total_of(invoice)[1]
        named = [str(line.get("chargeItemReference", {}).get("reference", "")) for line in invoice["lineItem"]]
        self._charges = self._read("ChargeItem", named)
        visits = [str(charge.get("context", {}).get("reference", "")) for charge in self._charges.values()]
        self._visits = self._read("Encounter", visits)

    def made(self, credited: Sequence[Decimal]) -> Resource:
        """The resource. Raises Outcome `business-rule` where nobody is named who provided."""
        now = self._store.clock().astimezone(self._store.registry.zone)
        lines = zip(self._invoice["lineItem"], prices_of(self._invoice), credited, strict=True)
        left = [(line, price.gross, price.gross - gone) for line, price, gone in lines if price.gross > gone]
        items = [self._item(n, line, gross, net) for n, (line, gross, net) in enumerate(left, 1)]
        reference = {"reference": f"Invoice/{self._invoice['id']}"}
        diagnoses = self._diagnoses()
        insurer = payer(self._coverage)
        return {
            "resourceType": "Claim",
            "extension": [{"url": CLAIMED, "valueReference": reference}],
            "identifier": [each for each in self._invoice.get("identifier", ()) if each.get("system") == NUMBER],
            "status": "active",
            "type": _concept("claim-type", "professional"),
            "use": "claim",
            "patient": self._invoice["subject"],
            "created": now.isoformat(timespec="seconds"),
            **({"insurer": insurer} if insurer else {}),
            "provider": self._provider(),
            "priority": _concept("processpriority", "normal"),
            **({"diagnosis": [{"sequence": n, "diagnosisReference": each} for n, each in enumerate(diagnoses, 1)]} if diagnoses else {}),
            "insurance": [{"sequence": 1, "focal": True, "coverage": {"reference": f"Coverage/{self._coverage['id']}"}}],
            "item": items,
            "total": money(sum((net for _, _, net in left), ZERO), self._currency),
        }

    def _item(self, sequence: int, line: Resource, gross: Decimal, net: Decimal) -> Resource:
        charge = self._charges.get(str(line.get("chargeItemReference", {}).get("reference", "")), {})
        made: Resource = {
            "extension": [{"url": CHARGE, "valueReference": {"reference": f"ChargeItem/{charge['id']}"}}] if charge else [],
            "sequence": sequence,
            "productOrService": charge.get("code") or line.get("chargeItemCodeableConcept") or {"text": "Service"},
        }
        if "occurrenceDateTime" in charge:
            made["servicedDate"] = charge["occurrenceDateTime"][:10]
        elif "occurrencePeriod" in charge:
            made["servicedPeriod"] = charge["occurrencePeriod"]
        made |= self._quantity(charge.get("quantity", {}), net) if net == gross else {}
        made["net"] = money(net, self._currency)
        visit = str(charge.get("context", {}).get("reference", ""))
        return {name: value for name, value in made.items() if value} | ({"encounter": [{"reference": visit}]} if visit in self._visits else {})

    def _quantity(self, quantity: Resource, net: Decimal) -> Resource:
        """The quantity, with the price of one where that has the digits of the currency."""
        value = Decimal(quantity.get("value", 0))
        if value <= 0:
            return {}
        one = rounded(EXACT.divide(net, value), self._currency)
        return {"quantity": quantity} | ({"unitPrice": money(one, self._currency)} if EXACT.multiply(one, value) == net else {})

    def _provider(self) -> Any:
        """Who bills, else where the visit was, else whom it was to, else the clinic, where there is just one."""
        people = [each["individual"] for visit in self._visits.values() for each in visit.get("participant", ()) if "individual" in each]
        doctors = [each for each in people if str(each.get("reference", "")).startswith("Practitioner")]
        places = [visit["serviceProvider"] for visit in self._visits.values() if "serviceProvider" in visit]
        named = [*([self._invoice["issuer"]] if "issuer" in self._invoice else []), *places, *doctors]
        found = named[0] if named else self._clinic()
        if found is None:
            said = "A claim says who provided: give the patient a managingOrganization, or the visit a serviceProvider or a doctor"
            raise Outcome("business-rule", said, expression="Claim.provider")
        return found

    def _clinic(self) -> Resource | None:
        conditions = [("partof:missing", "true"), ("type:not", INSURER)]
        query = replace(self._store.registry.parse("Organization", conditions, strict=True), count=2)
        rows = self._db.select(compile_search(query, self._store.registry, SYSTEM, None, self._db.sources))
        return {"reference": f"Organization/{rows[0][2]}"} if len(rows) == 1 else None

    def _diagnoses(self) -> list[Resource]:
        """References: whoever may not read a diagnosis does not read it here."""
        listed = [each["condition"] for visit in self._visits.values() for each in visit.get("diagnosis", ()) if "condition" in each]
        conditions = {str(each.get("reference")): each for each in listed if str(each.get("reference", "")).startswith("Condition/")}
        return list(conditions.values())[:_MOST_DIAGNOSES]

    def _read(self, name: str, references: Sequence[str]) -> dict[str, Resource]:
        wanted = dict.fromkeys(each.removeprefix(f"{name}/") for each in references if each.startswith(f"{name}/"))
        there = self._db.read_many([(name, each) for each in wanted]) if wanted else []
        return {f"{name}/{version.id}": content(version) for version in there}


def _concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": f"{_THO}/{system}", "code": code}]}
