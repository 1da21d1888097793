from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable

import pytest

from fhir_server.store.reindexing import jobs
from fhir_server.store.tables import INDEX_TABLES
from tests.web.conftest import SECRET, Clinic, Json

from .conftest import Desk, problem, token_of


@pytest.fixture
def busy(make_clinic: Callable[..., Clinic]) -> Desk:
    """A desk at a process whose background works."""
    clinic = make_clinic()
    clinic.store.index_in_background()
    return Desk(clinic, token_of(clinic.clock()))


def settled(desk: Desk, job: Json) -> Json:
    deadline = time.monotonic() + 30
    found: Json = job
    while found["state"] in ("waiting", "running") and time.monotonic() < deadline:
        time.sleep(0.05)
        found = desk.ok("GET", f"/reindex-jobs/{job['id']}")
    return found


def write(clinic: Clinic, body: Json) -> None:
    token = token_of(clinic.clock(), None, "system/*.cruds")
    answer = clinic("PUT", f"/fhir/{body['resourceType']}/{body['id']}", body, token)
    assert answer.status_code in (200, 201), answer.text


def rows(clinic: Clinic) -> int:
    with clinic.store.database.connection() as connection:
        return sum(connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()[0][0] for table in INDEX_TABLES)


def test_a_job_makes_the_rows_anew(busy: Desk) -> None:
    clinic = busy.clinic
    for n in range(5):
        write(clinic, {"resourceType": "Patient", "id": f"indexed-{n}", "name": [{"family": "Okafor"}]})
    before = rows(clinic)
    with clinic.store.database.connection() as connection:
        connection.execute("DELETE FROM sp_string")
    assert rows(clinic) < before
    answer = busy("POST", "/reindex-jobs", {"type": "Patient"})
    assert answer.status_code == 202
    job = json.loads(answer.data)
    assert (job["type"], job["parameter"], job["asked_by"]) == ("Patient", None, "role/admin")
    assert busy("GET", answer.headers["Location"]).status_code == 200
    done = settled(busy, job)
    assert (done["state"], done["fault"]) == ("done", None)
    assert done["done"] == done["total"] >= 5
    assert done["created"] <= done["started"] <= done["ended"]
    assert rows(clinic) == before
    one = settled(busy, busy.ok("POST", "/reindex-jobs", {"type": "Patient", "parameter": "family"}, 202))
    assert one["state"] == "done"
    everything = settled(busy, busy.ok("POST", "/reindex-jobs", {}, 202))
    assert (everything["state"], rows(clinic)) == ("done", before)


def test_a_job_is_of_what_there_is(desk: Desk) -> None:
    assert "Nonsense" in problem(desk("POST", "/reindex-jobs", {"type": "Nonsense"}), 422)["detail"]
    problem(desk("POST", "/reindex-jobs", {"type": "Patient", "parameter": "nonsense"}), 422)
    problem(desk("GET", "/reindex-jobs/nobody"), 404)


def test_the_same_waits_once(desk: Desk) -> None:
    key = uuid.uuid4().hex
    first = desk.ok("POST", "/reindex-jobs", {"type": "Basic"}, 202, Idempotency_Key=key)
    assert desk.ok("POST", "/reindex-jobs", {"type": "Basic"}, 202, Idempotency_Key=key) == first
    assert first["id"] in problem(desk("POST", "/reindex-jobs", {"type": "Basic"}), 409)["detail"]
    second = desk.ok("POST", "/reindex-jobs", {"type": "Basic", "parameter": "code"}, 202)
    page = desk.ok("GET", "/reindex-jobs?limit=1")
    assert [each["id"] for each in page["items"]] == [second["id"]]
    after = desk.ok("GET", page["next"].removeprefix("http://localhost"))
    assert after["items"][0]["id"] == first["id"]


def test_a_job_whose_process_has_ended_is_begun_anew(busy: Desk, clinic: Clinic) -> None:
    with clinic.store.database.connection() as connection:
        job = jobs.ask(connection, "Organization", None, "somebody", clinic.clock.now())
        connection.execute("UPDATE reindex_job SET state = 'running', done = 7 WHERE id = %s", (job.id,))
    clinic.store.wake()
    busy.clinic.store.wake()
    done = settled(busy, {"id": job.id, "state": "running"})
    assert (done["state"], done["done"]) == ("done", 0)


def test_a_job_that_fails_says_why(busy: Desk, clinic: Clinic) -> None:
    with clinic.store.database.connection() as connection:
        job = jobs.ask(connection, "Patient", "gone-since", "somebody", clinic.clock.now())
    busy.clinic.store.wake()
    done = settled(busy, {"id": job.id, "state": "waiting"})
    assert done["state"] == "failed"
    assert "gone-since" in done["fault"]


def test_added_parameters_are_listed_with_their_progress(busy: Desk, make_clinic: Callable[..., Clinic]) -> None:
    clinic = make_clinic()
    codes = [f"own-{n}" for n in range(3)]
    for code in codes:
        body = {"resourceType": "SearchParameter", "id": code, "url": f"urn:{code}", "name": code, "status": "active", "description": code}
        write(clinic, body | {"code": code, "base": ["Patient"], "type": "string", "expression": "Patient.name.family"})
    deadline = time.monotonic() + 30
    while True:
        found, address = [], "/search-parameters?limit=2"
        while address:
            page = busy.ok("GET", address.removeprefix("http://localhost"))
            found += page["items"]
            address = page["next"]
        if all(each["ready"] for each in found) or time.monotonic() > deadline:
            break
        busy.clinic.store.wake()
        time.sleep(0.1)
    assert sorted(each["code"] for each in found) == codes
    assert {(each["type"], each["ready"], each["percent"]) for each in found} == {("Patient", True, 100)}
    assert {(each["url"], each["source"]) for each in found} == {(f"urn:{code}", code) for code in codes}


def test_settings_are_shown_without_their_secrets(desk: Desk, clinic: Clinic) -> None:
    answer = desk("GET", "/settings")
    found = {each["name"]: each["value"] for each in json.loads(answer.data)["items"]}
    assert found["JWT_SECRET"] == "set"
    assert found["SMTP_URL"] == "set"
    assert found["CURRENCY"] == "EUR"
    assert SECRET not in answer.text
    assert str(clinic.settings.smtp_url) not in answer.text


def test_figures_are_those_of_the_database(desk: Desk, clinic: Clinic) -> None:
    write(clinic, {"resourceType": "Basic", "id": "counted", "code": {"text": "x"}})
    before = desk.ok("GET", "/statistics")
    clinic.session(clinic.account("staff"))
    clinic.account("staff", "doctor", state="locked")
    write(clinic, {"resourceType": "Basic", "id": "counted-too", "code": {"text": "x"}})
    after = desk.ok("GET", "/statistics")
    assert after["resources"]["Basic"] == before["resources"]["Basic"] + 1
    assert after["sessions"] == before["sessions"] + 1

    def count(figures: Json, role: str, state: str) -> int:
        return sum(each["count"] for each in figures["accounts"] if (each["role"], each["state"]) == (role, state))

    assert count(after, "staff", "active") == count(before, "staff", "active") + 1
    assert count(after, "staff", "locked") == count(before, "staff", "locked") + 1
    assert count(after, "doctor", "locked") == count(before, "doctor", "locked") + 1
    assert after["database_bytes"] > 1_000_000
    assert after["uptime"] >= before["uptime"] >= 0
    assert after["version"]
