"""What people are told of when, from the change to the mail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from icalendar import Calendar

from fhir_server.clinic.messages import announce, called, nearly
from fhir_server.search import SYSTEM
from fhir_server.spec import r4
from fhir_server.validation import Validator

from .conftest import DESK, HOLD, House, address_of, parts_of, subject_of

START = datetime(2031, 3, 6, 8, 20, tzinfo=UTC)
DAY, TIME = "Thursday, March 6, 2031", "09:20"


def entry(house: House, patient: str, number: int = -1) -> Any:
    mail = house.mails(address_of(patient))[number]
    calendar = Calendar.from_ical(parts_of(mail)["text/calendar"])
    (event,) = calendar.walk("VEVENT")
    return calendar, event


def planned(house: House, patient: str) -> list[tuple[str, str, datetime]]:
    return [(event, channel, due) for event, channel, state, due in house.rows(patient, "event, channel, state, due") if state == "planned"]


def test_a_booking_is_told_at_once_and_reminded_of_twice(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.work()
    assert house.subjects(patient) == [f"Your appointment on {DAY}, {TIME}"]
    # Three hours before it nothing may ring yet.
    assert [due for _, _, due in planned(house, patient)] == [START - timedelta(hours=48), datetime(2031, 3, 6, 7, tzinfo=UTC)]
    calendar, event = entry(house, patient)
    assert calendar["METHOD"] == "REQUEST"
    assert "CN" not in event["ORGANIZER"].params, "The sender has no name; what the mail is about is none"
    assert (event["UID"], event["STATUS"], event["SEQUENCE"]) == (f"{made['id']}@clinic-fhir.example.org", "CONFIRMED", 1)
    assert event["DTSTART"].dt == START
    house.clock.at = START - timedelta(hours=48)
    house.work()
    house.clock.at = datetime(2031, 3, 6, 7, tzinfo=UTC)
    house.work()
    assert house.subjects(patient)[1:] == [f"Reminder: {DAY}, {TIME}"] * 2


def test_no_word_of_why_somebody_comes_is_in_a_message(house: House) -> None:
    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.work()
    assert "secret" not in house.mails(address_of(patient))[0].as_string()
    assert all("secret" not in text for text in parts_of(house.mails(address_of(patient))[0]).values())


def test_what_a_patient_asks_for_is_told_as_a_request_and_as_validated_or_declined(house: House) -> None:
    first, second = house.patient(), house.patient()
    asked = [house.put(house.appointment(each, START, "pending")) for each in (first, second)]
    house.work()
    assert house.subjects(first) == [f"Your request for {DAY}, {TIME}"]
    assert entry(house, first)[1]["STATUS"] == "TENTATIVE"
    house.put({**asked[0], "status": "booked"})
    house.put({**asked[1], "status": "cancelled"})
    house.work()
    assert house.subjects(first)[1:] == [f"Your appointment on {DAY}, {TIME} is validated"]
    assert house.subjects(second)[1:] == [f"Your request for {DAY}, {TIME} is declined"]
    assert entry(house, first)[1]["STATUS"] == "CONFIRMED"
    assert entry(house, second)[0]["METHOD"] == "CANCEL"


def test_a_patient_who_takes_back_a_request_is_not_told_that_the_clinic_declines(house: House) -> None:
    patient = house.patient()
    login = house.account(patient)
    asked = house.put(house.appointment(patient, START, "pending"))
    house.put({**asked, "status": "cancelled"}, replace(DESK, actor=login))
    house.work()
    assert [subject_of(each) for each in house.mails(login)] == [f"Your appointment on {DAY}, {TIME} is cancelled"]


def test_a_moved_appointment_is_told_with_both_times_and_its_old_reminders_never_leave(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.work()
    later = START + timedelta(days=1)
    house.put({**made, "start": later.isoformat(), "end": (later + timedelta(minutes=20)).isoformat()})
    house.work()
    assert house.subjects(patient)[1:] == ["Your appointment has moved to Friday, March 7, 2031, 09:20"]
    assert f"of {DAY}, {TIME}," in parts_of(house.mails(address_of(patient))[1])["text/plain"]
    assert (entry(house, patient)[1]["UID"], entry(house, patient)[1]["SEQUENCE"]) == (entry(house, patient, 0)[1]["UID"], 2)
    assert [due for _, _, due in planned(house, patient)] == [later - timedelta(hours=48), datetime(2031, 3, 7, 7, tzinfo=UTC)]
    house.clock.at = START - timedelta(minutes=1)
    house.work()
    assert house.subjects(patient)[2:] == ["Reminder: Friday, March 7, 2031, 09:20"]


def test_a_cancelled_appointment_is_told_and_nothing_of_it_leaves_after(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.work()
    house.put({**made, "status": "cancelled"})
    house.work()
    calendar, event = entry(house, patient)
    assert (calendar["METHOD"], event["STATUS"], event["SEQUENCE"]) == ("CANCEL", "CANCELLED", 2)
    house.clock.at = START
    house.work()
    assert house.subjects(patient)[1:] == [f"Your appointment on {DAY}, {TIME} is cancelled"]
    assert planned(house, patient) == []


def test_what_is_over_before_the_worker_hears_of_it_is_told_once_as_it_ended(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.put({**made, "status": "cancelled"})
    house.work()
    assert house.subjects(patient) == [f"Your appointment on {DAY}, {TIME} is cancelled"]


def test_an_appointment_that_is_deleted_is_told_as_cancelled(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.work()
    house.delete("Appointment", made["id"])
    house.work()
    assert house.subjects(patient)[1:] == [f"Your appointment on {DAY}, {TIME} is cancelled"]


def test_a_change_behind_the_worker_s_back_is_seen_when_the_reminder_leaves(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.work()
    later = START + timedelta(hours=1)
    house.put({**made, "start": later.isoformat(), "end": (later + timedelta(minutes=20)).isoformat()})
    house.clock.at = START - timedelta(hours=48)
    # The change is not heard of, as by a worker that is behind.
    house.messages.send()
    assert house.subjects(patient) == [f"Your appointment on {DAY}, {TIME}"]
    assert ("reminder", "email", "revoked", "changed") in house.rows(patient)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("pending", {"extension": [{"url": HOLD, "valueInstant": "2031-03-03T09:05:00Z"}]}),
        ("proposed", {}),
        ("waitlist", {}),
        ("cancelled", {}),
        ("fulfilled", {}),
    ],
)
def test_holds_proposals_and_what_is_over_are_told_to_nobody(house: House, status: str, fields: dict[str, Any]) -> None:
    patient = house.patient()
    house.put(house.appointment(patient, START, status, **fields))
    house.work()
    assert house.rows(patient) == []


def test_a_hold_that_is_booked_is_told_as_booked(house: House) -> None:
    patient = house.patient()
    held = house.put(house.appointment(patient, START, "pending", extension=[{"url": HOLD, "valueInstant": "2031-03-03T09:05:00Z"}]))
    del held["extension"]
    house.put({**held, "status": "booked"})
    house.work()
    assert house.subjects(patient) == [f"Your appointment on {DAY}, {TIME}"]


def test_a_time_that_is_offered_to_somebody_who_waits_is_told_with_its_end(house: House) -> None:
    patient = house.patient()
    waiting = house.put(house.appointment(patient, START, "waitlist"))
    house.put({**waiting, "status": "pending", "extension": [{"url": HOLD, "valueInstant": "2031-03-03T12:00:00Z"}]})
    house.work()
    assert house.subjects(patient) == [f"A time has become free: {DAY}, {TIME}"]
    assert "until 13:00" in parts_of(house.mails(address_of(patient))[0])["text/plain"]


def test_what_is_past_or_loaded_by_the_operator_is_no_news(house: House) -> None:
    past, loaded = house.patient(), house.patient()
    house.put(house.appointment(past, house.clock() - timedelta(hours=1)))
    house.put(house.appointment(loaded, START), SYSTEM)
    house.work()
    assert house.rows(past) == []
    assert [(event, state) for event, _, state, _ in house.rows(loaded)] == [("reminder", "planned")] * 2


def test_reminders_whose_time_has_passed_at_booking_are_not_sent(house: House) -> None:
    patient = house.patient()
    house.put(house.appointment(patient, house.clock() + timedelta(hours=5)))
    house.work()
    assert [due for _, _, due in planned(house, patient)] == [house.clock() + timedelta(hours=2)]


def test_reminders_go_by_the_clinic_s_offsets(house: House) -> None:
    house.rule(reminders=[60], quiet_from=None, quiet_to=None)
    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.work()
    assert [due for _, _, due in planned(house, patient)] == [START - timedelta(hours=1)]


def test_sms_comes_where_it_is_wanted_and_an_answer_at_any_hour(house: House) -> None:
    patient = house.patient()
    login = house.account(patient, sms=True, phone="+491701112233")
    house.clock.at = datetime(2031, 3, 3, 21, tzinfo=UTC)
    appointment = house.put(house.appointment(patient, START))
    house.work()
    assert len(house.mails(login)) == 1
    (text,) = house.texts("+491701112233")
    assert text.startswith(f"Your clinic: your appointment is on {DAY}, {TIME}.")
    assert "https://clinic.example.org/messages/stop/" in text
    # Who reads the record cannot stop what its patient wants.
    told = [each["payload"][0]["contentString"] for each in house.found("Communication", patient)]
    assert len(told) == 2
    assert not any("/messages/stop/" in each for each in told)
    house.put({**appointment, "status": "cancelled"})
    house.work()
    assert len(house.texts("+491701112233")) == 2


def test_an_sms_that_can_wait_does_not_come_in_quiet_hours(house: House) -> None:
    patient = house.patient()
    login = house.account(patient, sms=True, phone="+491701112255")
    house.clock.at = datetime(2031, 3, 3, 21, tzinfo=UTC)
    house.put(report(patient, "final"))
    house.work()
    assert len(house.mails(login)) == 1
    assert house.texts("+491701112255") == []
    assert ("result-released", "sms", datetime(2031, 3, 4, 7, tzinfo=UTC)) in planned(house, patient)
    house.clock.at = datetime(2031, 3, 4, 7, tzinfo=UTC)
    house.work()
    assert len(house.texts("+491701112255")) == 1


def test_quiet_hours_that_end_too_late_put_a_reminder_before_them(house: House) -> None:
    patient = house.patient()
    early = datetime(2031, 3, 6, 6, 15, tzinfo=UTC)
    house.put(house.appointment(patient, early))
    house.work()
    # A quarter past seven: reminded at nine the evening before, and two days before it at nine of the evening before that.
    assert [due for _, _, due in planned(house, patient)][-1] == datetime(2031, 3, 5, 20, tzinfo=UTC)


def test_a_request_that_is_not_validated_is_not_reminded_of(house: House) -> None:
    patient = house.patient()
    asked = house.put(house.appointment(patient, START, "pending"))
    house.work()
    house.clock.at = START - timedelta(hours=48)
    house.work()
    assert house.subjects(patient) == [f"Your request for {DAY}, {TIME}"]
    house.put({**asked, "status": "booked"})
    house.clock.at = datetime(2031, 3, 6, 7, tzinfo=UTC)
    house.work()
    assert house.subjects(patient)[1:] == [f"Your appointment on {DAY}, {TIME} is validated", f"Reminder: {DAY}, {TIME}"]


def test_an_account_s_proved_address_comes_before_the_record_s(house: House) -> None:
    patient = house.patient()
    login = house.account(patient)
    house.put(house.appointment(patient, START))
    house.work()
    assert len(house.mails(login)) == 1
    assert house.subjects(patient) == []


def test_who_wants_nothing_gets_nothing_and_the_record_says_why(house: House) -> None:
    patient = house.patient()
    login = house.account(patient, email=False)
    house.put(house.appointment(patient, START))
    house.work()
    assert house.mails(login) == []
    assert house.rows(patient) == [("booked", "email", "suppressed", "not-wanted")]
    (told,) = house.found("Communication", patient)
    assert (told["status"], told["statusReason"]["coding"][0]["code"]) == ("not-done", "not-wanted")


def test_who_opts_out_after_the_planning_is_not_reminded(house: House) -> None:
    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.work()
    house.account(patient, email=False)
    house.clock.at = START - timedelta(hours=48)
    house.work()
    assert house.subjects(patient) == [f"Your appointment on {DAY}, {TIME}"]
    assert ("reminder", "email", "suppressed", "not-wanted") in house.rows(patient)


def test_people_are_written_to_in_the_language_that_they_prefer(house: House) -> None:
    german = house.patient(
        communication=[{"language": {"coding": [{"code": "en"}]}}, {"language": {"coding": [{"code": "de-AT"}]}, "preferred": True}]
    )
    unknown = house.patient(communication=[{"language": {"coding": [{"code": "tlh"}]}, "preferred": True}])
    house.rule(language="de", clinic="Praxis am Hügel")
    for number, each in enumerate((german, unknown)):
        house.put(house.appointment(each, START + timedelta(hours=number)))
    house.work()
    assert house.subjects(german) == ["Ihr Termin am Donnerstag, 6. März 2031, 09:20 Uhr"]
    assert house.subjects(unknown) == ["Ihr Termin am Donnerstag, 6. März 2031, 10:20 Uhr"]
    assert "Praxis am Hügel" in parts_of(house.mails(address_of(german))[0])["text/plain"]


def test_the_dead_are_not_written_to(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.work()
    house.put({"resourceType": "Patient", "id": patient, "deceasedBoolean": True, "telecom": [{"system": "email", "value": address_of(patient)}]})
    house.clock.at = START - timedelta(hours=48)
    house.work()
    assert len(house.subjects(patient)) == 1
    assert ("reminder", "email", "suppressed", "no-patient") in house.rows(patient)
    assert made["id"]


def report(patient: str, status: str, **fields: Any) -> dict[str, Any]:
    subject = {"reference": f"Patient/{patient}"}
    return {"resourceType": "DiagnosticReport", "id": f"r-{patient}", "status": status, "code": {"text": "secret"}, "subject": subject, **fields}


def test_a_result_is_told_once_its_patient_may_see_it_and_not_what_it_is(house: House) -> None:
    patient = house.patient()
    house.put(report(patient, "preliminary"))
    house.work()
    assert house.rows(patient) == []
    house.put(report(patient, "final"))
    house.put(report(patient, "final", conclusion="secret"))
    house.work()
    assert house.subjects(patient) == ["Something new is in your record"]
    assert "secret" not in parts_of(house.mails(address_of(patient))[0])["text/plain"]


def test_a_slip_of_several_prescriptions_is_one_message(house: House) -> None:
    patient = house.patient()
    base = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "medicationCodeableConcept": {"text": "secret"},
        "groupIdentifier": {"system": "urn:slips", "value": patient},
    }
    for number in range(3):
        house.put({**base, "id": f"{patient}-{number}"})
    house.put({**base, "id": f"{patient}-draft", "status": "draft"})
    house.work()
    assert house.subjects(patient) == ["Something new is in your record"]


def test_those_whose_doctor_will_be_away_are_told(house: House) -> None:
    patient, other, later = house.patient(), house.patient(), house.patient()
    doctor = f"d-{patient[:20]}"
    house.put({"resourceType": "Practitioner", "id": doctor, "name": [{"prefix": ["Dr."], "family": "Adeyemi"}]})
    role = {"resourceType": "PractitionerRole", "id": doctor, "active": True, "practitioner": {"reference": f"Practitioner/{doctor}"}}
    house.put(role)
    for who, start, actor in ((patient, START, doctor), (later, START + timedelta(days=5), doctor), (other, START, None)):
        made = house.appointment(who, start)
        if actor is not None:
            made["participant"].append({"actor": {"reference": f"Practitioner/{actor}"}, "status": "accepted"})
        house.put(made)
    house.work()
    away = {**role, "notAvailable": [{"description": "secret", "during": {"start": "2031-03-06", "end": "2031-03-07"}}]}
    house.put(away)
    house.put({**away, "active": True, "telecom": [{"system": "phone", "value": "1"}]})
    house.work()
    assert house.subjects(patient)[1:] == [f"Your appointment on {DAY}, {TIME} cannot take place as planned"]
    assert "Dr. Adeyemi is away" in parts_of(house.mails(address_of(patient))[1])["text/plain"]
    assert len(house.subjects(other)) == len(house.subjects(later)) == 1


def encounter(patient: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": f"e-{patient}",
        "status": "arrived",
        "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{patient}"},
    }


def test_who_is_called_is_told_by_sms_where_that_is_wanted_and_else_by_mail_once_each_call(house: House) -> None:
    by_sms, by_mail = house.patient(), house.patient()
    house.account(by_sms, sms=True, phone="+491704445566")
    house.clock.at = datetime(2031, 3, 3, 22, tzinfo=UTC)
    for each in (by_sms, by_mail):
        house.put(encounter(each))
        with house.store.database.connection() as connection, connection.transaction():
            announce(connection, [nearly(f"e-{each}", each, "1", house.clock(), token="F-012")], house.clock())
            for occurrence in ("1", "1", "2"):
                announce(connection, [called(f"e-{each}", each, occurrence, house.clock(), token="F-012", room="Room 4")], house.clock())
    house.messages.send()
    texts = house.texts("+491704445566")
    assert [text.partition("\n")[0] for text in texts] == [
        "Your clinic: it is nearly your turn (F-012).",
        *["Your clinic: it is your turn (F-012). Please go to Room 4."] * 2,
    ]
    assert house.subjects(by_mail) == ["It is nearly your turn", "It is your turn", "It is your turn"]


def test_a_call_that_is_minutes_old_is_of_no_use(house: House) -> None:
    patient = house.patient()
    house.put(encounter(patient))
    with house.store.database.connection() as connection, connection.transaction():
        announce(connection, [called(f"e-{patient}", patient, "1", house.clock())], house.clock())
    house.clock.go(minutes=11)
    house.messages.send()
    assert house.subjects(patient) == []
    assert house.rows(patient) == [("called", "sms", "expired", "too-late")]


def test_the_record_has_what_is_planned_and_what_was_sent(house: House) -> None:
    patient = house.patient()
    made = house.put(house.appointment(patient, START))
    house.work()
    requests, told = house.found("CommunicationRequest", patient), house.found("Communication", patient)
    assert [each["status"] for each in requests] == ["completed", "active", "active"]
    assert [each["status"] for each in told] == ["completed"]
    assert told[0]["basedOn"] == [{"reference": f"CommunicationRequest/{requests[0]['id']}"}]
    assert told[0]["about"] == requests[1]["about"] == [{"reference": f"Appointment/{made['id']}"}]
    assert requests[1]["occurrenceDateTime"] == "2031-03-04T08:20:00.000Z"
    house.put({**made, "status": "cancelled"})
    house.work()
    house.work()
    requests, told = house.found("CommunicationRequest", patient), house.found("Communication", patient)
    assert [each["status"] for each in requests] == ["completed", "revoked", "revoked", "completed"]
    assert requests[1]["statusReason"]["coding"][0]["code"] == "changed"
    validator = Validator(r4())
    for each in (*requests, *told):
        validator.require(each)


def test_a_reminder_that_somebody_revokes_in_the_record_does_not_leave(house: House) -> None:
    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.work()
    request = house.found("CommunicationRequest", patient)[1]
    house.put({**request, "status": "revoked"})
    house.clock.at = START - timedelta(hours=48)
    house.work()
    assert len(house.subjects(patient)) == 1


def test_events_that_the_clinic_is_silent_about_are_not_told(house: House) -> None:
    house.rule(silent=["booked"])
    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.work()
    assert [event for event, *_ in house.rows(patient)] == ["reminder", "reminder"]


def test_a_mail_can_be_stopped_by_one_click_of_the_mail_program(house: House) -> None:
    patient = house.patient()
    house.put(house.appointment(patient, START))
    house.work()
    (mail,) = house.mails(address_of(patient))
    link = str(mail["List-Unsubscribe"]).strip("<>")
    assert link.startswith("https://clinic.example.org/messages/stop/")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert link in parts_of(mail)["text/plain"]
