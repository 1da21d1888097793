"""$hold, $book and what becomes of appointments."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

from fhir_server.clinic.scheduling import policies
from fhir_server.settings import CANON
from tests.interactions.conftest import Fhir
from tests.operations.scheduling.conftest import MakePractice, Practice, as_role, at, parameters

Json = dict[str, Any]
HOLD = f"{CANON}/StructureDefinition/hold-expires"
OVERBOOKED = f"{CANON}/StructureDefinition/overbooked"


def told(answer: Json) -> list[str]:
    return [issue["diagnostics"] for issue in answer["issue"]]


def test_staff_book_and_the_slot_is_busy(practice: Practice) -> None:
    patient = practice.patient()
    found = practice.book(practice.free()[1], patient)
    assert (found["status"], found["start"], found["slot"]) == ("booked", at(30), [{"reference": practice.slots[1]}])
    assert found["participant"] == [
        {"actor": {"reference": practice.doctor}, "required": "required", "status": "accepted"},
        {"actor": {"reference": patient}, "required": "required", "status": "accepted"},
    ]
    assert practice.status(practice.slots[1]) == "busy"
    assert practice.slots[1] not in [f"Slot/{each}" for each in practice.staff.ids(f"Slot?schedule={practice.schedule}&status=free")]


def test_a_patient_books_for_themself_and_staff_confirm(practice: Practice) -> None:
    patient = practice.patient()
    mine = practice.as_patient(patient)
    offer = practice.free(mine)[0] | {"reasonCode": [{"text": "A cough"}], "priority": 9, "patientInstruction": "x"}
    found = mine.post("Appointment/$book", parameters(appointment=offer))
    assert (found["status"], found["reasonCode"], found.get("priority"), found.get("patientInstruction")) == (
        "pending",
        [{"text": "A cough"}],
        None,
        None,
    )
    assert [each["status"] for each in found["participant"]] == ["needs-action", "accepted"]
    assert practice.status(practice.slots[0]) == "busy-tentative"
    mine.post(f"Appointment/{found['id']}/$confirm", None, 403)
    done = practice.staff.post(f"Appointment/{found['id']}/$confirm", None, 200)
    assert (done["status"], {each["status"] for each in done["participant"]}) == ("booked", {"accepted"})
    assert practice.status(practice.slots[0]) == "busy"
    practice.staff.post(f"Appointment/{found['id']}/$confirm", None, 422)


def test_who_is_moved_by_a_plain_write_leaves_the_slot_and_can_be_confirmed(practice: Practice) -> None:
    mine = practice.as_patient(practice.patient())
    asked = mine.post("Appointment/$book", parameters(appointment=practice.free(mine)[0]))
    moved = [{"op": "replace", "path": f"/{name}", "value": at(minutes)} for name, minutes in (("start", 30), ("end", 60))]
    assert practice.system("PATCH", f"Appointment/{asked['id']}", moved).status_code == 200
    assert [practice.status(slot) for slot in practice.slots[:2]] == ["free", "busy-tentative"]
    assert practice.staff.post(f"Appointment/{asked['id']}/$confirm", None, 200)["start"] == at(30)
    assert [practice.status(slot) for slot in practice.slots[:2]] == ["free", "busy"]
    other = practice.as_patient(practice.patient())
    assert other.post("Appointment/$book", parameters(appointment=practice.free(other)[0]))["slot"] == [{"reference": practice.slots[0]}]


def test_a_time_that_was_closed_since_is_validated_by_staff_with_a_reason_alone(practice: Practice) -> None:
    mine = practice.as_patient(practice.patient())
    asked = mine.post("Appointment/$book", parameters(appointment=practice.free(mine)[0]))
    practice.system.put(practice.slots[0], {**practice.system.get(practice.slots[0]), "status": "busy-unavailable"})
    path = f"Appointment/{asked['id']}/$confirm"
    refused = practice.staff.post(path, None, 409)
    assert [each["diagnostics"][:5] for each in refused["issue"][1:]] == ["Free:", "Free:", "Free:"]
    assert mine.get(f"Appointment/{asked['id']}")["status"] == "pending"
    practice.as_doctor().post(path, parameters(override=True, reason="I stay"), 403)
    practice.staff.post(path, parameters(override=True), 400)
    done = practice.staff.post(path, parameters(override=True, reason="She stays longer"), 200)
    assert (done["status"], done["extension"][0]["valueString"]) == ("booked", "She stays longer")


def test_a_patient_does_not_book_for_others_nor_with_others(practice: Practice, make_practice: MakePractice) -> None:
    mine = practice.as_patient(practice.patient())
    offer = practice.free(mine)[0]
    mine.post("Appointment/$book", parameters(appointment=offer, patient=practice.patient()), 403)
    # Whom they name besides takes no part.
    other = make_practice()
    offer["participant"] += [
        {"actor": {"reference": other.doctor}, "status": "accepted"},
        {"actor": {"reference": "Patient/x"}, "status": "accepted"},
    ]
    found = mine.post("Appointment/$book", parameters(appointment=offer))
    assert [each["actor"]["reference"] for each in found["participant"]][:1] == [practice.doctor]
    assert len(found["participant"]) == 2


def test_a_doctor_books_in_the_own_schedule_only(practice: Practice, make_practice: MakePractice) -> None:
    other, patient = make_practice(), practice.patient()
    doctor = practice.as_doctor()
    assert doctor.post("Appointment/$book", parameters(appointment=practice.free()[0], patient=patient))["status"] == "booked"
    doctor.post("Appointment/$book", parameters(appointment=other.free()[1], patient=patient), 403)
    theirs = other.book()
    doctor.post(f"Appointment/{theirs['id']}/$cancel", parameters(reason="Mine"), 404)


def test_a_taken_time_is_told_with_what_is_free(practice: Practice) -> None:
    offer = practice.free()[0]
    practice.book(offer)
    answer = practice.book(offer, status=409)
    assert [issue["severity"] for issue in answer["issue"]] == ["error", *["information"] * 3]
    assert told(answer)[1] == f"Free: {at(30)} to {at(60)} ({practice.slots[1]})"


def test_what_is_not_offered_is_not_booked(practice: Practice) -> None:
    offer, patient = practice.free()[0], practice.patient()
    for change in (
        {"start": at(10), "end": at(40)},
        {"start": at(0), "end": at(45)},
        {"start": at(300), "end": at(330)},
        {"slot": [{"reference": "Slot/x"}]},
    ):
        practice.book(offer | change, patient, 422)
    without = {name: value for name, value in offer.items() if name != "slot"}
    assert practice.book(without, patient)["slot"] == offer["slot"]
    practice.book({**without, "start": "2020-01-01T09:00:00Z", "end": "2020-01-01T09:30:00Z"}, patient, 422)


def test_only_staff_book_other_times_and_say_why(practice: Practice) -> None:
    patient = practice.patient()
    offer = practice.free()[0]
    practice.book(offer)
    practice.book(offer, patient, 400, override=True)
    found = practice.book(offer, patient, override=True, reason="A sick child")
    assert found["extension"] == [{"url": OVERBOOKED, "valueString": "A sick child"}]
    other = {name: value for name, value in offer.items() if name != "slot"} | {"start": at(600), "end": at(630)}
    practice.book(other, practice.patient(), override=True, reason="After hours")
    for caller in (practice.as_patient(patient), practice.as_doctor()):
        caller.post("Appointment/$book", parameters(appointment=other, patient=patient, override=True, reason="Please"), 403)


def test_a_hold_keeps_others_out_until_it_is_booked(practice: Practice) -> None:
    patient = practice.patient()
    mine = practice.as_patient(patient)
    offer = practice.free(mine)[0]
    answer = mine("POST", "Appointment/$hold", parameters(appointment=offer))
    held = answer.get_json(force=True)
    [until] = [each["valueInstant"] for each in held["extension"] if each["url"] == HOLD]
    assert (answer.status_code, held["status"]) == (201, "pending")
    assert 290 < parsedate_to_datetime(answer.headers["Expires"]).timestamp() - time.time() <= 300
    assert until.startswith(parsedate_to_datetime(answer.headers["Expires"]).strftime("%Y-%m-%dT%H:%M:%S"))
    practice.book(offer, status=409)
    practice.staff.post(f"Appointment/{held['id']}/$confirm", None, 422)
    # Another of the clinic does not take it from who holds it.
    practice.staff.post("Appointment/$book", parameters(hold=f"Appointment/{held['id']}", patient=patient), 403)
    booked = mine.post("Appointment/$book", parameters(hold=f"Appointment/{held['id']}"))
    assert (booked["id"], booked["status"], "extension" in booked) == (held["id"], "pending", False)
    mine.post("Appointment/$book", parameters(hold=f"Appointment/{held['id']}"), 422)


def test_staff_hold_first_and_say_for_whom_later(practice: Practice) -> None:
    held = practice.staff.post("Appointment/$hold", parameters(appointment=practice.free()[0]))
    practice.staff.post("Appointment/$book", parameters(hold=f"Appointment/{held['id']}"), 400)
    patient = practice.patient()
    booked = practice.staff.post("Appointment/$book", parameters(hold=f"Appointment/{held['id']}", patient=patient))
    assert (booked["status"], booked["participant"][-1]["actor"]["reference"]) == ("booked", patient)
    practice.as_patient(practice.patient()).post("Appointment/$book", parameters(hold=f"Appointment/{held['id']}"), 404)


def test_an_expired_hold_is_free_at_once_and_not_booked(practice: Practice) -> None:
    offer = practice.free()[0]
    held = practice.staff.post("Appointment/$hold", parameters(appointment=offer))
    _expire(practice, held)
    assert practice.starts()[0] == at(0)
    practice.staff.post("Appointment/$book", parameters(hold=f"Appointment/{held['id']}", patient=practice.patient()), 409)
    assert practice.book(offer)["status"] == "booked"


def _expire(practice: Practice, held: Json) -> None:
    past = "2020-01-01T00:00:00Z"
    practice.system.put(f"Appointment/{held['id']}", {**held, "extension": [{"url": HOLD, "valueInstant": past}]})


def test_declining_and_cancelling_free_the_time_and_say_why(practice: Practice) -> None:
    patient = practice.patient()
    mine = practice.as_patient(patient)
    one, two = (mine.post("Appointment/$book", parameters(appointment=each)) for each in practice.free(mine)[:2])
    practice.staff.post(f"Appointment/{one['id']}/$decline", None, 400)
    done = practice.staff.post(f"Appointment/{one['id']}/$decline", parameters(reason="The doctor is away"), 200)
    assert (done["status"], done["cancelationReason"]) == ("cancelled", {"text": "The doctor is away"})
    assert [each["status"] for each in done["participant"]] == ["declined", "accepted"]
    mine.post(f"Appointment/{two['id']}/$cancel", {"resourceType": "Parameters"}, 400)
    concept = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason", "code": "pat"}]}
    body = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueCodeableConcept": concept}]}
    assert mine.post(f"Appointment/{two['id']}/$cancel", body, 200)["cancelationReason"] == concept
    assert len(practice.free()) == 4
    mine.post(f"Appointment/{two['id']}/$cancel", parameters(reason="Again"), 422)
    practice.as_patient(practice.patient()).post(f"Appointment/{two['id']}/$cancel", parameters(reason="Not mine"), 404)


def test_moving_keeps_the_id_and_frees_the_old_time(practice: Practice, make_practice: MakePractice) -> None:
    patient = practice.patient()
    booked = practice.book(practice.free()[0], patient)
    mine = practice.as_patient(patient)
    moved = mine.post(f"Appointment/{booked['id']}/$reschedule", parameters(start=at(60)), 200)
    assert (moved["id"], moved["start"], moved["end"], moved["slot"]) == (booked["id"], at(60), at(90), [{"reference": practice.slots[2]}])
    assert (moved["status"], {each["status"] for each in moved["participant"]}) == ("booked", {"accepted"})
    assert practice.starts() == [at(0), at(30), at(90)]
    other = make_practice()
    moved = practice.staff.post(f"Appointment/{booked['id']}/$reschedule", parameters(slot=other.slots[1]), 200)
    assert [each["actor"]["reference"] for each in moved["participant"]] == [other.doctor, patient]
    assert (practice.starts(), other.starts()) == ([at(0), at(30), at(60), at(90)], [at(0), at(60), at(90)])
    practice.book(practice.free()[0])
    answer = mine.post(f"Appointment/{booked['id']}/$reschedule", parameters(slot=practice.slots[0]), 409)
    assert len(answer["issue"]) == 4
    mine.post(f"Appointment/{booked['id']}/$reschedule", parameters(start=at(500)), 422)
    mine.post(f"Appointment/{booked['id']}/$reschedule", None, 400)


def test_a_time_may_be_moved_into_what_it_takes_itself(make_practice: MakePractice) -> None:
    practice = make_practice(1, 60)
    booked = practice.book(practice.free(duration=30)[0])
    moved = practice.staff.post(f"Appointment/{booked['id']}/$reschedule", parameters(start=at(30)), 200)
    assert moved["start"] == at(30)
    long = make_practice(3)
    booked = long.book(long.free(duration=60)[0])
    assert long.staff.post(f"Appointment/{booked['id']}/$reschedule", parameters(start=at(30)), 200)["start"] == at(30)


def test_staff_move_beyond_what_is_offered_with_a_reason(practice: Practice) -> None:
    booked = practice.book()
    practice.staff.post(f"Appointment/{booked['id']}/$reschedule", parameters(start=at(600)), 422)
    moved = practice.staff.post(f"Appointment/{booked['id']}/$reschedule", parameters(start=at(600), override=True, reason="After work"), 200)
    assert (moved["start"], "slot" in moved, practice.starts()[0]) == (at(600), False, at(0))


def test_who_has_not_come_is_a_no_show(practice: Practice) -> None:
    patient = practice.patient()
    booked = practice.book(patient=patient)
    practice.as_patient(patient).post(f"Appointment/{booked['id']}/$no-show", None, 403)
    assert practice.as_doctor().post(f"Appointment/{booked['id']}/$no-show", None, 200)["status"] == "noshow"
    practice.staff.post(f"Appointment/{booked['id']}/$cancel", parameters(reason="x"), 422)


def test_a_reason_has_a_thousand_characters_at_the_most(practice: Practice) -> None:
    booked = practice.book()
    for length, status in ((1_001, 400), (1_000, 200)):
        practice.staff.post(f"Appointment/{booked['id']}/$cancel", parameters(reason="x" * length), status)


def test_each_act_leaves_history_and_a_provenance(practice: Practice) -> None:
    booked = practice.book()
    practice.staff.post(f"Appointment/{booked['id']}/$cancel", parameters(reason="x"), 200)
    history = practice.system.get(f"Appointment/{booked['id']}/_history")
    assert [entry["resource"]["status"] for entry in history["entry"]] == ["cancelled", "booked"]
    found = practice.system.get(f"Provenance?target=Appointment/{booked['id']}")
    assert sorted(entry["resource"]["activity"]["coding"][0]["code"] for entry in found["entry"]) == ["book", "cancel"]


def test_a_key_books_once(practice: Practice) -> None:
    body = parameters(appointment=practice.free()[0], patient=practice.patient())
    key = {"Idempotency-Key": uuid.uuid4().hex}
    one, two = (practice.staff.post("Appointment/$book", body, headers=key) for _ in range(2))
    assert one == two
    assert len(practice.free()) == 3


def test_nobody_is_booked_whom_the_caller_does_not_see(practice: Practice) -> None:
    practice.book(patient="Patient/nobody", status=404)
    practice.staff.post("Appointment/$book", parameters(appointment=practice.free()[0]), 400)
    as_role(practice.staff, "staff", scope="user/Appointment.rs user/Patient.rs").post(
        "Appointment/$book", parameters(appointment=practice.free()[0], patient=practice.patient()), 403
    )
    practice.staff.get("Appointment/$book", 405)


def test_of_many_who_want_one_time_one_has_it(practice: Practice) -> None:
    offer = practice.free()[0]
    patients = [practice.patient() for _ in range(20)]
    start = threading.Barrier(20)

    def go(patient: str) -> int:
        start.wait()
        return _status(practice.as_patient(patient), offer)

    with ThreadPoolExecutor(20) as pool:
        assert Counter(pool.map(go, patients)) == {201: 1, 409: 19}


def _status(fhir: Fhir, offer: Json) -> int:
    # Whoever finds all connections in use asks again.
    while (answer := fhir("POST", "Appointment/$book", parameters(appointment=offer))).status_code == 503:
        time.sleep(0.01)
    return answer.status_code


def test_each_role_is_held_to_its_policy(practice: Practice) -> None:
    patient = practice.patient()
    mine, offers = practice.as_patient(patient), practice.free()
    store = practice.staff.app.extensions["store"]

    def decide(**changes: int | None) -> None:
        with store.database.connection() as connection:
            policies.decide(connection, "patient", changes)

    def refused(offer: Json) -> str:
        return told(mine.post("Appointment/$book", parameters(appointment=offer), 422))[0]

    try:
        decide(notice_minutes=366 * 24 * 60 * 10)
        assert "at the soonest" in refused(offers[0])
        decide(notice_minutes=None, horizon_days=1)
        assert "at the latest" in refused(offers[0])
        decide(horizon_days=None, longest_minutes=29)
        assert "29 minutes at the most" in refused(offers[0])
        decide(longest_minutes=None, open_bookings=1, cancel_minutes=366 * 24 * 60 * 10)
        booked = mine.post("Appointment/$book", parameters(appointment=offers[0]))
        assert "1 appointments to come already" in refused(offers[1])
        for act, given in (("cancel", {"reason": "x"}), ("reschedule", {"start": at(60)})):
            assert "too late" in told(mine.post(f"Appointment/{booked['id']}/${act}", parameters(**given), 422))[0]
        # Staff are not patients.
        practice.book(offers[1], patient)
        practice.staff.post(f"Appointment/{booked['id']}/$cancel", parameters(reason="x"), 200)
    finally:
        with store.database.connection() as connection:
            connection.execute("DELETE FROM scheduling_setting")
