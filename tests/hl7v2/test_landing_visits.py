"""What a second message changes in patients, visits, allergies and diagnoses that are there, and what it leaves as it is."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.interactions import Exchange, dispatch
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON

from .conftest import Lab
from .test_landing import fresh

Json = dict[str, Any]


def adt(event: str, number: str, *segments: str, pid: str = "Doe^Jane||19800101|F", at: str = "20260102101500+0100") -> str:
    lines = [
        f"MSH|^~\\&|ADT|LAB1|||{at}||ADT^{event}|{{id}}|P|2.5.1",
        f"EVN|{event}|{at}",
        f"PID|1||{number}^^^HOSP^MR||{pid}",
        *segments,
    ]
    return "\n".join(lines)


def pv1(visit: str, **fields: str) -> str:
    numbers = {2: "I", 19: visit and f"{visit}^^^HOSP"} | {int(name[1:]): value for name, value in fields.items()}
    return "|".join(["PV1", *(numbers.get(place, "") for place in range(1, max(numbers) + 1))])


def visit_of(lab: Lab, visit: str) -> Json:
    return lab.one(f"Encounter?identifier={CANON}/sid/authority/HOSP|{visit}")


def places(lab: Lab, visit: Json) -> dict[str, str]:
    return {each["location"]["display"]: each["status"] for each in visit["location"]}


def put(lab: Lab, resource: Json) -> None:
    body = fhirjson.loads(fhirjson.dumps(resource))
    dispatch(lab.engine, Exchange("update", SYSTEM, "http://localhost/fhir", type=resource["resourceType"], id=resource["id"], body=body))


def test_a_visit_from_its_announcement_to_its_end_and_back(lab: Lab) -> None:
    number, visit = fresh(), fresh()
    lab.ok(adt("A05", number, pv1(visit, f2="P", f3="W1^R1")))
    assert visit_of(lab, visit)["status"] == "planned"
    lab.ok(adt("A01", number, pv1(visit, f3="W1^R1", f7="D1^House^Greg", f9="D2^Wilson^J", f44="202601020800+0100")))
    lab.ok(adt("A02", number, pv1(visit, f3="W2^R7", f44="")))
    found = visit_of(lab, visit)
    assert (found["status"], places(lab, found)) == ("in-progress", {"W1 R1": "completed", "W2 R7": "active"})
    lab.ok(adt("A08", number, pv1(visit, f7="D3^Cuddy^Lisa")))
    found = visit_of(lab, visit)
    assert found["status"] == "in-progress", "what a message does not tell stays"
    assert sorted(each["individual"]["display"] for each in found["participant"]) == ["J Wilson", "Lisa Cuddy"]
    lab.ok(adt("A03", number, pv1(visit, f3="W2^R7", f36="home", f45="202601050900+0100")))
    found = visit_of(lab, visit)
    assert (found["status"], found["period"]) == ("finished", {"start": "2026-01-02T08:00:00+01:00", "end": "2026-01-05T09:00:00+01:00"})
    assert found["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] == "home"
    lab.ok(adt("A08", number, pv1(visit)))
    lab.ok(adt("A01", number, pv1(visit, f44="202601020800+0100")))
    assert visit_of(lab, visit)["status"] == "finished", "what comes late opens no visit that is over"
    lab.ok(adt("A13", number, pv1(visit, f3="W2^R7", f45="202601050900+0100")))
    found = visit_of(lab, visit)
    assert (found["status"], found["period"]) == ("in-progress", {"start": "2026-01-02T08:00:00+01:00"})
    assert "dischargeDisposition" not in found.get("hospitalization", {})
    assert places(lab, found) == {"W1 R1": "completed", "W2 R7": "active"}
    lab.ok(adt("A11", number, pv1(visit)))
    assert visit_of(lab, visit)["status"] == "cancelled"
    assert len(lab.ask(f"Encounter?patient.identifier={CANON}/sid/authority/HOSP|{number}")) == 1


def test_a_number_of_a_visit_that_is_used_again_begins_it_anew(lab: Lab) -> None:
    number, visit = fresh(), fresh()
    lab.ok(adt("A03", number, pv1(visit, f44="20260101", f45="20260103")))
    lab.ok(adt("A04", number, pv1(visit, f44="20260201")))
    found = visit_of(lab, visit)
    assert (found["status"], found["period"]) == ("in-progress", {"start": "2026-02-01"})


def test_a_visit_without_a_number_is_told_by_its_begin(lab: Lab) -> None:
    number = fresh()
    for _ in range(2):
        lab.ok(adt("A04", number, pv1("", f2="O", f44="202601020800+0100")))
    lab.ok(adt("A04", number, pv1("", f2="O", f44="202601030800+0100")))
    lab.ok(adt("A08", number, pv1("", f2="O", f44="202601030800+0100")))
    assert len(lab.ask(f"Encounter?patient.identifier={CANON}/sid/authority/HOSP|{number}")) == 2


def test_a_visit_without_a_number_ends_by_its_begin_and_else_its_sender_is_warned(lab: Lab) -> None:
    number = fresh()
    lab.ok(adt("A01", number, pv1("", f3="W1^R1", f44="202601020800+0100")))
    (told,) = lab.send(adt("A03", number, pv1("", f3="W1^R1")))
    assert "MSA|AA" in told
    assert "PV1^1|101^Required field missing^HL70357|W" in told
    lab.ok(adt("A03", number, pv1("", f3="W1^R1", f44="202601020800+0100", f45="202601030900+0100")))
    found = lab.one(f"Encounter?subject.identifier={number}")
    assert (found["status"], found["period"]["end"]) == ("finished", "2026-01-03T09:00:00+01:00")


def test_a_patient_keeps_what_a_message_leaves_out_and_loses_what_it_empties(lab: Lab) -> None:
    number = fresh()
    lab.ok(adt("A28", number, pid="Doe^Jane||19800101|F|||1 Way^^Town||555 1|||M||K1|||||Vienna"))
    lab.ok(adt("A31", number, pid='Roe^Jane||||||""||555 2||||||||||'))
    found = lab.one(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")
    assert (found["name"][0]["family"], found["birthDate"], found["gender"]) == ("Roe", "1980-01-01", "female")
    assert "address" not in found
    assert [each["value"] for each in found["telecom"]] == ["555 2"]
    assert found["extension"][0]["valueAddress"] == {"text": "Vienna"}


def test_an_emptied_field_takes_away_nothing_beside_it(lab: Lab) -> None:
    number = fresh()
    lab.ok(adt("A28", number, pid="Doe^Jane^^^^^L|Maiden|19800101|F|||||||||||||||Vienna"))
    lab.ok(adt("A31", number, pid='Doe^Jane|""||'))
    found = lab.one(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")
    assert [each["url"].rpartition("-")[2] for each in found["extension"]] == ["birthPlace"]
    assert found["identifier"][0]["value"] == number
    lab.ok(adt("A31", number, pid="Doe^Jane").replace("PID|1||", 'PID|1|""|'))
    assert lab.one(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")["identifier"] == found["identifier"], "no message takes numbers away"


def test_what_somebody_found_out_about_an_allergy_stays(lab: Lab) -> None:
    number = fresh()
    allergy = "AL1|1|DA|PEN^Penicillin^L|SV|Rash"
    lab.ok(adt("A28", number, allergy))
    found = lab.one(f"AllergyIntolerance?patient.identifier={CANON}/sid/authority/HOSP|{number}")
    found["clinicalStatus"]["coding"][0]["code"] = "resolved"
    put(lab, found)
    lab.ok(adt("A31", number, allergy))
    kept = lab.one(f"AllergyIntolerance?_id={found['id']}")
    assert (kept["clinicalStatus"]["coding"][0]["code"], kept["meta"]["versionId"]) == ("resolved", "2")
    lab.ok(adt("A31", number, "IAM|1|DA|PEN^Penicillin^L|SV|RASH^Rash^L|D"))
    assert lab.one(f"AllergyIntolerance?_id={found['id']}")["verificationStatus"]["coding"][0]["code"] == "entered-in-error"


@pytest.mark.parametrize("times", [1, 2])
def test_diagnoses_procedures_kin_and_insurance_are_there_once(lab: Lab, times: int) -> None:
    number, visit = fresh(), fresh()
    segments = (
        "NK1|1|Doe^John|SPO^Spouse^HL70063",
        pv1(visit),
        "DG1|1||J20^Bronchitis^I10||20260101|A",
        "DG1|2||J45^Asthma^I10|||W",
        "PR1|1||44950^Appendectomy^C4||20260101",
        f"IN1|1|GOLD|{number}^^^HOSP|Insurer {number}||||||||||||Doe^John|SPO",
    )
    for _ in range(times):
        lab.ok(adt("A01", number, *segments))
    who = f"patient.identifier={CANON}/sid/authority/HOSP|{number}"
    assert len(visit_of(lab, visit)["diagnosis"]) == 2
    for kind, count in {"Condition": 2, "Procedure": 1, "RelatedPerson": 2, "Coverage": 1}.items():
        found = lab.ask(f"{kind}?{who}")
        assert [each["meta"]["versionId"] for each in found] == ["1"] * count, kind
    assert len(lab.ask(f"Organization?name=Insurer {number}")) == 1


def test_an_authorisation_is_there_once_and_stays_called_off(lab: Lab) -> None:
    number = fresh()
    segments = (f"IN1|1|GOLD|{number}^^^HOSP|Insurer {number}", f"IN2||||||M{number}", f"IN3|1|A{number}")
    who = f"patient.identifier={CANON}/sid/authority/HOSP|{number}"
    lab.ok(adt("A08", number, *segments))
    lab.ok(adt("A08", number, *segments, at="20260203101500+0100"))
    answer = lab.one(f"ClaimResponse?{who}")
    assert (answer["meta"]["versionId"], answer["preAuthRef"]) == ("1", f"A{number}")
    assert [each["value"] for each in lab.one(f"Coverage?{who}")["identifier"]] == [f"M{number}"]
    put(lab, {**answer, "status": "cancelled"})
    lab.ok(adt("A08", number, *segments, f"IN3|2|B{number}"))
    assert sorted((each["preAuthRef"][0], each["status"]) for each in lab.ask(f"ClaimResponse?{who}")) == [("A", "cancelled"), ("B", "active")]


def test_a_practitioner_whose_name_is_spelt_in_two_ways_is_one(lab: Lab) -> None:
    number, visit, doctor = fresh(), fresh(), fresh()
    lab.ok(adt("A01", number, pv1(visit, f7=f"{doctor}^House^Greg", f17=f"{doctor}^House^G")))
    (found,) = lab.ask(f"Practitioner?identifier={doctor}")
    assert {each["individual"]["reference"] for each in visit_of(lab, visit)["participant"]} == {f"Practitioner/{found['id']}"}


def test_vaccinations_and_charges_meet_what_is_there(lab: Lab) -> None:
    number, visit, order = fresh(), fresh(), fresh()
    lab.ok(adt("A01", number, pv1(visit)))
    head = f"MSH|^~\\&|ADT|LAB1|||20260102101500+0100||{{}}|{{id}}|P|2.5.1\nPID|1||{number}^^^HOSP^MR||Doe^Jane"
    vaccination = "\n".join(
        [head.replace("{}", "VXU^V04^VXU_V04"), f"ORC|RE||{order}^HOSP", "RXA|0|1|20260102||140^Influenza^CVX|0.5|mL^mL^UCUM|||||||||||||{}"]
    )
    lab.ok(vaccination.replace("{}", "CP"))
    lab.ok(vaccination.replace("{}", "CP|D"))
    found = lab.one(f"Immunization?patient.identifier={CANON}/sid/authority/HOSP|{number}")
    assert (found["status"], found["meta"]["versionId"]) == ("entered-in-error", "2")
    charge = "\n".join([head.replace("{}", "DFT^P03"), pv1(visit), f"FT1|1|{order}||20260102||CG|71045^X-ray^C4|||1|50&EUR"])
    for _ in range(2):
        lab.ok(charge)
    billed = lab.one(f"ChargeItem?subject.identifier={CANON}/sid/authority/HOSP|{number}")
    assert billed["context"] == {"reference": f"Encounter/{visit_of(lab, visit)['id']}"}
    assert (billed["meta"]["versionId"], visit_of(lab, visit)["status"]) == ("1", "in-progress")


def test_a_discharge_fulfils_the_appointment_of_the_visit(lab: Lab) -> None:
    number, visit = fresh(), fresh()
    lab.ok(adt("A01", number, pv1(visit, f3="W1^R1", f44="202601020800+0100")))
    found = visit_of(lab, visit)
    there = {
        "resourceType": "Appointment",
        "id": f"of-{visit}",
        "status": "checked-in",
        "start": "2026-01-02T08:00:00+01:00",
        "end": "2026-01-02T08:20:00+01:00",
        "participant": [{"actor": found["subject"], "status": "accepted"}],
    }
    put(lab, there)
    put(lab, {**found, "appointment": [{"reference": f"Appointment/of-{visit}"}]})
    lab.ok(adt("A03", number, pv1(visit, f3="W1^R1", f45="202601020900+0100")))
    assert lab.one(f"Appointment?_id=of-{visit}")["status"] == "fulfilled"
