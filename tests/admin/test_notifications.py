from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fhir_server.search import SYSTEM
from fhir_server.store.ops import Put
from tests.admin.conftest import Desk, problem
from tests.web.conftest import Clinic

Json = dict[str, Any]
TEXT: Json = {"event": "booked", "channel": "sms", "language": "nl", "text": "Uw afspraak: {{ day }}, {{ time }}"}
DESK = replace(SYSTEM, actor="staff@clinic")


def book(clinic: Clinic, **fields: Any) -> tuple[str, str]:
    """An appointment of a new patient; the patient's address and the appointment's id."""
    patient = uuid.uuid4().hex
    email = f"{patient}@example.org"
    start = clinic.store.clock() + timedelta(days=5)
    appointment: Json = {
        "resourceType": "Appointment",
        "id": uuid.uuid4().hex,
        "status": "booked",
        "start": start.isoformat(),
        "end": (start + timedelta(minutes=20)).isoformat(),
        "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
        **fields,
    }
    person = {"resourceType": "Patient", "id": patient, "telecom": [{"system": "email", "value": email}]}
    clinic.store.transact([Put(person, patient), Put(appointment, appointment["id"])], DESK)
    return email, appointment["id"]


def test_what_is_booked_is_sent_by_the_time_that_run_due_answers(desk: Desk) -> None:
    email, identity = book(desk.clinic)
    ran = desk.ok("POST", "/notifications/run-due")
    assert ran["sent"] >= 1
    assert ran["left"] == 0
    assert [each["To"] for each in list(desk.clinic.outside.mails.queue)].count(email) == 1
    listed = desk.ok("GET", f"/notifications?focus=Appointment/{identity}")["items"]
    assert sorted((each["event"], each["state"]) for each in listed) == [("booked", "sent"), ("reminder", "planned"), ("reminder", "planned")]
    (sent,) = desk.ok("GET", f"/notifications?focus=Appointment/{identity}&state=sent")["items"]
    assert desk.ok("GET", f"/notifications/{sent['id']}") == sent
    assert sent["told"].startswith("Your appointment on ")
    assert sent["communication"] is not None
    problem(desk("POST", f"/notifications/{sent['id']}/replay"), 409)
    assert desk.ok("POST", "/notifications/run-due")["sent"] == 0
    page = desk.ok("GET", f"/notifications?focus=Appointment/{identity}&limit=2")
    assert len(desk.ok("GET", page["next"])["items"]) == 1


def test_a_text_is_written_previewed_activated_and_retired(desk: Desk) -> None:
    shown = desk.ok("POST", "/notifications/templates/preview", TEXT)
    assert shown["text"].startswith("Uw afspraak: ")
    assert shown["sms"]["segments"] == 1
    answer = desk("POST", "/notifications/templates", TEXT)
    made = answer.json
    assert answer.status_code == 201
    assert made is not None
    assert (made["version"], made["state"]) == (1, "draft")
    path = answer.headers["Location"]
    assert desk.ok("GET", path) == made
    tag = answer.headers["ETag"]
    assert desk.ok("POST", f"{path}/activate", None, If_Match=tag)["state"] == "active"
    problem(desk("POST", f"{path}/activate", None, If_Match=tag), 412)
    texts = desk.ok("GET", "/notifications/texts?language=nl")
    assert TEXT["text"] in [each["text"] for each in texts["items"]]
    assert "day" in [each["name"] for each in texts["variables"]]
    assert made["id"] in [each["id"] for each in desk.ok("GET", "/notifications/templates?language=nl&state=active")["items"]]
    assert desk.ok("POST", f"{path}/retire")["state"] == "retired"
    mail = desk.ok("POST", "/notifications/templates/preview", {**TEXT, "channel": "email", "subject": "{{ day }}"})
    assert mail["sms"] is None
    assert mail["subject"]


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "none"},
        {"channel": "fax"},
        {"language": "n"},
        {"text": ""},
        {"text": "{{ reason }}"},
        {"text": "{% for each in day %}{% endfor %}"},
        {"text": "x" * 3000},
        {"subject": "An SMS has none"},
        {"channel": "email"},
        {"version": 7},
    ],
)
@pytest.mark.parametrize("path", ["/notifications/templates", "/notifications/templates/preview"])
def test_texts_that_cannot_be_are_refused(desk: Desk, fields: Json, path: str) -> None:
    problem(desk("POST", path, TEXT | fields), 422)


def test_the_rules_are_shown_and_changed(desk: Desk) -> None:
    answer = desk("GET", "/notifications/settings")
    assert answer.json == {
        "clinic": "",
        "language": "en",
        "reminders": [2880, 180],
        "quiet_from": "21:00",
        "quiet_to": "08:00",
        "silent": [],
    }
    changed = desk.ok("PATCH", "/notifications/settings", {"reminders": [60], "clinic": "Hill Clinic"}, If_Match=answer.headers["ETag"])
    assert (changed["reminders"], changed["clinic"], changed["language"]) == ([60], "Hill Clinic", "en")
    problem(desk("PATCH", "/notifications/settings", {"reminders": []}, If_Match=answer.headers["ETag"]), 412)
    desk.ok("PATCH", "/notifications/settings", answer.json)


@pytest.mark.parametrize(
    "changes",
    [
        {"reminders": [0]},
        {"reminders": [1, 2, 3, 4, 5, 6]},
        {"reminders": ["60"]},
        {"quiet_from": "25:00"},
        {"quiet_from": None},
        {"language": "english please"},
        {"silent": ["none"]},
        {"secret": 1},
    ],
)
def test_rules_that_cannot_be_are_refused(desk: Desk, changes: Json) -> None:
    problem(desk("PATCH", "/notifications/settings", changes), 422)


@pytest.mark.parametrize(
    "path", ["/notifications/0", "/notifications/x", "/notifications/templates/0", "/notifications/templates/99999999999999999999"]
)
def test_what_is_not_there_is_not_found(desk: Desk, path: str) -> None:
    problem(desk("GET", path), 404)


def test_messages_are_stopped_by_the_link_in_them_without_script_or_sign_in(desk: Desk, make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic(public_url="https://clinic.example.org")
    email, _ = book(clinic)
    there = replace(desk, clinic=clinic)
    there.ok("POST", "/notifications/run-due")
    (mail,) = [each for each in list(clinic.outside.mails.queue) if each["To"] == email]
    path = str(mail["List-Unsubscribe"]).strip("<>").removeprefix("https://clinic.example.org")
    for _ in range(2):
        # Programs that follow links change nothing.
        page = clinic("GET", path)
        assert (page.status_code, page.mimetype) == (200, "text/html")
        assert "Stop these messages" in page.text
    assert "Done." in clinic("POST", path, data={"List-Unsubscribe": "One-Click"}).text
    with clinic.store.database.connection() as connection:
        kept = connection.execute("SELECT channel FROM message_refusal WHERE patient = %s", (email.partition("@")[0],)).fetchall()
        assert kept == [("email",)]
    assert "come again" in clinic("POST", path, data={"again": "yes"}).text
    with clinic.store.database.connection() as connection:
        assert connection.execute("SELECT channel FROM message_refusal WHERE patient = %s", (email.partition("@")[0],)).fetchall() == []


def test_the_link_decides_for_the_account_too_and_the_account_s_owner_decides_last(clinic: Clinic, desk: Desk) -> None:
    from fhir_server.access.accounts.notifications import Choices

    patient = uuid.uuid4().hex
    account = clinic.account("patient", patient=patient)
    choices = Choices(clinic.store, clinic.sign_in.desk.vault)
    path = f"/messages/stop/{choices.token(patient, 'email')}"
    assert clinic("POST", path).status_code == 200
    token = clinic.session(account)["access_token"]
    assert clinic("GET", "/auth/me/notifications", token=token).json == {"email": False, "sms": False}
    assert clinic("PUT", "/auth/me/notifications", {"email": True, "sms": False}, token).status_code == 200
    with clinic.store.database.connection() as connection:
        found = choices.of(connection, [patient])[patient]
    assert (found.wanted.email, found.refused) == (True, frozenset())
    assert desk.ok("GET", f"/audit?patient={patient}&kind=consent-change")["items"]


@pytest.mark.parametrize("token", ["x", "p1.email.0123456789012345678901", "p1.fax.0123456789012345678901", "p1.email.", "a" * 4000])
def test_a_link_that_nobody_has_made_stops_nothing(clinic: Clinic, token: str) -> None:
    for method in ("GET", "POST"):
        assert clinic(method, f"/messages/stop/{token}").status_code == 404
    assert clinic("POST", f"/messages/stop/{token}", data=b"x" * 5000).status_code == 413
