"""Reads are written down by group commit: soon, all of them, or the reading stops."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from fhir_server.outcome import Outcome
from fhir_server.store.database import Database
from fhir_server.store.trail import Event
from fhir_server.store.trail import recorder as recording
from fhir_server.store.trail.recorder import GATHERED, LATEST, Recorder
from tests.audit.conftest import Trail
from tests.interactions.conftest import made, patient
from tests.test_cli import call, serving, token


@pytest.fixture
def recorder(trail: Trail) -> Iterator[Recorder]:
    found = Recorder(Database(trail.url, connections=1, wait=0.2))
    yield found
    found.close()


def count(trail: Trail) -> int:
    return int(trail.sql("SELECT count(*) FROM audit_event")[0][0])


def test_an_event_is_there_soon_without_being_waited_for(trail: Trail, recorder: Recorder) -> None:
    assert GATHERED < LATEST
    recorder.note(Event("read"))
    deadline = time.monotonic() + 2
    while not count(trail) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert count(trail) == 1


def test_many_at_once_are_all_written_in_few_transactions(trail: Trail, recorder: Recorder) -> None:
    def note(number: int) -> None:
        for n in range(250):
            recorder.note(Event("read", f"{number} {n}"))

    threads = [threading.Thread(target=note, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.flush()
    [(events, actors, transactions)] = trail.sql("SELECT count(*), count(DISTINCT actor), count(DISTINCT xid) FROM audit_event")
    assert events == actors == 1_000
    assert transactions < 100


def test_closing_writes_what_waits(trail: Trail) -> None:
    recorder = Recorder(Database(trail.url, connections=1))
    for _ in range(2_500):
        recorder.note(Event("read"))
    recorder.close()
    assert count(trail) == 2_500


def test_without_room_requests_wait_and_then_are_refused(trail: Trail, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_ROOM", 10)
    monkeypatch.setattr(recording, "_PATIENCE", 0.3)
    with psycopg.connect(trail.url) as other:
        other.execute("LOCK TABLE audit_event IN SHARE MODE")
        for _ in range(10):
            recorder.note(Event("read"))
        with pytest.raises(Outcome) as refused:
            recorder.note(Event("read"))
        assert (refused.value.status, "Retry-After" in refused.value.headers) == (503, True)
        monkeypatch.setattr(recording, "_PATIENCE", 20)
        waiting = threading.Thread(target=recorder.note, args=(Event("search"),))
        waiting.start()
    waiting.join()
    recorder.flush()
    assert trail.sql("SELECT kind, count(*) FROM audit_event GROUP BY kind ORDER BY kind") == [("read", 10), ("search", 1)]


def test_while_the_database_refuses_nothing_is_read_and_nothing_is_lost(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    person = made(trail.fhir, patient())
    trail.store.flush_notes()
    monkeypatch.setattr(recording, "_PATIENCE", 0.3)
    before = count(trail)
    trail.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no room''; END'")
    trail.sql("CREATE TRIGGER refusing BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION refuse()")
    answers = []
    deadline = time.monotonic() + 10
    while 503 not in answers and time.monotonic() < deadline:
        answers.append(trail.fhir("GET", f"Patient/{person}").status_code)
    assert answers[-1] == 503
    assert trail.fhir("POST", "Patient", patient()).status_code >= 500
    trail.sql("DROP TRIGGER refusing ON audit_event")
    monkeypatch.setattr(recording, "_PATIENCE", 10)
    assert trail.fhir("GET", f"Patient/{person}").status_code == 200
    trail.store.flush_notes()
    assert count(trail) - before == answers.count(200) + 1


def test_an_event_that_cannot_be_written_keeps_no_others_out(trail: Trail, recorder: Recorder) -> None:
    trail.sql("ALTER TABLE audit_event ADD CONSTRAINT no_bad CHECK (actor <> 'bad' AND 1 / (length(actor) - 4) IS NOT NULL)")
    for actor in ("one", "zero", "three", "zero", "fiver"):
        recorder.note(Event("read", actor))
    recorder.flush()
    assert [actor for (actor,) in trail.sql("SELECT actor FROM audit_event ORDER BY id")] == ["one", "three", "fiver"]


def test_bad_tokens_are_recorded_so_many_a_minute(trail: Trail) -> None:
    bad = trail.fhir.other()
    for n in range(15):
        assert bad("GET", "Patient", headers={"Authorization": f"Bearer nonsense{n}"}).status_code == 401
    assert trail.fhir("GET", "Patient", headers={"Authorization": "Basic x"}).status_code == 401
    found = trail.since(0)
    assert len(found) in (10, 15)  # Fifteen where a minute ended in between.
    assert {(event["kind"], event["outcome"], event["address"]) for event in found} == {("bad-token", 4, "127.0.0.1")}
    assert "nonsense" not in str(found)


def test_a_kill_keeps_every_write_and_what_was_read_a_moment_before(tmp_path: Path) -> None:
    body = {"resourceType": "Patient"}
    with serving(tmp_path / "data") as found:
        good = token(found.data, "--scope", "system/*.cruds", "--user", "killer")
        made = [requests.post(f"{found.base}/Patient", json=body, headers=good, timeout=10).json()["id"] for _ in range(20)]
        for identity in made:
            assert requests.get(f"{found.base}/Patient/{identity}", headers=good, timeout=10).status_code == 200
        time.sleep(LATEST)
        last = requests.post(f"{found.base}/Patient", json=body, headers=good, timeout=10)
        assert last.status_code == 201
        found.end(signal.SIGKILL)
    with serving(tmp_path / "data") as found:
        seen = requests.get(f"{found.base}/AuditEvent?agent-name=killer&_count=100", headers=good, timeout=30).json()["entry"]
        codes = [entry["resource"]["subtype"][0]["code"] for entry in seen]
        assert codes.count("create") == 21
        assert codes.count("read") == 20
        # A stop writes down what was read last.
        for identity in made:
            assert requests.get(f"{found.base}/Patient/{identity}", headers=good, timeout=10).status_code == 200
        assert found.end(signal.SIGTERM) == 0
    with serving(tmp_path / "data") as found:
        seen = requests.get(f"{found.base}/AuditEvent?agent-name=killer&_count=100", headers=good, timeout=30).json()["entry"]
        assert [entry["resource"]["subtype"][0]["code"] for entry in seen].count("read") == 40
        deadline = time.monotonic() + 20
        while "not sealed" in (done := call("audit", "verify", "--data", found.data)).stdout and time.monotonic() < deadline:
            time.sleep(0.5)
        assert (done.returncode, done.stderr) == (0, "")
        head = done.stdout.split()[-1]
        assert call("audit", "verify", "--data", found.data, "--head", head).returncode == 0
        wrong = call("audit", "verify", "--data", found.data, "--head", "0" * 63 + "1")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "does not contain" in wrong.stderr
        assert call("audit", "verify", "--data", found.data, "--head", "x").returncode == 1


def test_verify_names_the_first_broken_record(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as found:
        good = token(data, "--scope", "system/*.cruds")
        assert requests.post(f"{found.base}/Patient", json={"resourceType": "Patient"}, headers=good, timeout=10).status_code == 201
        deadline = time.monotonic() + 20
        while "not sealed" in call("audit", "verify", "--data", data).stdout and time.monotonic() < deadline:
            time.sleep(0.5)
        from fhir_server.store import postgres

        with postgres.connect_to_running(data) as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE audit_event DISABLE TRIGGER ALL")
            connection.execute("UPDATE audit_event SET actor = 'nobody' WHERE id = 2")
        done = call("audit", "verify", "--data", data)
        assert (done.returncode, done.stdout) == (1, "")
        assert "the audit chain is broken: event 2 (entry 2) was changed" in done.stderr
        assert done.stderr.count("\n") == 1
