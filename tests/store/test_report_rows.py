"""Rows of reports: kept by every write that counts, at no cost to any other, whatever a resource says."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Op, Patch, Put
from fhir_server.store.rules.reports.facts import bill_of, charged_by, payment_of, visit_of

Json = dict[str, Any]
Count = Callable[[Callable[[], object]], int]
PERIOD = {"start": "2026-03-02T08:00:00Z", "end": "2026-03-02T08:20:00Z"}
PLAIN: Json = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}}
COUNTED = PLAIN | {"statusHistory": [{"status": "arrived", "period": PERIOD}]}
LONG_AGO, NEVER = "0001-01-01", "9999-12-31T23:59:60.999999999999-14:00"


def visit(store: Store, identity: str) -> list[Any]:
    statement = "SELECT v.arrived, v.seen FROM visit_time v JOIN resource r USING (rid) WHERE r.id = %s"
    with store.database.connection() as connection:
        return connection.execute(statement, (identity,)).fetchall()


def test_only_what_counts_and_has_changed_costs_a_statement(store: Store, statements: Count) -> None:
    def cost(op: Op) -> int:
        return statements(lambda: store.transact([op], SYSTEM))

    cost(Create(COUNTED))
    assert cost(Create(PLAIN)) == 1
    # The transaction, the write, the row.
    assert cost(Create(COUNTED)) == 4
    store.transact([Put({**PLAIN, "id": "cost-plain"}, "cost-plain"), Put({**COUNTED, "id": "cost-counted"}, "cost-counted")], SYSTEM)
    usual = cost(Patch("Encounter", lambda old: {**old, "reasonCode": [{"text": "x"}]}, "cost-plain"))
    assert cost(Patch("Encounter", lambda old: {**old, "reasonCode": [{"text": "x"}]}, "cost-counted")) == usual
    assert cost(Patch("Encounter", lambda old: {**old, "statusHistory": []}, "cost-counted")) == usual + 1


def test_a_row_goes_with_its_resource_and_comes_back(store: Store) -> None:
    whole = {**COUNTED, "id": "comes-and-goes"}
    for op, count in (
        (Put(whole, "comes-and-goes"), 1),
        (Delete("Encounter", "comes-and-goes"), 0),
        (Put(whole, "comes-and-goes"), 1),
        (Patch("Encounter", lambda old: {**old, "status": "entered-in-error"}, "comes-and-goes"), 0),
    ):
        store.transact([op], SYSTEM)
        assert len(visit(store, "comes-and-goes")) == count


MONEY: Json = {"value": Decimal("1.005"), "currency": "EUR"}
HOSTILE: list[Json] = [
    {"resourceType": "Invoice", "status": "issued", "date": LONG_AGO, "totalGross": MONEY, "lineItem": [{}, {"priceComponent": [{"type": "tax"}]}]},
    {"resourceType": "Invoice", "status": "issued", "date": NEVER, "totalGross": MONEY, "lineItem": [{"chargeItemReference": {"display": "x"}}]},
    {"resourceType": "Invoice", "status": "issued", "date": "2026", "totalNet": MONEY, "lineItem": [{"chargeItemReference": {"reference": "#x"}}]},
    {"resourceType": "Invoice", "status": "issued", "date": "2026-03", "totalGross": {"value": Decimal("1E+400"), "currency": "EUR"}},
    {"resourceType": "Invoice", "status": "issued", "date": "2026-03", "totalGross": {"value": Decimal(1), "currency": "no currency"}},
    {"resourceType": "Invoice", "status": "balanced", "date": "2026-03", "totalGross": {"currency": "EUR"}, "totalNet": {"value": Decimal(1)}},
    {
        "resourceType": "Invoice",
        "status": "issued",
        "date": "2026-03-01",
        "totalGross": MONEY,
        "extension": [{"url": f"{CANON}/StructureDefinition/invoice-balance"}, {"url": f"{CANON}/StructureDefinition/credits-invoice"}],
        "lineItem": [{"extension": [{"url": f"{CANON}/StructureDefinition/charge-price", "extension": [{"url": "net"}]}]}],
    },
    {"resourceType": "PaymentReconciliation", "status": "active", "paymentDate": LONG_AGO, "paymentAmount": MONEY, "extension": [{"url": "x"}]},
    {"resourceType": "PaymentReconciliation", "status": "active", "paymentDate": "2026", "paymentAmount": {"value": -(10**400), "currency": "EUR"}},
    {**PLAIN, "statusHistory": [{"status": "arrived"}, {"status": "triaged", "period": {"start": LONG_AGO}}, {"status": "arrived", "period": {}}]},
    {**PLAIN, "statusHistory": [{"status": "arrived", "period": {"start": NEVER}}, {"status": "in-progress", "period": PERIOD}]},
    {**PLAIN, "status": "arrived", "location": [{"location": {"identifier": {"value": "x"}}}], "extension": [{"url": "x"}]},
    {
        "resourceType": "ChargeItem",
        "definitionCanonical": [None],
        "performer": [{"actor": {"reference": "Device/1"}}, {"actor": {"display": "x"}}, {}],
    },
    {"resourceType": "ChargeItem", "performer": [{"actor": {"reference": "https://elsewhere.example/Practitioner/1"}}]},
]


@pytest.mark.parametrize("resource", HOSTILE)
def test_what_makes_no_sense_is_not_counted_and_refused_nowhere(store: Store, resource: Json) -> None:
    facts = {"Invoice": bill_of, "PaymentReconciliation": payment_of, "Encounter": visit_of, "ChargeItem": charged_by}
    facts[resource["resourceType"]](resource, store.registry)
    if resource["resourceType"] != "ChargeItem":
        (written,) = store.transact([Create(resource)], SYSTEM, operation="load").written
        assert written.outcome == "created"
