"""Whatever happens to an invoice with a payer, in whatever order: what patient and payer owe sums to what is left, and nobody owes for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.clinic import billing
from fhir_server.clinic.acting import Act, carry_out
from fhir_server.clinic.billing import ledger
from fhir_server.clinic.insurance.settling import settlement
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.database import Connection, scalar
from fhir_server.store.ops import Create, Op

Json = dict[str, Any]
D = Decimal
ACT = Act("credit", SYSTEM, reason="test")
NUMBERS = count()


@pytest.fixture(scope="module")
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    made = Store(fresh_database(), zone=ZoneInfo("Europe/Berlin"), connections=4)
    yield made
    made.close()


def issued(store: Store, amounts: Sequence[str], fraction: Decimal) -> Json:
    """An invoice of whose gross a payer has a fraction."""
    lines = [
        {"chargeItemCodeableConcept": {"text": "x"}, "priceComponent": [{"type": "base", "amount": {"value": D(amount), "currency": "EUR"}}]}
        for amount in amounts
    ]
    draft = store.transact([Create({"resourceType": "Invoice", "status": "draft", "lineItem": lines})], SYSTEM).written[0].version
    assert draft is not None
    version = billing.issue(store, ACT, draft.id, D(50)).written[0].version
    assert version is not None
    assert version.body is not None
    invoice: Json = fhirjson.loads(version.body)
    share = (invoice["totalGross"]["value"] * fraction).quantize(D("0.01"))
    booked(store, invoice, ledger.Entry("insurance", share, "EUR", "Coverage/c"))
    return invoice


def booked(store: Store, invoice: Json, entry: ledger.Entry) -> None:
    def prepare(connection: Connection, db: Any) -> Sequence[Op]:
        there = ledger.locked(store, connection, db, ACT, invoice["id"])
        ledger.opened(there)
        return [ledger.post(store, connection, ACT, there, [entry])]

    carry_out(store, ACT, prepare)


def settled(store: Store, invoice: Json, response: Json | None) -> None:
    cause = f"ClaimResponse/{next(NUMBERS)}"

    def prepare(connection: Connection, db: Any) -> Sequence[Op]:
        there = ledger.locked(store, connection, db, ACT, invoice["id"])
        return settlement(store, connection, there, {"id": "c"}, response, cause).post(store, connection, ACT, there)

    carry_out(store, ACT, prepare)


def balance_of(store: Store, invoice: Json) -> ledger.Balance:
    with store.database.connection() as connection:
        return ledger.balance(connection, invoice)


def summed(store: Store, invoice: Json) -> Decimal:
    """What the patient owes, as a report sums it up."""
    with store.database.connection() as connection:
        return Decimal(scalar(connection, "SELECT sum(amount) FROM ledger_entry WHERE invoice = %s", invoice["id"]))


def answer(benefit: Decimal, paid: Decimal, outcome: str) -> Json:
    category = {"coding": [{"code": "benefit"}]}
    total = [{"category": category, "amount": {"value": benefit, "currency": "EUR"}}]
    return {"status": "active", "outcome": outcome, "total": total, "payment": {"amount": {"value": min(paid, benefit), "currency": "EUR"}}}


amounts = st.decimals("0.01", 150, places=2)
kinds = st.sampled_from(["payment", "credit", "refund", "write-off", "complete", "partial", "taken back"])
steps = st.lists(st.tuples(kinds, amounts, amounts), max_size=8)


@settings(max_examples=25)
@given(steps, st.lists(st.decimals("0.01", 99, places=2).map(str), min_size=1, max_size=4), st.decimals(0, 1, places=2))
def test_what_patient_and_payer_owe_is_what_is_left(store: Store, made: list[tuple[str, Decimal, Decimal]], lines: list[str], part: Decimal) -> None:
    invoice = issued(store, lines, part)
    gross: Decimal = invoice["totalGross"]["value"]
    for kind, amount, other in made:
        before = balance_of(store, invoice)
        try:
            step(store, invoice, kind, amount, other)
        except Outcome:
            assert balance_of(store, invoice) == before
            continue
        found = balance_of(store, invoice)
        left = gross - found.credited - found.written_off
        assert found.due + found.paid + found.insured == left
        assert summed(store, invoice) == found.due
        assert found.insurer_due >= 0
        assert found.paid >= 0
        assert found.written_off >= 0
        # What nobody has paid nobody is owed.
        assert found.due >= -found.paid
        assert 0 <= found.insured <= gross - found.credited
        if kind == "complete":
            assert (found.insured, found.insurer_paid) == (amount, min(other, amount))
        if kind == "taken back":
            assert found.insurer_paid == 0


def step(store: Store, invoice: Json, kind: str, amount: Decimal, other: Decimal) -> None:
    if kind == "credit":
        billing.credit(store, ACT, invoice["id"], billing.Wanted(amount))
    elif kind == "write-off":
        billing.adjust(store, ACT, "write-off", invoice["id"], billing.Asked(amount), D(1000), lambda _: None)
    elif kind in {"payment", "refund"}:
        booked(store, invoice, ledger.Entry(kind, amount, "EUR"))  # type: ignore[arg-type]  # one of them
    else:
        settled(store, invoice, None if kind == "taken back" else answer(amount, other, kind))


def test_the_same_answer_comes_to_nothing_the_second_time(store: Store) -> None:
    invoice = issued(store, ["100"], D("0.80"))
    response = answer(D("70.00"), D("60.00"), "complete")
    for _ in range(2):
        settled(store, invoice, response)
    found = balance_of(store, invoice)
    assert (found.insured, found.insurer_paid, found.due) == (D("70.00"), D("60.00"), D("30.00"))
    with store.database.connection() as connection:
        again = settlement(store, connection, invoice, {"id": "c"}, response, "ClaimResponse/third")
    assert (again.entries, again.payment) == ((), None)
