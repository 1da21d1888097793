"""What is billed stays as it is, through every door; what is not yet, is not written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.settings import CANON
from fhir_server.store import Store, outbox
from fhir_server.store.ops import Create, Delete, Op, Patch, Put
from fhir_server.store.rules.billing.bills import BALANCE, CONSUMER, NUMBER, PRICE, TRIGGER
from tests.store.anew import made_anew

Json = dict[str, Any]
STAFF: Grant = replace(SYSTEM, roles=frozenset({"staff"}), actor="desk")


@pytest.fixture(scope="module")
def store(fresh_database: Callable[[], str]) -> Any:
    made = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=2)
    yield made
    made.close()


def template(version: str, status: str = "active", url: str = "urn:t", **fields: Any) -> Json:
    return {"resourceType": "ChargeItemDefinition", "url": url, "version": version, "status": status, **fields}


def charge(**fields: Any) -> Json:
    return {"resourceType": "ChargeItem", "status": "billable", "code": {"text": "x"}, "subject": {"reference": "Patient/p"}, **fields}


def invoice(*charges: str, status: str = "draft", **fields: Any) -> Json:
    lines: Json = {"lineItem": [{"chargeItemReference": {"reference": f"ChargeItem/{each}"}} for each in charges]} if charges else {}
    return {"resourceType": "Invoice", "status": status, "subject": {"reference": "Patient/p"}, **lines, **fields}


def price(value: int) -> list[Json]:
    amount = {"value": value, "currency": "EUR"}
    return [{"url": PRICE, "extension": [{"url": name, "valueMoney": amount} for name in ("net", "tax", "gross")]}]


def make(store: Store, resource: Json, operation: str = "", grant: Grant = SYSTEM) -> str:
    version = store.transact([Create(resource)], grant, operation=operation).written[0].version
    assert version is not None
    return version.id


def refused(store: Store, op: Op, grant: Grant = SYSTEM, operation: str = "", status: int = 422) -> str:
    with pytest.raises(Outcome) as caught:
        store.transact([op], grant, operation=operation)
    assert caught.value.status == status
    return str(caught.value)


def doors(name: str, identity: str, change: Callable[[Json], Json], whole: Json) -> list[Op]:
    """Every way to change a resource, and to end it."""
    return [Patch(name, change, identity), Put({**change(whole), "id": identity}, identity), Delete(name, identity)]


@pytest.mark.parametrize("status", ["active", "retired"])
def test_a_template_that_is_in_force_or_was_stays_as_it_is(store: Store, status: str) -> None:
    whole = template("1", status, url=f"urn:frozen:{status}", title="Visit")
    identity = make(store, whole)
    for operation in ("", "anything"):
        for op in doors("ChargeItemDefinition", identity, lambda old: {**old, "title": "Dearer"}, whole):
            assert "another version" in refused(store, op, operation=operation)


def test_an_active_template_can_be_retired_and_a_draft_changed(store: Store) -> None:
    identity = make(store, template("1", "draft", url="urn:life"))
    for change in ({"title": "New"}, {"status": "active"}, {"status": "retired", "date": "2026-03-01"}):
        store.transact([Patch("ChargeItemDefinition", lambda old, new=change: {**old, **new}, identity)], SYSTEM)  # type: ignore[misc]  # bound
    assert "cannot become" in refused(store, Patch("ChargeItemDefinition", lambda old: {**old, "status": "active"}, identity))


def test_a_version_of_a_template_is_there_once(store: Store) -> None:
    make(store, template("1", url="urn:twice"))
    make(store, template("2", url="urn:twice"))
    make(store, template("1", "draft", url="urn:twice"))
    assert "already" in refused(store, Create(template("1", url="urn:twice")), status=409)


@pytest.mark.parametrize("status", ["issued", "balanced", "cancelled"])
def test_an_issued_invoice_changes_through_no_door(store: Store, status: str) -> None:
    whole = invoice(status=status, note=[{"text": "thank you"}])
    identity = make(store, whole, "issue")
    changes: list[Callable[[Json], Json]] = [
        lambda old: {**old, "note": [{"text": "pay twice"}]},
        lambda old: {**old, "totalGross": {"value": 0, "currency": "EUR"}},
    ]
    for grant in (SYSTEM, STAFF):
        for change in changes:
            for op in doors("Invoice", identity, change, whole):
                assert "$credit" in refused(store, op, grant)
    refused(store, Patch("Invoice", changes[1], identity), operation="pay")
    # The same again, as by another load of the same file, changes nothing.
    store.transact([Put({**whole, "id": identity}, identity)], SYSTEM)


def test_an_issued_invoice_goes_with_a_patient_who_is_merged_and_keeps_its_money(store: Store) -> None:
    whole = invoice(status="issued", totalGross={"value": 5, "currency": "EUR"})
    identity = make(store, whole, "issue")
    moved = {**whole, "id": identity, "subject": {"reference": "Patient/survivor"}}
    refused(store, Put(moved, identity))
    store.transact([Put(moved, identity)], SYSTEM, operation="merge")
    refused(store, Put({**moved, "totalGross": {"value": 6, "currency": "EUR"}}, identity), operation="merge")


def test_people_issue_and_balance_by_operations_alone(store: Store) -> None:
    draft = make(store, invoice(), grant=STAFF)
    changes: list[Json] = [{"status": "issued"}, {"identifier": [{"system": NUMBER, "value": "INV-1"}]}, {"extension": [{"url": BALANCE}]}]
    for change in changes:
        refused(store, Patch("Invoice", lambda old, new=change: {**old, **new}, draft), STAFF)  # type: ignore[misc]  # bound
        refused(store, Create(invoice(**{"status": "draft", **change})), STAFF)
    store.transact([Patch("Invoice", lambda old: {**old, "status": "cancelled"}, draft)], STAFF)


def test_lines_of_charges_are_not_written_by_hand(store: Store) -> None:
    refused(store, Create(invoice("c1")), STAFF)
    identity = make(store, invoice("c1"), "generate")
    for op in doors("Invoice", identity, lambda old: {**old, "lineItem": []}, invoice("c1")):
        refused(store, op)
    refused(store, Patch("Invoice", lambda old: {**old, "status": "cancelled"}, identity))
    store.transact([Patch("Invoice", lambda old: {**old, "note": [{"text": "soon"}]}, identity)], STAFF)


def test_a_charge_is_on_one_invoice_until_that_is_taken_back(store: Store) -> None:
    first = make(store, invoice("once"), "generate")
    assert "ChargeItem/once" in refused(store, Create(invoice("once")), operation="generate", status=409)
    store.transact([Patch("Invoice", lambda old: {**old, "status": "cancelled"}, first)], SYSTEM, operation="cancel")
    make(store, invoice("once"), "generate")
    assert "ChargeItem/same" in refused(store, Create(invoice("same", "same")), operation="generate", status=409)


def test_a_price_is_not_written_by_hand_nor_what_it_is_made_of(store: Store) -> None:
    refused(store, Create(charge(extension=price(1))), STAFF)
    identity = make(store, charge(extension=price(10)), "apply")
    changes: list[Json] = [{"extension": price(1)}, {"extension": []}, {"quantity": {"value": 2}}, {"subject": {"reference": "Patient/q"}}]
    for change in changes:
        assert refused(store, Patch("ChargeItem", lambda old, new=change: {**old, **new}, identity), STAFF)  # type: ignore[misc]  # bound
    store.transact([Patch("ChargeItem", lambda old: {**old, "status": "not-billable"}, identity)], STAFF)


def test_a_billed_charge_changes_through_no_door(store: Store) -> None:
    whole = charge(extension=price(10), status="billed")
    identity = make(store, whole, "generate")
    for op in doors("ChargeItem", identity, lambda old: {**old, "note": [{"text": "x"}]}, whole):
        assert "billed" in refused(store, op)
    refused(store, Patch("ChargeItem", lambda old: {**old, "status": "billable"}, identity))
    refused(store, Create(charge(status="billed")), STAFF)


def test_billing_hears_of_what_active_templates_are_triggered_by(store: Store) -> None:
    def listened() -> set[str]:
        with psycopg.connect(store.url) as connection:
            return {name for (name,) in connection.execute("SELECT type FROM outbox_listener WHERE consumer = %s", (CONSUMER,)).fetchall()}

    assert listened() == set()
    trigger = [{"url": TRIGGER, "valueCodeableConcept": {"coding": [{"system": f"{CANON}/CodeSystem/billing-event", "code": "encounter-finished"}]}}]
    identity = make(store, template("1", url="urn:triggered", extension=trigger))
    assert listened() == {"Encounter"}
    visit = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}}
    make(store, visit)
    assert outbox.drain(store.database, CONSUMER, lambda _connection, changes: [change.type for change in changes]) == "some"
    store.transact([Patch("ChargeItemDefinition", lambda old: {**old, "status": "retired"}, identity)], SYSTEM)
    assert listened() == set()


def test_rows_are_the_same_when_they_are_made_anew(store: Store) -> None:
    statements = ("SELECT charge, rid FROM billed ORDER BY 1", "SELECT * FROM billing_template ORDER BY rid")

    def rows() -> list[Any]:
        with psycopg.connect(store.url) as connection:
            return [connection.execute(statement).fetchall() for statement in statements]

    make(store, template("1", url="urn:again", partOf=["urn:bundle"]))
    before = rows()
    assert all(before)
    made_anew(store)
    assert rows() == before
