"""What is booked may be moved to another record of the same person by who merges the two, and nothing else of it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Put
from fhir_server.store.rules.billing.payments import METHOD, PATIENT, patient_extension

Json = dict[str, Any]
BOOKED: Json = {
    "resourceType": "PaymentReconciliation",
    "extension": [{"url": METHOD, "valueCode": "cash"}, patient_extension("old")],
    "status": "active",
    "created": "2026-11-30",
    "paymentDate": "2026-11-30",
    "paymentAmount": {"value": 10, "currency": "EUR"},
}


@pytest.fixture(scope="module")
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    made = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=2)
    yield made
    made.close()


def made(store: Store, resource: Json) -> str:
    version = store.transact([Create(resource)], SYSTEM, operation="pay").written[0].version
    assert version is not None
    return version.id


def test_a_merge_moves_a_payment_to_the_one_who_stays(store: Store) -> None:
    identity = made(store, BOOKED)
    after = {**BOOKED, "id": identity, "extension": [BOOKED["extension"][0], patient_extension("new")]}
    store.transact([Put(after, identity)], SYSTEM, operation="merge")
    with store.snapshot(SYSTEM) as db:
        assert [each.id for each in db.referring("Patient", "new")] == [identity]
        assert db.referring("Patient", "old") == []


@pytest.mark.parametrize("change", [{"paymentAmount": {"value": 1, "currency": "EUR"}}, {"status": "cancelled"}, {"paymentDate": "2026-12-01"}])
def test_no_operation_changes_what_was_paid(store: Store, change: Json) -> None:
    identity = made(store, BOOKED)
    for op in (Put({**BOOKED, "id": identity, **change}, identity), Delete("PaymentReconciliation", identity)):
        with pytest.raises(Outcome, match="stays as it is"):
            store.transact([op], SYSTEM, operation="merge")


def test_bills_without_a_patient_make_a_payment_nobodys(store: Store) -> None:
    bill = store.transact([Create({"resourceType": "Invoice", "status": "draft", "subject": {"reference": "Group/g"}})], SYSTEM).written[0].version
    assert bill is not None
    notice = {
        "resourceType": "PaymentNotice",
        "status": "active",
        "created": "2026-11-30",
        "payment": {"display": "x"},
        "recipient": {"display": "x"},
        "amount": {"value": 1, "currency": "EUR"},
        "request": {"reference": f"Invoice/{bill.id}"},
    }
    written = store.transact([Create(notice)], SYSTEM).written[0].version
    assert written is not None
    assert written.body is not None
    assert PATIENT.encode() not in written.body
