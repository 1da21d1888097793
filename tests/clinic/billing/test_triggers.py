"""Templates that apply themselves, once for each thing that happens, however often it is heard of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server import fhirjson
from fhir_server.clinic.billing.triggers import CONSUMER, Charging
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Patch
from fhir_server.store.outbox import Change, drain
from fhir_server.store.rules.billing.bills import EVENTS
from tests.interactions.conftest import unique

Json = dict[str, Any]


@pytest.fixture(scope="module")
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    made = Store(fresh_database(), zone=ZoneInfo("Europe/Berlin"), connections=4)
    yield made
    made.close()


@pytest.fixture
def templates(store: Store) -> Iterator[Callable[..., str]]:
    """Makes active templates with a trigger, gone from force at the end."""
    made: list[str] = []

    def make(event: str, *applies_to: str, url: str = "", **fields: Any) -> str:
        concept = {"coding": [{"system": f"{CANON}/CodeSystem/billing-event", "code": event}]}
        extensions = [{"url": f"{CANON}/StructureDefinition/billing-trigger", "valueCodeableConcept": concept}]
        extensions += [
            {"url": f"{CANON}/StructureDefinition/billing-applies-to", "valueCodeableConcept": {"coding": [{"system": "urn:s", "code": each}]}}
            for each in applies_to
        ]
        parts = [{"type": "base", "amount": {"value": 30, "currency": "EUR"}}]
        resource = {
            "resourceType": "ChargeItemDefinition",
            "url": url or f"urn:{unique('t')}",
            "version": "1",
            "status": "active",
            "extension": extensions,
            "propertyGroup": [{"priceComponent": parts}],
        }
        made.append(write(store, resource | fields)["id"])
        return made[-1]

    yield make
    for identity in made:
        store.transact([Patch("ChargeItemDefinition", lambda old: {**old, "status": "retired"}, identity)], SYSTEM)


def write(store: Store, resource: Json) -> Json:
    version = store.transact([Create(resource)], SYSTEM).written[0].version
    assert version is not None
    assert version.body is not None
    found: Json = fhirjson.loads(version.body)
    return found


def move(store: Store, resource: Json, status: str) -> None:
    store.transact([Patch(resource["resourceType"], lambda old: {**old, "status": status}, resource["id"])], SYSTEM)


def hear(store: Store) -> list[Change]:
    """Has billing hear of all that happened; what that was."""
    heard: list[Change] = []
    charging = Charging(store, "EUR")

    def work(connection: Connection, found: Sequence[Change]) -> None:
        heard.extend(found)
        charging.hear(connection, found)

    while drain(store.database, CONSUMER, work) == "some":
        pass
    return heard


def charges(store: Store, patient: Json) -> list[Json]:
    with store.snapshot(SYSTEM) as db:
        return [fhirjson.loads(version.body or b"") for version in db.of_patient("ChargeItem", patient["id"])]


def patient(store: Store) -> Json:
    return write(store, {"resourceType": "Patient"})


def encounter(person: Json, **fields: Any) -> Json:
    return {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{person['id']}"},
        **fields,
    }


def appointment(person: Json, **fields: Any) -> Json:
    actor = {"reference": f"Patient/{person['id']}"}
    return {"resourceType": "Appointment", "status": "proposed", "participant": [{"actor": actor, "status": "accepted"}], **fields}


def order(person: Json, **fields: Any) -> Json:
    return {"resourceType": "ServiceRequest", "status": "draft", "intent": "order", "subject": {"reference": f"Patient/{person['id']}"}, **fields}


def test_a_visit_that_ends_is_charged_once_however_often_it_is_heard_of(store: Store, templates: Callable[..., str]) -> None:
    templates("encounter-finished")
    person = patient(store)
    visit = write(store, encounter(person))
    move(store, visit, "finished")
    heard = hear(store)
    (charge,) = charges(store, person)
    assert charge["context"] == {"reference": f"Encounter/{visit['id']}"}
    assert charge["supportingInformation"] == [{"reference": f"Encounter/{visit['id']}"}]
    assert charge["status"] == "billable"
    with store.database.connection() as connection:
        for _ in range(3):
            Charging(store, "EUR").hear(connection, heard)
    store.transact([Patch("Encounter", lambda old: {**old, "length": {"value": 5, "unit": "min"}}, visit["id"])], SYSTEM)
    hear(store)
    assert charges(store, person) == [charge]


@pytest.mark.parametrize(
    ("event", "make", "steps"),
    [
        ("appointment-booked", appointment, ["pending", "booked"]),
        ("no-show", appointment, ["booked", "noshow"]),
        ("appointment-fulfilled", appointment, ["booked", "checked-in", "fulfilled"]),
        ("order-active", order, ["active"]),
        ("order-completed", order, ["active", "completed"]),
    ],
)
def test_each_event_is_charged_for(store: Store, templates: Callable[..., str], event: str, make: Callable[..., Json], steps: list[str]) -> None:
    templates(event)
    person = patient(store)
    source = write(store, make(person))
    for status in steps[:-1]:
        move(store, source, status)
    hear(store)
    assert charges(store, person) == []
    move(store, source, steps[-1])
    hear(store)
    assert len(charges(store, person)) == 1
    assert event in EVENTS


def test_a_template_is_for_what_it_applies_to_and_an_order_for_its_code(store: Store, templates: Callable[..., str]) -> None:
    templates("encounter-finished", "dental")
    templates("order-active", code={"coding": [{"system": "urn:s", "code": "hba1c"}]})
    person = patient(store)
    coded = {code: {"coding": [{"system": "urn:s", "code": code}]} for code in ("dental", "eyes", "hba1c", "crp")}
    write(store, encounter(person, status="finished", serviceType=coded["eyes"]))
    write(store, order(person, status="active", code=coded["crp"]))
    hear(store)
    assert charges(store, person) == []
    write(store, encounter(person, status="finished", serviceType=coded["dental"]))
    write(store, order(person, status="active", code=coded["hba1c"]))
    hear(store)
    assert len(charges(store, person)) == 2


def test_of_the_versions_of_a_template_the_newest_counts_and_only_once(store: Store, templates: Callable[..., str]) -> None:
    url = f"urn:{unique('versions')}"
    templates("encounter-finished", url=url)
    person = patient(store)
    visit = write(store, encounter(person, status="finished"))
    hear(store)
    templates("encounter-finished", url=url, version="2")
    move(store, visit, "in-progress")
    move(store, visit, "finished")
    hear(store)
    assert [charge["definitionCanonical"] for charge in charges(store, person)] == [[f"{url}|1"]]
    write(store, encounter(person, status="finished"))
    hear(store)
    assert sorted(charge["definitionCanonical"][0] for charge in charges(store, person)) == [f"{url}|1", f"{url}|2"]


def test_what_was_loaded_from_long_ago_and_what_is_no_order_is_not_charged_for(store: Store, templates: Callable[..., str]) -> None:
    templates("encounter-finished")
    templates("order-active")
    person = patient(store)
    end = (store.clock() - timedelta(days=40)).isoformat()
    write(store, encounter(person, status="finished", period={"end": end}))
    write(store, order(person, status="active", intent="proposal"))
    write(store, {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}})
    hear(store)
    assert charges(store, person) == []


def test_a_template_with_a_fault_holds_up_nobody(store: Store, templates: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    faulty = templates("encounter-finished", applicability=[{"expression": "%nobody.exists()"}])
    templates("encounter-finished")
    person = patient(store)
    write(store, encounter(person, status="finished"))
    hear(store)
    assert len(charges(store, person)) == 1
    (record,) = [each for each in caplog.records if each.name == "fhir_server.billing"]
    assert record.template == faulty  # type: ignore[attr-defined]  # of the extras


def test_what_could_not_be_charged_for_is_heard_of_again(store: Store, templates: Callable[..., str]) -> None:
    templates("encounter-finished")
    person = patient(store)
    write(store, encounter(person, status="finished"))
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE billing_template RENAME TO away")
        with pytest.raises(psycopg.Error):
            hear(store)
        connection.execute("ALTER TABLE away RENAME TO billing_template")
    hear(store)
    assert len(charges(store, person)) == 1
