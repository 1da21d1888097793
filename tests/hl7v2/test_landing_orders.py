"""Orders, appointments and documents in the record: found again by their numbers, changed by what comes later, never taken back by what is older."""

from __future__ import annotations

import base64
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhir_server.hl7v2.intake.stored import Change
from fhir_server.interactions import Exchange, dispatch
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store.trail import Event

from .conftest import Lab

Json = dict[str, Any]
ADMINISTRATOR = Event("message", "an administrator")


def fresh() -> str:
    return uuid.uuid4().hex[:10].upper()


def sent(lab: Lab, event: str, number: str, *segments: str, first: tuple[str, ...] = ()) -> str:
    """The acknowledgement of a message about a patient; `first` are segments before the patient."""
    header = f"MSH|^~\\&|APP|LAB1|CLINIC|C1|20260102101500+0100||{event}|{{id}}|P|2.5.1"
    patient = f"PID|1||{number}^^^HOSP^MR||Doe^Jane||19800101|F"
    (ack,) = lab.send("\n".join([header, *first, patient, *segments]))
    return ack.split("\rMSA|")[1][:2]


def order_of(lab: Lab, placer: str) -> Json:
    return lab.one(f"ServiceRequest?identifier={CANON}/sid/authority/OE|{placer}")


def result(placer: str, status: str = "F") -> tuple[str, str]:
    return (
        f"OBR|1|{placer}^OE|F{placer}^LAB|GLU^Glucose^L{'|' * 18}20260102101500+0100|||{status}",
        f"OBX|1|NM|2345-7^Glucose^LN||95|mg/dL|||||{status}",
    )


def test_an_order_that_went_out_under_its_own_id_meets_its_result(lab: Lab) -> None:
    number = fresh()
    assert sent(lab, "ORU^R01", number, *result(fresh())) == "AA"
    patient = lab.one(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")
    order = {"resourceType": "ServiceRequest", "status": "active", "intent": "order", "code": {"text": "Glucose, please"}}
    orders = []
    for subject in (patient["id"], "somebody-else"):
        body = order | {"subject": {"reference": f"Patient/{subject}"}}
        reply = dispatch(lab.engine, Exchange("create", SYSTEM, "http://localhost/fhir", type="ServiceRequest", body=body))
        orders.append(str(reply.id))
    assert [sent(lab, "ORU^R01", number, *result(each)) for each in orders] == ["AA", "AA"]
    report = lab.one(f"DiagnosticReport?based-on=ServiceRequest/{orders[0]}")
    assert report["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert lab.one(f"ServiceRequest?_id={orders[0]}")["code"]["text"] == "Glucose, please"
    # A number that happens to be the id of somebody else's order is a number like any other.
    assert "identifier" not in lab.one(f"ServiceRequest?_id={orders[1]}")


def test_an_order_made_here_meets_its_result_and_is_done(lab: Lab) -> None:
    number, placer = fresh(), fresh()
    assert sent(lab, "ORU^R01", number, *result(fresh())) == "AA"
    patient = lab.one(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")
    order = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "identifier": [{"type": {"coding": [{"code": "PLAC"}]}, "system": f"{CANON}/sid/authority/OE", "value": placer}],
        "code": {"text": "What the doctor asked for"},
        "subject": {"reference": f"Patient/{patient['id']}"},
    }
    dispatch(lab.engine, Exchange("create", SYSTEM, "http://localhost/fhir", type="ServiceRequest", body=order))
    assert sent(lab, "ORU^R01", number, *result(placer)) == "AA"
    found = order_of(lab, placer)
    assert (found["status"], found["code"]) == ("completed", {"text": "What the doctor asked for"})
    assert [each["value"] for each in found["identifier"]] == [placer, f"F{placer}"]
    assert len(lab.ask(f"DiagnosticReport?based-on=ServiceRequest/{found['id']}")) == 1


def test_an_order_is_placed_changed_and_cancelled_by_its_number(lab: Lab) -> None:
    number, placer = fresh(), fresh()
    assert sent(lab, "ORM^O01", number, f"ORC|NW|{placer}^OE", "OBR|1|||GLU^Glucose^L") == "AA"
    assert sent(lab, "ORM^O01", number, f"ORC|XO|{placer}^OE", "OBR|1|||GLU^Glucose^L|S") == "AA"
    changed = order_of(lab, placer)
    assert (changed["status"], changed["priority"], changed["meta"]["versionId"]) == ("active", "stat", "2")
    assert sent(lab, "OML^O21^OML_O21", number, f"ORC|CA|{placer}^OE", "OBR|1|||GLU^Glucose^L") == "AA"
    assert order_of(lab, placer)["status"] == "revoked"
    assert sent(lab, "ORM^O01", number, f"ORC|NW|{placer}^OE", "OBR|1|||GLU^Glucose^L") == "AA"
    assert order_of(lab, placer)["status"] == "revoked", "what is done does not begin again"


def test_an_order_that_comes_again_changes_nothing(lab: Lab) -> None:
    number, placer = fresh(), fresh()
    for _ in range(2):
        assert (
            sent(
                lab, "ORM^O01", number, f"ORC|NW|{placer}^OE", "OBR|1|||GLU^Glucose^L", "DG1|1||E11^Diabetes^I10", "OBX|1|ST|A^Fasting^L||yes||||||O"
            )
            == "AA"
        )
    order = order_of(lab, placer)
    assert order["meta"]["versionId"] == "1"
    assert len(lab.ask(f"Condition?subject={order['subject']['reference']}")) == 1
    assert len(lab.ask(f"Observation?subject={order['subject']['reference']}")) == 1


def test_an_order_of_a_drug_is_refused_and_nothing_is_stored(lab: Lab) -> None:
    number = fresh()
    assert sent(lab, "ORM^O01", number, f"ORC|NW|{fresh()}^OE", "RXO|D1^Aspirin^L") == "AE"
    assert not lab.ask(f"Patient?identifier={CANON}/sid/authority/HOSP|{number}")


def test_results_of_one_order_that_come_at_once_are_all_taken_or_to_be_sent_again(lab: Lab) -> None:
    number, placer = fresh(), fresh()
    assert sent(lab, "ORM^O01", number, f"ORC|NW|{placer}^OE", "OBR|1|||GLU^Glucose^L") == "AA"

    def send(part: int) -> str:
        report = f"OBR|1|{placer}^OE|{part}{placer}^LAB|GLU^Glucose^L{'|' * 18}20260102101500+0100|||F"
        return sent(lab, "ORU^R01", number, report, f"OBX|1|NM|{part}^Glucose^LN||95|mg/dL|||||F")

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(send, range(24)))
    states = [row["state"] for row in lab.stored("convert_from(raw, 'UTF8') LIKE %s AND code <> 'AA'", f"%{placer}^LAB%")]
    assert states == ["failed"] * (24 - codes.count("AA")), "whoever was not fast enough sends again; nothing is wrong with the message"
    assert codes.count("AA") >= 12
    assert len(lab.ask(f"Observation?patient.identifier={number}&_count=50")) == codes.count("AA")


def test_a_preliminary_result_leaves_its_order_open(lab: Lab) -> None:
    number, placer = fresh(), fresh()
    assert sent(lab, "ORU^R01", number, *result(placer, "P")) == "AA"
    assert order_of(lab, placer)["status"] == "active"
    assert sent(lab, "ORU^R01", number, *result(placer, "F")) == "AA"
    assert order_of(lab, placer)["status"] == "completed"


def appointment(lab: Lab, filler: str) -> Json:
    return lab.one(f"Appointment?identifier={CANON}/sid/facility/LAB1|{filler}")


def booking(lab: Lab, event: str, number: str, filler: str, start: str = "202701050900", *, who: str = "") -> str:
    sch = f"SCH||{filler}|||||CHECKUP^^HL70276||30|min|^^^{start}"
    resources = ("RGS|1", f"AIP|1|A|{who}^Doe^Jo|D^Doctor^L", f"AIL|1|A|W^{who}^^GH") if who else ()
    return sent(lab, f"SIU^{event}^SIU_S12", number, *resources, first=(sch,))


def test_an_appointment_is_booked_moved_and_cancelled_by_its_number(lab: Lab) -> None:
    number, filler, doctor = fresh(), fresh(), fresh()
    assert booking(lab, "S12", number, filler, who=doctor) == "AA"
    booked = appointment(lab, filler)
    assert (booked["status"], booked["start"], booked["end"]) == ("booked", "2027-01-05T09:00:00+01:00", "2027-01-05T09:30:00+01:00")
    assert len(booked["participant"]) == 3
    assert lab.one(f"Practitioner?identifier={doctor}")["id"] in repr(booked["participant"])
    assert booking(lab, "S13", number, filler, "202701050930", who=doctor) == "AA"
    assert appointment(lab, filler)["start"] == "2027-01-05T09:30:00+01:00"
    assert booking(lab, "S15", number, filler) == "AA"
    cancelled = appointment(lab, filler)
    assert (cancelled["status"], len(cancelled["participant"])) == ("cancelled", 3), "who was to come is still to be seen"
    assert cancelled["meta"]["versionId"] == "3"


def test_a_time_that_is_taken_waits_in_the_inbox_until_it_is_free(lab: Lab) -> None:
    number, other, first, second, doctor = fresh(), fresh(), fresh(), fresh(), fresh()
    assert booking(lab, "S12", number, first, who=doctor) == "AA"
    assert booking(lab, "S12", other, second, "202701050915", who=doctor) == "AE"
    (row,) = lab.stored("convert_from(raw, 'UTF8') LIKE %s", f"%|{second}|%")
    assert (row["state"], row["code"]) == ("invalid", "AE")
    assert b"205^Duplicate key identifier" in bytes(row["ack"])
    assert b"Doe" not in bytes(row["ack"])
    assert lab.ask(f"Appointment?identifier={second}") == []
    assert lab.ask(f"Patient?identifier={CANON}/sid/authority/HOSP|{other}") == [], "nothing of the message is stored"
    assert lab.intake.replay(row["id"], ADMINISTRATOR).code == "AE", "it is taken still"
    assert booking(lab, "S15", number, first) == "AA"
    assert lab.intake.replay(row["id"], ADMINISTRATOR).code == "AA"
    assert appointment(lab, second)["status"] == "booked"


def test_a_time_that_is_taken_is_corrected_to_one_that_is_free(lab: Lab) -> None:
    number, other, first, second, doctor = fresh(), fresh(), fresh(), fresh(), fresh()
    assert booking(lab, "S12", number, first, who=doctor) == "AA"
    assert booking(lab, "S12", other, second, who=doctor) == "AE"
    (row,) = lab.stored("convert_from(raw, 'UTF8') LIKE %s", f"%|{second}|%")
    corrected = bytes(row["raw"]).replace(b"202701050900", b"202701050930")
    assert lab.intake.replay(row["id"], ADMINISTRATOR, Change(corrected)).code == "AA"
    assert appointment(lab, second)["start"] == "2027-01-05T09:30:00+01:00"


def test_who_did_not_come_is_said(lab: Lab) -> None:
    number, filler = fresh(), fresh()
    assert booking(lab, "S12", number, filler) == "AA"
    assert booking(lab, "S26", number, filler) == "AA"
    assert appointment(lab, filler)["status"] == "noshow"


@pytest.mark.parametrize(("start", "said"), [("202701050900", b"refused: Appointment.status"), ("", b"|app-3 does not hold")])
def test_what_cannot_be_booked_is_refused_by_the_rule_that_it_breaks(lab: Lab, start: str, said: bytes) -> None:
    number, filler = fresh(), fresh()
    if start:
        assert [booking(lab, event, number, filler) for event in ("S12", "S15")] == ["AA", "AA"], "what is cancelled stays so"
    assert booking(lab, "S12", number, filler, start) == "AE"
    (*_, row) = lab.stored("convert_from(raw, 'UTF8') LIKE %s", f"%|{filler}|%")
    assert said in bytes(row["ack"])


def test_a_document_is_replaced_and_the_one_before_is_superseded(lab: Lab) -> None:
    number, first, second = fresh(), fresh(), fresh()
    for event, own, parent, said in (("T02", first, "", "one"), ("T10", second, f"{first}^DOCS", "two")):
        txa = f"TXA|1|DS|TX|20260102||||||||{own}^DOCS|{parent}||||AU||AV"
        assert sent(lab, f"MDM^{event}^MDM_T02", number, "PV1|1|O", txa, f"OBX|1|TX|1^Letter^L||{said}||||||F", first=("EVN||20260102",)) == "AA"
    old = lab.one(f"DocumentReference?identifier={CANON}/sid/authority/DOCS|{first}")
    new = lab.one(f"DocumentReference?identifier={CANON}/sid/authority/DOCS|{second}")
    assert (old["status"], new["status"]) == ("superseded", "current")
    assert new["relatesTo"] == [{"code": "replaces", "target": {"reference": f"DocumentReference/{old['id']}"}}]
    assert base64.b64decode(old["content"][0]["attachment"]["data"]) == b"one"


def test_what_is_only_mentioned_is_named_by_its_number_until_it_is_there(lab: Lab) -> None:
    number, placer, visit = fresh(), fresh(), fresh()
    assert sent(lab, "ORU^R01", number, f"PV1|1|O{'|' * 17}{visit}^^^ADT", *result(placer)) == "AA"
    report = lab.one(f"DiagnosticReport?based-on.identifier={placer}")
    assert report["encounter"]["identifier"]["value"] == visit
    assert "reference" not in report["encounter"]
    assert not lab.ask(f"Encounter?identifier={visit}")


def test_every_message_of_a_bundle_of_kinds_tells_where_it_comes_from(lab: Lab) -> None:
    number, placer = fresh(), fresh()
    assert sent(lab, "OML^O21^OML_O21", number, f"ORC|NW|{placer}^OE", "OBR|1|||GLU^Glucose^L") == "AA"
    (provenance,) = lab.ask(f"Provenance?target=ServiceRequest/{order_of(lab, placer)['id']}")
    assert json.dumps(provenance["activity"]["coding"][0]["code"]) == '"O21"'
