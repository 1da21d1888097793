"""Who a result is of, what a second message about it changes, and that nothing is there twice."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhir_server.interactions import Exchange, dispatch
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON

from .conftest import Lab

Json = dict[str, Any]


def oru(number: str, order: str, *results: str, report: str = "F", name: str = "Doe^Jane", at: str = "20260102101500+0100") -> str:
    """A message with one report of a patient; results are `code|value|status`."""
    lines = [
        f"MSH|^~\\&|LAB|LAB1|CLINIC|C1|{at}||ORU^R01^ORU_R01|{{id}}|P|2.5.1",
        f"PID|1||{number}^^^HOSP^MR||{name}||19800101|F" if number else "PID|1||||Doe^Jane",
        f"OBR|1|P{order}|F{order}|GLU^Glucose panel^L|||20260102090000+0100|||||||||||||||{at}|||{report}",
    ]
    for place, result in enumerate(results, 1):
        code, value, status = result.split("|")
        lines.append(f"OBX|{place}|NM|{code}^Glucose^LN||{value}|mg/dL^mg/dL^UCUM|70-110|N|||{status}")
    return "\n".join(lines)


def fresh() -> str:
    return uuid.uuid4().hex[:10].upper()


def results(lab: Lab, number: str) -> list[Json]:
    return lab.ask(f"Observation?patient.identifier={CANON}/sid/authority/HOSP|{number}&_sort=code")


def test_a_report_becomes_patient_report_and_results(lab: Lab) -> None:
    number, order = fresh(), fresh()
    lab.ok(oru(number, order, "2345-7|95|F", "2339-0|5.10|F"))
    patient = lab.one(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")
    assert patient["name"][0] == {"family": "Doe", "given": ["Jane"]}
    first, second = results(lab, number)
    assert {each["code"]["coding"][0]["code"] for each in (first, second)} == {"2345-7", "2339-0"}
    assert {each["subject"]["reference"] for each in (first, second)} == {f"Patient/{patient['id']}"}
    quantity = next(each for each in (first, second) if each["code"]["coding"][0]["code"] == "2345-7")["valueQuantity"]
    assert quantity == {"value": 95, "unit": "mg/dL", "code": "mg/dL", "system": "http://unitsofmeasure.org"}
    report = lab.one(f"DiagnosticReport?patient=Patient/{patient['id']}")
    assert report["status"] == "final"
    assert {each["reference"] for each in report["result"]} == {f"Observation/{each['id']}" for each in (first, second)}


def test_where_it_comes_from_is_the_stored_message(lab: Lab) -> None:
    number = fresh()
    lab.ok(oru(number, fresh(), "2345-7|95|F"))
    (result,) = results(lab, number)
    provenance = lab.one(f"Provenance?target=Observation/{result['id']}")
    (source,) = provenance["entity"]
    with lab.engine.store.database.connection() as connection:
        rows = connection.execute("SELECT control_id FROM hl7v2_message WHERE id = %s", (source["what"]["identifier"]["value"],)).fetchall()
    assert len(rows) == 1


def test_the_same_result_again_changes_nothing(lab: Lab) -> None:
    number, order = fresh(), fresh()
    for _ in range(3):
        lab.ok(oru(number, order, "2345-7|95|F"))
    (result,) = results(lab, number)
    assert result["meta"]["versionId"] == "1"
    assert len(lab.ask(f"DiagnosticReport?patient={result['subject']['reference']}")) == 1


def test_a_correction_is_the_next_version_of_the_same_result(lab: Lab) -> None:
    number, order = fresh(), fresh()
    lab.ok(oru(number, order, "2345-7|95|F", "2339-0|1|F"))
    lab.ok(oru(number, order, "2345-7|59|C", report="C"))
    corrected, untouched = sorted(results(lab, number), key=lambda each: each["status"])
    assert (corrected["status"], corrected["valueQuantity"]["value"], corrected["meta"]["versionId"]) == ("corrected", 59, "2")
    assert (untouched["status"], untouched["meta"]["versionId"]) == ("final", "1")
    report = lab.one(f"DiagnosticReport?patient={corrected['subject']['reference']}")
    assert report["status"] == "corrected"
    assert len(report["result"]) == 2, "the report keeps the result that the correction does not name"


def test_a_preliminary_result_that_comes_late_does_not_take_the_place_of_the_final_one(lab: Lab) -> None:
    number, order = fresh(), fresh()
    lab.ok(oru(number, order, "2345-7|95|F"))
    (ack,) = lab.send(oru(number, order, "2345-7|90|P", report="P", at="20260102110000+0100"))
    assert "\rMSA|AA|" in ack
    (result,) = results(lab, number)
    assert (result["status"], result["valueQuantity"]["value"], result["meta"]["versionId"]) == ("final", 95, "1")


@pytest.mark.parametrize("status", ["D", "W"])
def test_a_result_that_is_withdrawn_was_an_error(lab: Lab, status: str) -> None:
    number, order = fresh(), fresh()
    lab.ok(oru(number, order, "2345-7|95|F"))
    lab.ok(oru(number, order, f"2345-7|95|{status}"))
    (result,) = results(lab, number)
    assert (result["status"], result["meta"]["versionId"]) == ("entered-in-error", "2")


def test_an_order_number_that_another_patient_has_too_is_another_order(lab: Lab) -> None:
    one, other, order = fresh(), fresh(), fresh()
    lab.ok(oru(one, order, "2345-7|95|F"))
    lab.ok(oru(other, order, "2345-7|70|F"))
    assert [each["valueQuantity"]["value"] for each in results(lab, one)] == [95]
    assert [each["valueQuantity"]["value"] for each in results(lab, other)] == [70]


def test_a_result_names_nobody_by_name(lab: Lab) -> None:
    (ack,) = lab.send(oru("", fresh(), "2345-7|95|F"))
    assert "\rMSA|AE|" in ack
    assert "PID^1^3" in ack
    one, other = fresh(), fresh()
    lab.ok(oru(one, fresh(), "2345-7|95|F"))
    lab.ok(oru(other, fresh(), "2345-7|95|F"))
    both = oru(one, fresh(), "2345-7|95|F").replace("^^^HOSP^MR", f"^^^HOSP^MR~{other}^^^HOSP^MR")
    (ack,) = lab.send(both)
    assert "\rMSA|AE|" in ack, "identifiers of two patients name neither"
    assert len(results(lab, one)) == 1


def test_an_order_placed_here_meets_its_result(lab: Lab) -> None:
    number, order = fresh(), fresh()
    lab.ok(oru(number, fresh(), "2345-7|95|F"))
    patient = lab.one(f"Patient?identifier={number}")
    placed = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient['id']}"},
        "identifier": [{"system": f"{CANON}/sid/authority/CLINIC", "value": order}],
        "note": [{"text": "before breakfast"}],
    }
    reply = dispatch(lab.engine, Exchange("create", SYSTEM, "http://localhost/fhir", type="ServiceRequest", body=placed))
    lines = oru(number, order, "2345-7|95|F").split("\n")
    lines.insert(2, f"ORC|RE|{order}^CLINIC|F{order}|||CM")
    lab.ok("\n".join(lines))
    request = lab.one(f"ServiceRequest?identifier={order}")
    assert request["id"] == reply.id
    assert request["note"] == [{"text": "before breakfast"}]
    assert len(lab.ask(f"DiagnosticReport?based-on=ServiceRequest/{reply.id}")) == 1


def test_messages_at_once_for_a_new_patient_make_one_patient(lab: Lab) -> None:
    for _ in range(4):
        number = fresh()
        messages = [oru(number, fresh(), f"2345-7|{90 + place}|F") for place in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lab.ok, messages))
        assert len(lab.ask(f"Patient?identifier={number}")) == 1
        assert len(results(lab, number)) == 8
