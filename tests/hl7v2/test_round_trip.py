"""What leaves here as HL7 v2 and comes in at another clinic of the same kind means there what it means here."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.hl7v2.outbound.compose import Composer
from tests.hl7v2.conftest import Lab
from tests.hl7v2.outbound.world import APPOINTMENT, NOW, OBSERVATIONS, ORDER, PATIENT, REPORT, peer, read

Json = dict[str, Any]


@pytest.fixture(scope="module")
def there(lab: Lab) -> Lab:
    """The other clinic, when it has been sent everything."""
    composer = Composer(ZoneInfo("Europe/Berlin"))
    for number, (event, resource) in enumerate([("A28", PATIENT), ("O21", ORDER), ("S12", APPOINTMENT), ("R01", REPORT)]):
        lab.ok(composer.compose(peer(), event, resource, None, read, f"OUT{number}", NOW).message.decode())
    return lab


def test_a_patient_is_the_same_person(there: Lab) -> None:
    patient = there.one("Patient?identifier=urn:oid:1.2.36.146.595.217.0.1|12345")
    assert patient["name"] == PATIENT["name"]
    for name in ("birthDate", "gender"):
        assert patient[name] == PATIENT[name]
    assert [(each["system"], each["value"], each["use"]) for each in patient["telecom"]] == [
        (each["system"], each["value"], each["use"]) for each in PATIENT["telecom"]
    ]
    (address,), (sent,) = patient["address"], PATIENT["address"]
    assert address == sent
    assert {(each["system"], each["value"]) for each in patient["identifier"]} == {(each["system"], each["value"]) for each in PATIENT["identifier"]}


def test_an_order_asks_for_the_same(there: Lab) -> None:
    order = there.one("ServiceRequest?identifier=urn:oid:1.2.3|ORD-1")
    for name in ("status", "intent", "priority", "authoredOn"):
        assert order[name] == ORDER[name], name
    assert order["code"]["coding"][0]["code"] == "58410-2"
    assert order["note"][0]["text"] == "Call the ward"
    assert order["requester"]["display"] == "Maja Lindqvist"


def test_an_appointment_is_at_the_same_time_with_the_same_people(there: Lab) -> None:
    (appointment,) = there.ask("Appointment?")
    assert appointment["status"] == "booked"
    assert (appointment["start"], appointment["end"]) == ("2026-03-02T09:00:00+01:00", "2026-03-02T09:20:00+01:00")
    assert appointment["comment"] == APPOINTMENT["comment"]
    assert {each["actor"]["reference"].split("/")[0] for each in appointment["participant"]} == {"Patient", "Practitioner", "Location"}


def test_each_result_says_the_same(there: Lab) -> None:
    report = there.one("DiagnosticReport?identifier=LAB-9")
    assert (report["status"], report["code"]["coding"][0]["code"]) == ("final", "58410-2")
    assert report["presentedForm"][0]["data"] == REPORT["presentedForm"][0]["data"]
    found = {each["id"]: each for each in there.ask("Observation?_count=50")}
    results = [found[each["reference"].split("/")[1]] for each in report["result"]]
    told = [_value(each) for each in results]
    for sent in OBSERVATIONS:
        if any(name.startswith("value") for name in sent) and "valueBoolean" not in sent and "valueInteger" not in sent:
            assert _value(sent) in told, sent["id"]
    first = next(each for each in results if each.get("valueQuantity", {}).get("value") == 13.5)
    assert first["interpretation"][0]["coding"][0]["code"] == "N"
    assert first["referenceRange"][0]["low"]["value"] == 12
    assert first["note"][0]["text"] == "repeated\nby hand"
    assert {"final", "corrected"} == {each["status"] for each in results}


def _value(resource: Json) -> Any:
    """The value without what may differ: texts of units, which a code has said already, and displays."""
    for name, value in resource.items():
        if name.startswith("value"):
            if isinstance(value, dict) and "coding" in value:
                return name, [(each.get("system"), each["code"]) for each in value["coding"]]
            return name, value
    return None
