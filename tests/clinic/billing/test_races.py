"""Many at once: numbers without gaps, one invoice for each charge, and never more credited than there is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.clinic import billing
from fhir_server.clinic.acting import Act, carry_out
from fhir_server.clinic.billing import ledger
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Put
from tests.clinic.billing.world import number

Json = dict[str, Any]
D = Decimal
ZONE = ZoneInfo("Europe/Berlin")
ACT = Act("issue", SYSTEM, reason="test")
LIMIT = D(50)


@pytest.fixture(scope="module")
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    made = Store(fresh_database(), zone=ZONE, connections=12)
    yield made
    made.close()


def draft(store: Store, *amounts: str, issuer: str | None = None, rate: str = "0.19") -> str:
    """A draft written by hand with a line for each net amount."""

    def line(amount: str) -> Json:
        base: Json = {"type": "base", "amount": {"value": D(amount), "currency": "EUR"}}
        tax = (D(amount) * D(rate)).quantize(D("0.01"))
        return {
            "chargeItemCodeableConcept": {"text": "x"},
            "priceComponent": [base, {"type": "tax", "factor": D(rate), "amount": {"value": tax, "currency": "EUR"}}],
        }

    made: Json = {"resourceType": "Invoice", "status": "draft", "lineItem": [line(amount) for amount in amounts or ("100",)]}
    if issuer is not None:
        made["issuer"] = {"reference": f"Organization/{issuer}"}
    return written(store.transact([Create(made)], SYSTEM))["id"]  # type: ignore[no-any-return]


def written(commit: Commit) -> Json:
    version = commit.written[0].version
    assert version is not None
    assert version.body is not None
    resource: Json = fhirjson.loads(version.body)
    return resource


def read(store: Store, identity: str) -> Json:
    with store.snapshot(SYSTEM) as db:
        found = db.read("Invoice", identity)
    assert found is not None
    assert found.body is not None
    resource: Json = fhirjson.loads(found.body)
    return resource


def issued(store: Store, *amounts: str) -> Json:
    return written(billing.issue(store, ACT, draft(store, *amounts), LIMIT))


def test_a_hundred_at_once_of_which_some_are_rolled_back_leave_no_gap(store: Store) -> None:
    chance = random.Random(7)
    failing = {n for n in range(100) if chance.random() < 0.2}
    drafts = [draft(store, issuer="races") for _ in range(100)]

    def give_up(_connection: Connection, _commit: Commit) -> None:
        raise RuntimeError

    def go(n: int) -> Json | None:
        try:
            return written(billing.issue(store, Act("issue", SYSTEM, beside=give_up if n in failing else None), drafts[n], LIMIT))
        except RuntimeError:
            return None

    with ThreadPoolExecutor(30) as pool:
        found = [invoice for invoice in pool.map(go, range(100)) if invoice is not None]
    assert len(found) == 100 - len(failing)
    in_order = sorted(found, key=number)
    assert [int(number(invoice).rpartition("-")[2]) for invoice in in_order] == list(range(1, len(found) + 1))
    assert len({number(invoice).rpartition("-")[0] for invoice in found}) == 1
    dates = [invoice["date"] for invoice in in_order]
    assert dates == sorted(dates)
    again = written(billing.issue(store, ACT, drafts[min(failing)], LIMIT))
    assert int(number(again).rpartition("-")[2]) == len(found) + 1


def test_a_draft_that_many_issue_at_once_gets_one_number(store: Store) -> None:
    identity = draft(store, issuer="once")

    def go(_: int) -> int:
        try:
            billing.issue(store, ACT, identity, LIMIT)
        except Outcome as outcome:
            return outcome.status
        return 200

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(go, range(8))) == [200, *[422] * 7]


def test_issuers_that_begin_at_once_have_series_of_their_own(store: Store) -> None:
    drafts = [draft(store, issuer=f"new-{n % 4}") for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        found = [written(commit) for commit in pool.map(lambda each: billing.issue(store, ACT, each, LIMIT), drafts)]
    assert len({number(invoice) for invoice in found}) == 12
    by_issuer = {(invoice["issuer"]["reference"], number(invoice).rpartition("-")[0]) for invoice in found}
    assert len(by_issuer) == len({series for _, series in by_issuer}) == 4


def test_no_date_is_before_that_of_the_number_before(store: Store) -> None:
    first = written(billing.issue(store, ACT, draft(store, issuer="clock"), LIMIT))
    with psycopg.connect(store.url) as connection:
        connection.execute("UPDATE invoice_series SET last = last + interval '1 second' WHERE issuer = 'Organization/clock'")
    second = written(billing.issue(store, ACT, draft(store, issuer="clock"), LIMIT))
    assert second["date"] > first["date"]


def test_a_charge_that_many_bill_at_once_is_on_one_invoice(store: Store) -> None:
    price = {"value": 10, "currency": "EUR"}
    charge = {
        "resourceType": "ChargeItem",
        "status": "billable",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p"},
        "priceOverride": price,
    }
    account = [{"reference": "Account/race"}]
    store.transact([Put({"resourceType": "Account", "id": "race", "status": "active"}, "race")], SYSTEM)
    ids = [written(store.transact([Create(charge | {"account": account})], SYSTEM))["id"] for _ in range(3)]

    refusals: list[int] = []

    def go(n: int) -> list[str]:
        chosen = billing.Chosen(account="race") if n % 2 else billing.Chosen(charges=(ids[n % 3],))
        try:
            invoice = written(billing.generate(store, Act("generate", SYSTEM), chosen))
        except Outcome as outcome:
            refusals.append(outcome.status)
            return []
        return [line["chargeItemReference"]["reference"] for line in invoice["lineItem"]]

    with ThreadPoolExecutor(10) as pool:
        billed = [each for found in pool.map(go, range(10)) for each in found]
    assert sorted(billed) == sorted(f"ChargeItem/{each}" for each in ids)
    assert set(refusals) <= {409, 422}


def test_never_more_is_credited_than_there_is(store: Store) -> None:
    invoice = issued(store, "100")

    def go(_: int) -> int:
        try:
            billing.credit(store, Act("credit", SYSTEM, reason="x"), invoice["id"], billing.Wanted(D("30")))
        except Outcome as outcome:
            return outcome.status
        return 201

    with ThreadPoolExecutor(10) as pool:
        statuses = sorted(pool.map(go, range(10)))
    assert statuses == [201] * 3 + [422] * 7
    with psycopg.connect(store.url) as connection:
        row = connection.execute("SELECT sum(amount) FROM ledger_entry WHERE invoice = %s", (invoice["id"],)).fetchone()
    assert row == (D("29.00"),)


steps = st.lists(st.tuples(st.sampled_from(["payment", "credit", "refund", "write-off"]), st.decimals("0.01", 150, places=2)), max_size=8)


@settings(max_examples=15)
@given(steps, st.lists(st.decimals("0.01", 99, places=2).map(str), min_size=1, max_size=4))
def test_the_balance_is_what_the_ledger_says_and_credits_stay_within_the_gross(
    store: Store, made: list[tuple[str, Decimal]], amounts: list[str]
) -> None:
    invoice = issued(store, *amounts)
    gross = invoice["totalGross"]["value"]
    refusals = set()
    sums = dict.fromkeys(("payment", "credit", "refund", "write-off"), D(0))
    for kind, amount in made:
        try:
            if kind == "credit":
                note = written(billing.credit(store, Act("credit", SYSTEM, reason="x"), invoice["id"], billing.Wanted(amount)))
                assert note["totalGross"]["value"] == -amount
            elif kind == "write-off":
                asked = billing.Asked(amount)
                billing.adjust(store, Act("write-off", SYSTEM, reason="x"), "write-off", invoice["id"], asked, D(1000), lambda _: None)
            else:
                booked(store, invoice["id"], ledger.Entry(kind, amount, "EUR"))  # type: ignore[arg-type]  # one of them
        except Outcome as outcome:
            refusals.add(outcome.status)
            continue
        sums[kind] += amount
    shown = read(store, invoice["id"])
    (balance,) = [each for each in shown["extension"] if each["url"].endswith("invoice-balance")]
    found = {part["url"]: part["valueMoney"]["value"] for part in balance["extension"]}
    assert refusals <= {422}
    assert sums["credit"] + sums["write-off"] <= gross
    assert sums["refund"] <= sums["payment"]
    assert found["credited"] == sums["credit"]
    assert found["paid"] == sums["payment"] - sums["refund"]
    assert found["due"] == gross - found["paid"] - sums["credit"] - sums["write-off"]
    is_settled = shown["status"] in {"balanced", "cancelled"}
    assert is_settled == (found["due"] <= 0)


def booked(store: Store, identity: str, entry: ledger.Entry) -> None:
    """As payments do it."""

    def prepare(connection: Connection, db: Any) -> list[Any]:
        invoice = ledger.locked(store, connection, db, ACT, identity)
        ledger.opened(invoice)
        return [ledger.post(store, connection, ACT, invoice, [entry])]

    carry_out(store, ACT, prepare)
