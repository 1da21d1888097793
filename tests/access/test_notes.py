"""Staff see encounters, orders and flags without the clinical notes in them, and cannot search by these."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fhir_server.access import issue
from fhir_server.access.roles import hidden
from fhir_server.app import build_app
from fhir_server.interactions import Engine
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store

SECRET: Final = "a secret that only the tests know of"
ZONE: Final = ZoneInfo("Europe/Berlin")
SECRETS: Final = ("asthma", "Condition/c1", "wheezing")

DIAGNOSES: Final = [{"condition": {"reference": "Condition/c1"}}]
ENCOUNTER: Final[dict[str, Any]] = {
    "resourceType": "Encounter",
    "id": "e1",
    "text": {"status": "additional", "div": '<div xmlns="http://www.w3.org/1999/xhtml">has asthma</div>'},
    "status": "in-progress",
    "class": {"code": "AMB"},
    "subject": {"reference": "Patient/p1"},
    "contained": [
        {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p1"}, "code": {"text": "asthma of childhood"}},
        {"resourceType": "EpisodeOfCare", "id": "e", "status": "active", "patient": {"reference": "Patient/p1"}, "diagnosis": DIAGNOSES},
    ],
    "episodeOfCare": [{"reference": "#e"}],
    "reasonReference": [{"reference": "Condition/c1"}, {"reference": "#c"}],
    "diagnosis": DIAGNOSES,
}
ORDER: Final[dict[str, Any]] = {
    "resourceType": "ServiceRequest",
    "id": "s1",
    "status": "active",
    "intent": "order",
    "subject": {"reference": "Patient/p1"},
    "encounter": {"reference": "Encounter/e1"},
    "note": [{"text": "wheezing at night"}],
}


@pytest.fixture(scope="module")
def app(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    store = Store(fresh_database(), zone=ZONE, connections=4)
    options = Settings(data=Path(tmp_path_factory.mktemp("data")), jwt_secret=SECRET, clinic_timezone=ZONE)
    made = build_app(Engine.build(store, options, names()), options)
    for body in ({"resourceType": "Patient", "id": "p1"}, ENCOUNTER, {**ENCOUNTER, "id": "e2", "status": "finished"}, ORDER):
        answer = call(made, None, f"{body['resourceType']}/{body['id']}", "PUT", body)
        assert answer.status_code == 201, answer.data
    yield made
    store.close()


def call(app: Flask, role: Any, path: str, method: str = "GET", body: Any = None) -> TestResponse:
    made = issue(SECRET, role=role, user="x", patient=None, scope=None if role else "system/*.cruds", ttl=600, now=time.time())
    return app.test_client(use_cookies=False).open(f"/fhir/{path}", method=method, headers={"Authorization": f"Bearer {made}"}, json=body)


@pytest.mark.parametrize(
    "path",
    [
        *("Encounter/e1", "Encounter/e1/_history/1", "Encounter/e1/_history", "Encounter?_id=e1", "Encounter?_elements=diagnosis,text"),
        *("Encounter?_include=*", "Patient?_id=p1&_revinclude=Encounter:subject", "Patient/p1/$everything", "Patient/p1/*", "_history"),
        *("ServiceRequest/s1", "ServiceRequest?_include=ServiceRequest:encounter", "Encounter/e1/$everything"),
        "$graphql?query=" + quote('{Encounter(id: "e1") {status text {div} diagnosis {condition {reference}}}}'),
    ],
)
def test_no_door_shows_notes_to_staff(app: Flask, path: str) -> None:
    answer = call(app, "staff", path)
    assert answer.status_code == 200, answer.data
    assert "in-progress" in answer.text or '"active"' in answer.text or "_elements" in path
    assert not any(secret in answer.text for secret in SECRETS)
    doctor = call(app, "doctor", path)
    assert any(secret in doctor.text for secret in SECRETS), doctor.data


@pytest.mark.parametrize(
    "path",
    [
        *("Encounter?diagnosis=Condition/c1", "Encounter?reason-reference:missing=false", "Encounter?_text=asthma", "Encounter?_content=asthma"),
        *("Encounter?_sort=diagnosis", "Encounter?_filter=diagnosis eq Condition/c1", "Encounter?diagnosis:Condition.code:missing=true"),
        *("Patient?_has:Encounter:subject:diagnosis=Condition/c1", "ServiceRequest?encounter.diagnosis=Condition/c1"),
    ],
)
def test_staff_cannot_search_by_notes(app: Flask, path: str) -> None:
    # A count sorts nothing.
    for asked in (path, *([] if "_sort" in path else [f"{path}&_summary=count"])):
        answer = call(app, "staff", asked)
        assert answer.status_code == 403, (asked, answer.data)
    assert call(app, "doctor", path).status_code == 200


@pytest.mark.parametrize(
    "query", ["diagnosis=Condition/c1", "diagnosis:missing=false", "reason-reference=Condition/c1", "_text=asthma", "_content=asthma"]
)
def test_no_app_of_staff_is_held_to_notes_and_so_told_of_them(app: Flask, query: str) -> None:
    def asked(role: Any, path: str) -> int:
        made = issue(SECRET, role=role, user="x", patient=None, scope=f"user/Encounter.rs?{query}", ttl=600, now=time.time())
        answer = app.test_client(use_cookies=False).get(f"/fhir/{path}", headers={"Authorization": f"Bearer {made}"})
        return int(answer.get_json().get("total", answer.status_code))

    for path in ("Encounter/e1", "Encounter/e1/_history/1"):
        assert [asked(role, path) for role in ("doctor", "staff")] == [200, 404]
    assert [asked(role, "Encounter?_summary=count") for role in ("doctor", "staff")] == [2, 0]


def test_staff_learn_nothing_of_what_an_encounter_contains(app: Flask) -> None:
    for path in ("Condition?code:text=asthma&_contained=true&_count=1", "Encounter?status=in-progress,finished&_contained=both&_count=1"):
        doctor, staff = (call(app, role, path).get_json() for role in ("doctor", "staff"))
        assert "next" in [each["relation"] for each in doctor["link"]]
        assert ("next" in [each["relation"] for each in staff["link"]]) is ("both" in path)
    chain = "Encounter?episode-of-care:EpisodeOfCare.condition=Condition/c1"
    assert [call(app, role, chain).get_json()["total"] for role in ("doctor", "staff")] == [2, 0]
    assert [call(app, role, f"{chain}&_summary=count").get_json()["total"] for role in ("doctor", "staff")] == [2, 0]


def test_whoever_is_a_doctor_too_sees_all() -> None:
    assert {name for name, _ in hidden(["staff"])} == {"Encounter", "ServiceRequest", "Flag"}
    assert hidden(["staff", "doctor"]) == ()
    assert hidden(["patient"]) == ()


def test_a_page_link_of_staff_is_good_in_every_process() -> None:
    told = "from fhir_server.access.roles import hidden; from fhir_server.search import Grant"
    command = [sys.executable, "-c", f"{told}; print(Grant('a', frozenset({{'staff'}}), (), hidden=hidden(['staff'])).text)"]
    texts = {subprocess.check_output(command, env={**os.environ, "PYTHONHASHSEED": seed}, text=True) for seed in "123"}
    assert len(texts) == 1
