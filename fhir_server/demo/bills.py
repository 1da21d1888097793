"""What visits to the demo clinic cost: a template, and invoices of the last days that nobody has paid yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic import billing
from fhir_server.clinic.acting import Act
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Commit

from .history import Visit

Json = dict[str, Any]
_UNPAID: Final = 8
_CURRENCY: Final = "EUR"
_LIMIT: Final = Decimal(50)
TEMPLATE: Final[Json] = {
    "resourceType": "ChargeItemDefinition",
    "id": "demo-visit",
    "url": "https://clinic.example/visit",
    "version": "1",
    "title": "Visit",
    "status": "active",
    "code": {"text": "Visit to a doctor"},
    "propertyGroup": [
        {"priceComponent": [{"type": "base", "amount": {"value": Decimal("65.00"), "currency": _CURRENCY}}]},
        {
            "applicability": [{"language": "text/fhirpath", "expression": "%patient.birthDate > %now - 14 years"}],
            "priceComponent": [{"type": "discount", "factor": Decimal("0.20"), "code": {"text": "Children"}}],
        },
    ],
}


def bill(store: Store, visits: Sequence[Visit], covered: Collection[str]) -> None:
    """Issues invoices of the last of the visits that took place, each on its day; of the first of them a payer has a share.

    `covered` are the references of patients that have one. Raises Outcome `unavailable`, nothing else.
    """
    took_place = [visit for visit in visits if visit.fate == "fulfilled"]
    last = took_place[-_UNPAID + 1 :]
    shared = [visit for visit in took_place[: -_UNPAID + 1] if f"Patient/{visit.person.id}" in covered]
    for visit in [*shared[-1:], *last]:
        # An invoice that somebody has made by hand in between may be later than these.
        with suppress(Outcome):
            _billed(store.by(_clock(visit.end + timedelta(minutes=20))), visit)


def _billed(store: Store, visit: Visit) -> None:
    template = TEMPLATE["id"]
    charged = billing.apply(
        store, Act("apply", SYSTEM), template, patient=visit.person.id, encounter=visit.name, quantity=Decimal(1), currency=_CURRENCY
    )
    chosen = billing.Chosen(None, None, (_id(charged),))
    draft = billing.generate(store, Act("generate", SYSTEM), chosen)
    billing.issue(store, Act("issue", SYSTEM), _id(draft), _LIMIT)


def _clock(at: datetime) -> Any:
    return lambda: at


def _id(commit: Commit) -> str:
    version = commit.written[0].version
    assert version is not None
    return version.id
