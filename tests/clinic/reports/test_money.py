"""Reports over what the clinic's own operations have billed, paid and credited; and how its rows keep up with whoever writes at once."""

from __future__ import annotations

import time as clock_time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.clinic import billing
from fhir_server.clinic.acting import Act
from fhir_server.clinic.billing import payments
from fhir_server.clinic.reports import REPORTS, Asked, make
from fhir_server.search import SYSTEM
from fhir_server.store import Store
from fhir_server.store.ops import Commit, Create, Put

from .recompute import ALL, World
from .test_reports import opened
from .world import ZONE, Json

D = Decimal
LIMIT = D(50)
TEMPLATE = {
    "resourceType": "ChargeItemDefinition",
    "id": "visit",
    "url": "urn:visit",
    "version": "1",
    "status": "active",
    "title": "Visit",
    "propertyGroup": [
        {"priceComponent": [{"type": "base", "amount": {"value": D("100.00"), "currency": "EUR"}}, {"type": "tax", "factor": D("0.20")}]}
    ],
}


@pytest.fixture(scope="module")
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    with opened(fresh_database()) as made:
        attending = [{"coding": [{"code": "ATND"}]}]
        members = [{"individual": {"reference": "Practitioner/p0"}}, {"type": attending, "individual": {"reference": "PractitionerRole/r1"}}]
        visit = {"resourceType": "Encounter", "id": "v", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/x"}}
        people: list[Json] = [{"resourceType": "Practitioner", "id": each, "name": [{"family": each}]} for each in ("p0", "p1")]
        role = {"resourceType": "PractitionerRole", "id": "r1", "practitioner": {"reference": "Practitioner/p1"}}
        whole = [*people, role, {"resourceType": "Patient", "id": "x"}, {**visit, "participant": members}, TEMPLATE]
        made.transact([Put(each, each["id"]) for each in whole], SYSTEM)
        yield made


def at(store: Store, day: str, hour: int = 12) -> Store:
    moment = datetime.combine(date.fromisoformat(day), time(hour), ZONE).astimezone(UTC)
    return store.by(lambda: moment)


def act(name: str, reason: str = "because", actor: str = "ann") -> Act:
    return Act(name, replace(SYSTEM, actor=actor), reason=reason)


def identity(commit: Commit) -> str:
    version = commit.written[0].version
    assert version is not None
    return version.id


def issued(store: Store) -> str:
    charge = billing.apply(store, act("apply"), "visit", patient="x", encounter="v", quantity=D(1), currency="EUR")
    draft = billing.generate(store, act("generate"), billing.Chosen(None, None, (identity(charge),)))
    return identity(billing.issue(store, act("issue"), identity(draft), LIMIT))


def versions(store: Store, invoice: str) -> list[Json]:
    with store.snapshot(SYSTEM) as db:
        count = db.read("Invoice", invoice).version  # type: ignore[union-attr]  # it is there
        found = db.versions([("Invoice", invoice, n + 1) for n in range(count)])
    return sorted((fhirjson.loads(each.body) for each in found.values() if each.body), key=lambda each: int(each["meta"]["versionId"]))


def due_then(history: list[Json], day: date) -> Decimal:
    """What the version of the end of a day shows as due."""
    end = datetime.combine(day + timedelta(days=1), time(), ZONE).astimezone(UTC)
    then = [each for each in history if datetime.fromisoformat(each["meta"]["lastUpdated"]) < end]
    balances = [each for each in then[-1].get("extension", ()) if each["url"].endswith("invoice-balance")] if then else []
    return sum((Decimal(part["valueMoney"]["value"]) for each in balances for part in each["extension"] if part["url"] == "due"), D(0))


def test_what_is_due_at_any_day_is_what_the_invoices_showed_then(store: Store) -> None:
    invoices = [issued(at(store, day, hour)) for day, hour in (("2026-03-01", 0), ("2026-03-28", 23), ("2026-05-02", 12), ("2026-05-02", 13))]
    first, second, third, fourth = invoices
    payments.pay(at(store, "2026-03-31", 0), act("pay"), first, payments.Paid("cash", D(20)))
    billing.credit(at(store, "2026-04-30", 23), act("credit"), first, billing.Wanted(D(30)))
    billing.adjust(at(store, "2026-06-01"), act("write-off"), "write-off", second, billing.Asked(D(10)), LIMIT, lambda _: None)
    payments.pay(at(store, "2026-06-02"), act("pay"), third, payments.Paid("transfer", D(130)))
    payments.ask_refund(at(store, "2026-06-10"), act("refund"), third, D(5), "EUR", lambda _: None)
    payments.approve_refund(at(store, "2026-06-11"), act("approve-refund", actor="bo"), third, None)
    billing.credit(at(store, "2026-06-12"), act("credit"), fourth, billing.Wanted())
    past = [versions(store, each) for each in invoices]
    for n in range(110):
        day = date(2026, 2, 26) + timedelta(days=n)
        dues = [(due_then(history, day), (day - World(store, Asked(day, day)).day(history[-1]["date"])).days) for history in past]  # type: ignore[operator]  # all have a date
        parts = [sum(due for due, age in dues if due > 0 and low <= age <= high) for low, high in ((0, 30), (31, 60), (61, 90), (91, 999))]
        overpaid = sum(due for due, _ in dues if due < 0)
        told = tuple(f"{Decimal(each):.2f}" for each in (*parts, sum(parts), overpaid))
        rows = make(store, REPORTS["receivables"], Asked(day, day)).rows
        assert rows == ([("EUR", sum(due > 0 for due, _ in dues), *told)] if any(parts) or overpaid else []), day
    for name in ("revenue", "collected"):
        for by in ((group,) for group in REPORTS[name].groups):
            asked = Asked(date(2026, 3, 1), date(2026, 6, 30), by)
            made = make(store, REPORTS[name], asked)
            assert (made.rows, made.totals) == ALL[name](World(store, asked), by)
    # Whoever called the patient has seen them, in their role.
    (row,) = make(store, REPORTS["revenue"], Asked(date(2026, 3, 1), date(2026, 6, 30), ("doctor",))).rows
    assert row[:2] == ("Practitioner/p1", "p1")


def charge(doctor: str) -> Put:
    made: Json = {"resourceType": "ChargeItem", "id": "raced", "status": "billable", "code": {"text": "x"}, "subject": {"reference": "Patient/x"}}
    return Put(made | {"performer": [{"actor": {"reference": f"Practitioner/{doctor}"}}]}, "raced")


def invoice() -> Put:
    amount = {"value": D(1), "currency": "EUR"}
    lines = [{"chargeItemReference": {"reference": "ChargeItem/raced"}, "priceComponent": [{"type": "base", "amount": amount}]}]
    fields = {"status": "issued", "date": "2026-01-02", "lineItem": lines, "totalNet": amount, "totalGross": amount}
    return Put({"resourceType": "Invoice", "id": "raced", **fields}, "raced")


@pytest.mark.parametrize("first", ["charge", "invoice"])
def test_a_line_has_the_doctor_that_its_charge_has_in_the_end_whoever_is_first(fresh_database: Callable[[], str], first: str) -> None:
    with opened(fresh_database()) as store, ThreadPoolExecutor(1) as pool:
        store.transact([charge("before")], SYSTEM)
        ops = {"charge": charge("after"), "invoice": invoice()}
        second: list[Future[Any]] = []

        def hold(_connection: Any, _commit: Commit) -> None:
            (other,) = ops.keys() - {first}
            second.append(pool.submit(store.transact, [ops[other]], SYSTEM, operation="load"))
            deadline = clock_time.monotonic() + 10
            with store.database.connection() as watching:
                while not is_waiting(watching) and not second[0].done() and clock_time.monotonic() < deadline:
                    clock_time.sleep(0.005)

        store.transact([ops[first]], SYSTEM, operation="load", beside=hold)
        second[0].result(10)
        with store.database.connection() as connection:
            assert connection.execute("SELECT doctor FROM invoice_line").fetchall() == [("Practitioner/after",)]


def is_waiting(connection: Any) -> bool:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(connection.execute(statement).fetchone()[0])


def test_a_charge_and_its_invoice_may_come_together_or_the_charge_last(fresh_database: Callable[[], str]) -> None:
    with opened(fresh_database()) as store:

        def doctors() -> list[Any]:
            with store.database.connection() as connection:
                return connection.execute("SELECT doctor, template FROM invoice_line ORDER BY rid").fetchall()

        store.transact([invoice()], SYSTEM, operation="load")
        assert doctors() == [("", "")]
        store.transact([charge("late")], SYSTEM)
        assert doctors() == [("Practitioner/late", "")]
        linked = {"chargeItemReference": {"reference": "urn:uuid:7b1fbdc9-1f0d-4c5a-9a2d-6b6f0d6f3f10"}}
        made = {**invoice().resource, "lineItem": [linked | {"priceComponent": []}]}
        del made["id"]
        both = {name: value for name, value in charge("together").resource.items() if name != "id"}
        ops = [Create(made), Create(both, link="urn:uuid:7b1fbdc9-1f0d-4c5a-9a2d-6b6f0d6f3f10")]
        store.transact(ops, SYSTEM, operation="load")
        assert ("Practitioner/together", "") in doctors()
