"""Messages of HL7 v2 that wait: found, looked at, corrected, linked and replayed, over HTTP and with the real maps."""

from __future__ import annotations

import itertools
import json
import uuid
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhir_server.hl7v2.intake.intake import Intake
from fhir_server.hl7v2.intake.stored import prune
from fhir_server.hl7v2.landing.landing import landing
from fhir_server.hl7v2.landing.processing import Steps, Work
from fhir_server.hl7v2.service import open_converter
from fhir_server.hl7v2.text.message import Message
from fhir_server.interactions import Exchange, dispatch
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store.trail import Event
from tests.web.conftest import Clinic, Json

from .conftest import Desk, problem, token_of

HOSP = f"{CANON}/sid/authority/HOSP"


def fresh() -> str:
    return uuid.uuid4().hex[:12].upper()


def oru(control: str, patient: str, *results: str, header: str = "", report: str = "F", sender: str = "LAB1") -> str:
    """A report of a patient, whose identifiers are as PID-3 has them; results are OBX from its second field on."""
    lines = [
        f"MSH|^~\\&|{sender}|LAB|CLINIC|C1|20260102101500||ORU^R01^ORU_R01|{control}|P|2.5.1{header}",
        f"PID|1||{patient}||Doe^Jane||19800101|F",
        f"OBR|1||F{control}|GLU^Glucose^L|||20260102090000+0100|||||||||||||||20260102101500+0100|||{report}",
        *(f"OBX|{place}|{each}" for place, each in enumerate(results or ("NM|2345-7^Glucose^LN||95|mg/dL^mg/dL^UCUM|70-110|N|||F",), 1)),
    ]
    return "\r".join([*lines, ""])


class Post:
    """A lab that sends to a clinic, and the clinic's administrator."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.desk = Desk(clinic, token_of(clinic.clock()))

    def send(self, message: str | bytes) -> str:
        """MSA-1 and what follows of the acknowledgement."""
        data = message if isinstance(message, bytes) else message.encode()
        answer = self.clinic("POST", "/hl7v2", token=self.desk.token, data=data, content_type="application/hl7-v2")
        assert answer.status_code == 200, answer.text
        return answer.text.partition("MSA|")[2]

    def sent(self, message: str | bytes, code: str) -> Json:
        """Sends a message that is answered by a code; as it is in the list."""
        assert self.send(message)[:2] == code
        text = message if isinstance(message, str) else message.decode("latin-1")
        control = text.partition("\r")[0].split("|")[9]
        (found,) = self.listed(control_id=control)
        return found

    def listed(self, **conditions: str) -> list[Json]:
        query = "&".join(f"{name}={value}" for name, value in conditions.items())
        found: list[Json] = self.desk.ok("GET", f"/hl7v2/messages?{query}")["items"]
        return found

    def shown(self, message: Json) -> Json:
        found: Json = self.desk.ok("GET", f"/hl7v2/messages/{message['id']}")
        return found

    def replay(self, message: Json, /, **given: str) -> Json:
        found: Json = self.desk.ok("POST", f"/hl7v2/messages/{message['id']}/replay", given)
        return found

    def patient(self, *identifiers: str, **more: Any) -> str:
        body = {
            "resourceType": "Patient",
            "identifier": [{"system": HOSP, "value": each} for each in identifiers],
            "name": [{"family": "Doe", "given": ["Jane"]}],
            **more,
        }
        return str(dispatch(self.clinic.engine, Exchange("create", SYSTEM, "http://localhost/fhir", type="Patient", body=body)).id)

    def ask(self, path: str) -> list[Json]:
        name, _, query = path.partition("?")
        parts = tuple(tuple(part.split("=", 1)) for part in query.split("&") if part)
        reply = dispatch(self.clinic.engine, Exchange("search", SYSTEM, "http://localhost/fhir", type=name, params=parts))  # type: ignore[arg-type]
        return [entry["resource"] for entry in json.loads(reply.body or b"{}").get("entry", ())]

    def events(self, message: Json, kind: str) -> list[Json]:
        self.clinic.store.flush_notes()
        found: list[Json] = self.desk.ok("GET", f"/audit?resource={message['id']}&kind={kind}")["items"]
        return found


@pytest.fixture
def post(clinic: Clinic) -> Post:
    return Post(clinic)


def test_a_message_of_nobody_is_linked_to_a_patient_and_the_next_one_matches(post: Post) -> None:
    known, number = fresh(), fresh()
    patient = post.patient(known)
    control = fresh()
    waiting = post.sent(oru(control, ""), "AE")
    assert (waiting["state"], waiting["patient"]) == ("unmatched", None)
    assert waiting["fault"] == "PID 1, field 3: The patient has no identifier, and is never told by the name"
    assert waiting["id"] in {each["id"] for each in post.listed(state="waiting")}
    done = post.replay(waiting, patient=patient, message=oru(control, f"{number}^^^HOSP^MR"))
    assert (done["state"], done["code"], done["patient"], done["linked"]) == ("processed", "AA", patient, patient)
    (record,) = post.ask(f"Patient?_id={patient}")
    assert {each["value"] for each in record["identifier"]} == {known, number}
    assert f"Patient/{patient}/_history/2" in done["written"]
    assert {each["subject"]["reference"] for each in post.ask(f"Observation?patient={patient}")} == {f"Patient/{patient}"}
    assert post.listed(state="waiting", control_id=control) == []
    following = post.sent(oru(fresh(), f"{number}^^^HOSP^MR"), "AA")
    assert following["patient"] == patient
    assert len(post.ask(f"DiagnosticReport?patient={patient}")) == 2


def test_what_of_a_message_is_in_no_resource_is_named_whatever_became_of_it(post: Post) -> None:
    segments = oru(fresh(), f"{fresh()}^^^HOSP^MR").split("\r")
    segments[1] += "||2106-3^White"
    done = post.sent("\r".join([*segments[:-1], "ZLB|1|x", ""]), "AA")
    assert (post.shown(done)["unread"], post.shown(done)["unhandled"]) == (["PID-10"], ["ZLB"])
    waiting = post.sent(oru(fresh(), ""), "AE")
    assert post.shown(waiting)["unread"] == []


def test_what_a_message_only_mentions_is_no_fault_of_it(post: Post) -> None:
    waiting = post.sent(oru(fresh(), "").replace("OBR|", "PV1|1|O" + "|" * 17 + "V1^^^HOSP\rOBR|", 1), "AE")
    mapped = post.shown(waiting)["mapped"]
    assert "Encounter" in {each["resource"]["resourceType"] for each in mapped["resources"]}
    assert [fault["text"] for fault in mapped["faults"] if "Encounter" in fault["text"]] == []


def test_a_link_holds_when_the_message_is_replayed_again_and_changes_nothing(post: Post) -> None:
    patient = post.patient(fresh())
    waiting = post.sent(oru(fresh(), ""), "AE")
    first = post.replay(waiting, patient=patient)
    again = post.replay(waiting)
    assert (again["state"], again["linked"], again["attempts"]) == ("processed", patient, 3)
    assert sorted(again["written"]) == sorted(first["written"])
    assert [each["meta"]["versionId"] for each in post.ask(f"Observation?patient={patient}")] == ["1"]


def test_of_two_patients_one_is_chosen_and_the_other_keeps_its_own_identifier(post: Post) -> None:
    one, other = fresh(), fresh()
    chosen, left = post.patient(one), post.patient(other)
    waiting = post.sent(oru(fresh(), f"{one}^^^HOSP^MR~{other}^^^HOSP^MR"), "AE")
    assert set(post.shown(waiting)["mapped"]["candidates"]) == {chosen, left}
    (event,) = post.events(waiting, "read")
    assert set(event["patients"]) == {chosen, left}
    assert post.replay(waiting, patient=chosen)["state"] == "processed"
    (record,) = post.ask(f"Patient?_id={chosen}")
    assert [each["value"] for each in record["identifier"]] == [one]
    assert post.ask(f"Observation?patient={left}") == []


def test_a_patient_who_is_none_cannot_be_chosen(post: Post) -> None:
    waiting = post.sent(oru(fresh(), ""), "AE")
    path = f"/hl7v2/messages/{waiting['id']}/replay"
    survivor, gone = post.patient(fresh()), post.patient(fresh())
    merged = post.patient(fresh(), link=[{"other": {"reference": f"Patient/{survivor}"}, "type": "replaced-by"}], active=False)
    dispatch(post.clinic.engine, Exchange("delete", SYSTEM, "http://localhost/fhir", type="Patient", id=gone))
    for patient in ("nobody", gone, merged):
        told = problem(post.desk("POST", path, {"patient": patient}), 422)
        assert "patient" in told["detail"]
    assert post.listed(control_id=waiting["control_id"])[0]["attempts"] == 1


def test_a_message_that_names_its_patient_is_not_given_to_another(post: Post) -> None:
    number = fresh()
    owner, other = post.patient(number), post.patient(fresh())
    # It waits for a reason of its own.
    waiting = post.sent(oru(fresh(), f"{number}^^^HOSP^MR", "NM|||95|mg/dL|||||F"), "AE")
    done = post.replay(waiting, patient=other, message=oru(waiting["control_id"], f"{number}^^^HOSP^MR"))
    assert (done["state"], done["linked"]) == ("unmatched", None)
    assert "another patient" in done["fault"]
    assert post.replay(waiting)["patient"] == owner


def test_a_message_without_a_code_is_refused_with_its_place_corrected_and_replayed(post: Post) -> None:
    control, number = fresh(), fresh()
    wrong = oru(control, f"{number}^^^HOSP^MR", "NM|2345-7^Glucose^LN||95||||||F", "NM|||7||||||F")
    assert post.send(wrong).startswith(f"AE|{control}\rERR||OBX^2^3|101^Required field missing^HL70357|E")
    (waiting,) = post.listed(control_id=control)
    assert (waiting["state"], waiting["fault"]) == ("invalid", "OBX 2, field 3: OBX-3 is missing")
    assert post.ask(f"Patient?identifier={HOSP}|{number}") == [], "all of a message or nothing"
    whole = post.shown(waiting)
    assert whole["raw"]["text"] == wrong
    assert [each["name"] for each in whole["raw"]["segments"]] == ["MSH", "PID", "OBR", "OBX", "OBX"]
    assert "Observation" in {each["resource"]["resourceType"] for each in whole["mapped"]["resources"]}
    assert {fault["place"] for fault in whole["mapped"]["faults"] if fault["severity"] == "E"} >= {"OBX 2, field 3"}
    right = wrong.replace("NM|||7", "NM|2339-0^Glucose^LN||7")
    path = f"/hl7v2/messages/{waiting['id']}"
    stored_ = post.desk("PATCH", path, {"message": right.replace("\r", "\n")})
    assert stored_.status_code == 200
    assert json.loads(stored_.data)["state"] == "invalid", "nothing is processed"
    assert stored_.headers["ETag"] == post.desk("GET", path).headers["ETag"]
    assert post.shown(waiting)["correction"]["text"] == right
    done = post.replay(waiting)
    assert (done["state"], len(post.ask(f"Observation?patient.identifier={HOSP}|{number}"))) == ("processed", 2)
    after = post.shown(waiting)
    assert (after["raw"]["text"], after["correction"]["text"], after["mapped"]) == (wrong, right, None)
    assert "MSA|AA|" in after["ack"]
    assert post.send(wrong).startswith("AA"), "who sends it once more is told what came of it"
    (repeated, replayed, first) = post.events(waiting, "message")
    assert [each["detail"] for each in (repeated, replayed, first)] == ["came again", "ORU^R01 processed again", "ORU^R01 invalid"]
    assert (replayed["roles"], replayed["patients"]) == (["admin"], [done["patient"]])
    (update,) = post.events(waiting, "update")
    assert update["detail"] == "corrected"


def test_what_real_senders_break_is_a_notice_and_neither_a_warning_nor_told_to_them(post: Post) -> None:
    number = fresh()
    odd = oru(fresh(), f"{number}^^^HOSP^MR").replace("PID|1|", "PID|one|")
    assert "ERR" not in post.send(odd)
    (found,) = post.listed(control_id=odd.split("|")[9])
    assert found["state"] == "processed"
    (fault,) = [each for each in post.shown(found)["faults"] if each["place"] == "PID 1, field 1"]
    assert fault["severity"] == "I"


def test_a_correction_is_the_same_message_and_can_be_read(post: Post) -> None:
    control = fresh()
    waiting = post.sent(oru(control, ""), "AE")
    path = f"/hl7v2/messages/{waiting['id']}"
    number = f"{fresh()}^^^HOSP^MR"
    bad = [
        "nothing of the kind",
        oru(fresh(), number),
        oru(control, number) + oru(control, number),
        oru(control, number, header="||||||8859/1").replace("Jane", "Żaneta"),
        oru(control, number, header="||||||NO SUCH SET"),
    ]
    for text in bad:
        assert problem(post.desk("PATCH", path, {"message": text}), 422)["detail"]
        problem(post.desk("POST", f"{path}/replay", {"message": text}), 422)
    assert post.desk.ok("PATCH", path, {"message": oru(control, number)})["corrected"] is True
    assert post.desk.ok("PATCH", path, {"message": None})["corrected"] is False
    assert post.replay(waiting)["state"] == "unmatched", "what was taken back is not taken"


@pytest.mark.parametrize(("charset", "name"), [("8859/1", "Zoë"), ("UNICODE UTF-8", "Żaneta"), ("8859/2", "Łucja"), ("", "Zoë"), ("ASCII", "Żaneta")])
def test_a_correction_is_kept_in_the_character_set_that_it_names(post: Post, charset: str, name: str) -> None:
    control, number = fresh(), fresh()
    waiting = post.sent(oru(control, "", header=f"||||||{charset}"), "AE")
    done = post.replay(waiting, message=oru(control, f"{number}^^^HOSP^MR", header=f"||||||{charset}").replace("Jane", name))
    assert done["state"] == "processed"
    (patient,) = post.ask(f"Patient?identifier={HOSP}|{number}")
    assert patient["name"][0]["given"] == [name]


def test_bytes_that_are_no_text_are_shown_as_they_came(post: Post) -> None:
    control = fresh()
    raw = oru(control, "", header="||||||UNICODE UTF-8").replace("Jane", "Zoë").encode("latin-1")
    assert post.send(raw).startswith("AR")
    (found,) = [each for each in post.listed(state="unreadable") if b64decode(post.shown(each)["raw"]["base64"] or "") == raw]
    text = post.shown(found)["raw"]
    assert ("Zoë" in text["text"], text["segments"]) == (True, [])
    assert "utf-8" in text["unreadable"].lower()
    assert post.replay(found, message=oru(control, f"{fresh()}^^^HOSP^MR"))["state"] == "processed"


def test_what_belongs_to_no_message_is_shown_too(post: Post) -> None:
    control = fresh()
    raw = f"junk\r{oru(control, '')}"
    assert post.send(raw).startswith("AE")
    (found,) = post.listed(control_id=control)
    text = post.shown(found)["raw"]
    assert (b64decode(text["base64"]).decode(), text["text"]) == (raw, oru(control, ""))


def test_lists_are_narrowed_and_paged(post: Post) -> None:
    sender = fresh()
    codes = [fresh() for _ in range(5)]
    numbers = [fresh() for _ in range(5)]
    for code, number in zip(codes, numbers, strict=True):
        assert post.send(oru(code, f"{number}^^^HOSP^MR", sender=sender))[:2] == "AA"
    assert post.send(oru(codes[0], f"{numbers[1]}^^^HOSP^MR", sender=sender))[:2] == "AA"
    page = post.desk.ok("GET", f"/hl7v2/messages?application={sender}&limit=4")
    rest = post.desk.ok("GET", page["next"])
    controls = [each["control_id"] for each in [*page["items"], *rest["items"]]]
    assert (controls, rest["next"]) == ([codes[0], *reversed(codes)], None)
    assert [each["control_id"] for each in post.listed(application=sender, reused="true")] == [codes[0]]
    narrow = post.desk.ok("GET", f"/hl7v2/messages?application={sender}&reused=false&limit=2")
    assert len(post.desk.ok("GET", narrow["next"])["items"]) == 2
    (patient,) = post.ask(f"Patient?identifier={HOSP}|{numbers[3]}")
    assert [each["control_id"] for each in post.listed(patient=patient["id"])] == [codes[3]]
    assert len(post.listed(application=sender, before=page["items"][0]["received"])) == 5
    assert len(post.listed(application=sender, since=page["items"][3]["received"])) == 4
    assert len(post.listed(application=sender, type="ORU", event="R01", state="processed", facility="LAB")) == 6
    assert post.listed(application=sender, state="waiting") == []
    problem(post.desk("GET", "/hl7v2/messages?state=odd"), 400)
    problem(post.desk("GET", "/hl7v2/messages?odd=1"), 400)


def test_who_looks_at_a_message_is_in_the_audit_trail_with_the_patient(post: Post) -> None:
    patient = post.patient(number := fresh())
    found = post.sent(oru(fresh(), f"{number}^^^HOSP^MR"), "AA")
    post.shown(found)
    post.listed(patient=patient)
    (event,) = post.events(found, "read")
    assert (event["type"], event["patients"], event["roles"]) == ("hl7v2-message", [patient], ["admin"])
    post.clinic.store.flush_notes()
    searches = post.desk.ok("GET", f"/audit?patient={patient}&kind=search&type=hl7v2-message")["items"]
    assert len(searches) == 1


@pytest.fixture
def tables(tmp_path: Path, make_clinic: Callable[..., Clinic]) -> Callable[[str], Post]:
    """Makes clinics over one database whose table of a result's status has these rows of the site, and no status for codes that are in no table."""
    number = itertools.count()

    def make(rows: str) -> Post:
        folder = tmp_path / str(next(number)) / "table"
        folder.mkdir(parents=True)
        (folder / "0085.csv").write_text(f"row,code,to,system,display\n{rows}")
        strict = folder.with_name("segment")
        strict.mkdir()
        row = "OBX[Observation]:42,OBX-11,OBX-11 valued,status,code,0085,"
        (strict / "OBX-Observation.csv").write_text(f"row,from,if,to,map,table,value\n{row}\n")
        return Post(make_clinic(hl7v2_mappings=folder.parent))

    return make


def test_messages_that_wait_for_a_code_are_replayed_when_the_table_has_it(tables: Callable[[str], Post]) -> None:
    sender = fresh()
    before = tables("")
    numbers = [fresh() for _ in range(5)]
    waiting = [before.sent(oru(fresh(), f"{each}^^^HOSP^MR", "NM|2345-7^Glucose^LN||95||||||Q", sender=sender), "AE") for each in numbers]
    assert {each["state"] for each in waiting} == {"unmapped"}
    assert any(each["code"] == "103" for each in before.shown(waiting[0])["faults"])
    conditions: Json = {"state": "unmapped", "application": sender}
    assert {each["state"] for each in before.desk.ok("POST", "/hl7v2/messages/replay", conditions)["items"]} == {"unmapped"}
    after = tables("site:1,Q,final,,\n")
    first = after.desk.ok("POST", "/hl7v2/messages/replay", conditions | {"limit": 3})
    assert [each["id"] for each in first["items"]] == [each["id"] for each in waiting[:3]], "in the order in which they came"
    assert {each["state"] for each in first["items"]} == {"processed"}
    assert first["left"] == 2
    rest = after.desk.ok("POST", "/hl7v2/messages/replay", conditions | {"limit": 3, "cursor": first["cursor"]})
    assert ([each["id"] for each in rest["items"]], rest["left"], rest["cursor"]) == ([each["id"] for each in waiting[3:]], 0, None)
    assert all(after.ask(f"Observation?patient.identifier={HOSP}|{each}&status=final") for each in numbers)
    everything = after.desk.ok("POST", "/hl7v2/messages/replay", {"state": "processed", "application": sender})
    assert len(everything["items"]) == 5
    assert all(after.ask(f"Observation?patient.identifier={HOSP}|{each}")[0]["meta"]["versionId"] == "1" for each in numbers)


def test_what_was_taken_with_a_warning_is_put_right_by_the_table_too(post: Post, tables: Callable[[str], Post]) -> None:
    number = fresh()
    found = post.sent(oru(fresh(), f"{number}^^^HOSP^MR", "NM|2345-7^Glucose^LN||95||||||Q"), "AA")
    assert found["state"] == "warning"
    asked = f"Observation?patient.identifier={HOSP}|{number}"
    assert [each["status"] for each in post.ask(asked)] == ["unknown"]
    after = tables("site:1,Q,final,,\n")
    done = after.desk.ok("POST", "/hl7v2/messages/replay", {"state": "warning", "control_id": found["control_id"]})
    assert [each["state"] for each in done["items"]] == ["processed"]
    assert [(each["status"], each["meta"]["versionId"]) for each in after.ask(asked)] == [("final", "2")]


def test_of_administrators_who_replay_at_once_all_see_one_result(post: Post, make_clinic: Callable[..., Clinic]) -> None:
    other = make_clinic()
    other.clock.seconds = post.clinic.clock.seconds
    desks = [post.desk, Desk(other, post.desk.token)]
    for _ in range(4):
        control, number = fresh(), fresh()
        waiting = post.sent(oru(control, ""), "AE")
        text = oru(control, f"{number}^^^HOSP^MR")

        def replay(desk: Desk, waiting: Json = waiting, text: str = text) -> int:
            return desk("POST", f"/hl7v2/messages/{waiting['id']}/replay", {"message": text}).status_code

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(replay, desks * 2))
        assert 200 in answers
        assert set(answers) <= {200, 409}
        assert len(post.ask(f"Patient?identifier={HOSP}|{number}")) == 1
        assert [each["meta"]["versionId"] for each in post.ask(f"Observation?patient.identifier={HOSP}|{number}")] == ["1"]
        (found,) = post.listed(control_id=control)
        assert found["attempts"] == 1 + answers.count(200)


def test_of_administrators_with_the_same_etag_one_changes_the_message(post: Post) -> None:
    control = fresh()
    waiting = post.sent(oru(control, ""), "AE")
    path = f"/hl7v2/messages/{waiting['id']}"
    seen = post.desk("GET", path).headers["ETag"]
    text = oru(control, f"{fresh()}^^^HOSP^MR")

    def correct(_: int) -> int:
        return post.desk("PATCH", path, {"message": text}, If_Match=seen).status_code

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(correct, range(3))) == [200, 412, 412]
    problem(post.desk("POST", f"{path}/replay", {}, If_Match=seen), 412)
    now = post.desk("GET", path).headers["ETag"]
    assert post.desk("POST", f"{path}/replay", {}, If_Match=now).headers["ETag"] != now


def test_a_correction_that_comes_while_a_message_is_replayed_is_not_taken_for_processed(post: Post) -> None:
    engine, control = post.clinic.engine, fresh()
    waiting = post.sent(oru(control, ""), "AE")
    text = oru(control, f"{fresh()}^^^HOSP^MR")
    process = landing(engine, open_converter(post.clinic.settings))

    def slow(message: Message, work: Work) -> Steps:
        assert post.desk("PATCH", f"/hl7v2/messages/{waiting['id']}", {"message": text}).status_code == 200
        return (yield from process(message, work))

    with pytest.raises(Outcome) as raised:
        Intake(engine.store, slow).replay(waiting["id"], Event("message", "an administrator"))
    assert raised.value.category == "conflict"
    assert post.shown(waiting)["correction"]["text"] == text
    assert post.replay(waiting)["state"] == "processed"


def test_a_replay_with_a_key_is_done_once(post: Post) -> None:
    patient = post.patient(fresh())
    waiting = post.sent(oru(fresh(), ""), "AE")
    path = f"/hl7v2/messages/{waiting['id']}/replay"
    key = fresh()
    first = post.desk("POST", path, {"patient": patient}, Idempotency_Key=key)
    again = post.desk("POST", path, {"patient": patient}, Idempotency_Key=key)
    assert (first.status_code, again.data, again.headers["Idempotency-Replayed"]) == (200, first.data, "true")
    assert again.headers["ETag"] == first.headers["ETag"]
    problem(post.desk("POST", path, {}, Idempotency_Key=key), 422)
    assert post.listed(control_id=waiting["control_id"])[0]["attempts"] == 2

    def send(_: int) -> int:
        return post.desk("POST", path, {}, Idempotency_Key=f"{key} at once").status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(16))) == {200}


def test_a_large_message_is_shown_and_corrected_and_no_other_body_may_be_large(post: Post) -> None:
    control = fresh()
    text = "x" * 900_000
    wrong = oru(control, "", *(f"TX|LETTER{place}^Letter^L||{text}||||||F" for place in range(4)))
    waiting = post.sent(wrong, "AE")
    whole = post.shown(waiting)
    assert (whole["raw"]["text"], whole["raw"]["segments"][-1]["whole"], whole["mapped"]["omitted"]) == (wrong, False, 4)
    number = fresh()
    assert post.replay(waiting, message=wrong.replace("PID|1||", f"PID|1||{number}^^^HOSP^MR"))["state"] == "processed"
    problem(post.desk("POST", "/users", {"login": text}), 413)
    body = {"message": "x" * (34 * 1024 * 1024)}
    problem(post.desk("PATCH", f"/hl7v2/messages/{waiting['id']}", body), 413)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"message": 7}, 422),
        ({"message": ""}, 422),
        ({"message": "MSH"}, 422),
        ({"message": "MSH|^~\\&|" + "|" * 100_000}, 422),
        ({"message": "MSH" * 100_000}, 422),
        ({"patient": "../Patient/1"}, 422),
        ({"patient": ["a"]}, 422),
        ({"patient": "a" * 65}, 422),
        ({"odd": True}, 422),
        ([], 422),
        (None, 415),
    ],
)
def test_bodies_that_are_none_change_nothing(post: Post, body: Any, status: int) -> None:
    waiting = post.sent(oru(fresh(), ""), "AE")
    problem(post.desk("POST", f"/hl7v2/messages/{waiting['id']}/replay", body), status)
    (found,) = post.listed(control_id=waiting["control_id"])
    assert (found["attempts"], found["revision"]) == (1, 0)


def test_messages_that_are_not_there_are_told(post: Post) -> None:
    for method, path, body in (
        ("GET", "/hl7v2/messages/none", None),
        ("PATCH", "/hl7v2/messages/none", {"message": None}),
        ("POST", "/hl7v2/messages/none/replay", {}),
        ("POST", "/hl7v2/messages/none/replay", {"message": oru("1", "2"), "patient": "3"}),
    ):
        problem(post.desk(method, path, body), 404)


def test_the_text_of_old_messages_is_removed_but_not_of_those_that_wait(post: Post) -> None:
    sender = fresh()
    done = post.sent(raw := oru(fresh(), f"{fresh()}^^^HOSP^MR", sender=sender), "AA")
    waiting = post.sent(oru(fresh(), "", sender=sender), "AE")
    with post.clinic.store.database.connection() as connection:
        assert prune(connection, datetime.now(UTC) - timedelta(days=1), 1000) == 0
        assert prune(connection, datetime.now(UTC) + timedelta(days=1), 1000) > 0
        assert prune(connection, datetime.now(UTC) + timedelta(days=1), 1000) == 0
    found = post.shown(done)
    assert (found["pruned"], found["raw"], found["written"]) == (True, None, post.shown(done)["written"])
    problem(post.desk("POST", f"/hl7v2/messages/{done['id']}/replay", {}), 410)
    assert post.shown(waiting)["raw"]["text"]
    assert post.send(raw).startswith("AA"), "the same bytes are still the same message"
    assert post.listed(control_id=done["control_id"])[0]["repeats"] == 1
    many = post.desk.ok("POST", "/hl7v2/messages/replay", {"state": "processed", "application": sender})
    assert [(each["state"], each["problem"]) for each in many["items"]] == [(None, "The text of this message has been removed")]
