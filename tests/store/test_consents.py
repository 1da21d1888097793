"""Rows of what Consents permit follow the Consents: as they are written, and as they are to be read under other settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.search.grant import Party
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Patch, Put

BASE: Final = "https://clinic.example.org/fhir"
ANYBODY: Final = Party((), ())


@contextmanager
def store(url: str, zone: str = "UTC", bases: tuple[str, ...] = ()) -> Iterator[Store]:
    opened = Store(url, zone=ZoneInfo(zone), bases=bases, connections=4)
    try:
        yield opened
    finally:
        opened.close()


def consent(identity: str, patient: str = "Patient/p", **provision: Any) -> Put:
    body = {
        "resourceType": "Consent",
        "id": identity,
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"text": "x"}],
        "patient": {"reference": patient},
        "provision": {"type": "permit", **provision},
    }
    return Put(body, identity)


def rows(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return sorted(connection.execute("SELECT patient, parties, purposes, lo, hi FROM consent_permit").fetchall(), key=repr)


def patients(url: str) -> list[str]:
    return [row[0] for row in rows(url)]


def test_rows_come_change_and_go_with_their_consent(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        opened.transact([consent("a"), consent("b", "Patient/q"), Create({"resourceType": "Patient"})], SYSTEM)
        assert patients(url) == ["p", "q"]
        opened.transact([consent("a", purpose=[{"code": "TREAT"}], actor=[actor("Practitioner/1"), actor("Practitioner/2")])], SYSTEM)
        assert [row[:3] for row in rows(url)] == [("p", ["Practitioner/1"], ["TREAT"]), ("p", ["Practitioner/2"], ["TREAT"]), ("q", [], [])]
        opened.transact([Patch("Consent", lambda body: {**body, "status": "inactive"}, id="a")], SYSTEM)
        assert patients(url) == ["q"]
        opened.transact([Delete("Consent", "b")], SYSTEM)
        assert rows(url) == []


def actor(reference: str) -> dict[str, Any]:
    return {"role": {"text": "x"}, "reference": {"reference": reference}}


def test_types_of_another_release_are_not_all_types(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    new: dict[str, Any] = {"system": "http://hl7.org/fhir/resource-types", "code": "NutritionIntake"}
    provisions: list[dict[str, Any]] = [{"class": [new]}, {"class": [new, {**new, "code": "Condition"}]}]
    with store(url) as opened:
        opened.transact([consent("a", **provisions[0])], SYSTEM)
        assert rows(url) == []
        opened.transact([consent("a", **provisions[1])], SYSTEM)
        with opened.snapshot(SYSTEM) as db:
            assert db.permitted(ANYBODY, [("Condition", "p"), ("Observation", "p"), ("Condition", "q")]) == {("Condition", "p")}


def test_a_patient_of_another_server_permits_nothing_here(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        opened.transact([consent("a", "https://elsewhere.example.org/fhir/Patient/p"), consent("b", "Practitioner/p")], SYSTEM)
    assert rows(url) == []


def test_dates_and_addresses_are_read_anew_under_other_settings(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        opened.fit()
        opened.transact([consent("a", f"{BASE}/Patient/p", period={"start": "2026-01-01"}), consent("b", period={"start": "2026-01-01"})], SYSTEM)
        assert [(row[0], row[3]) for row in rows(url)] == [("p", datetime(2026, 1, 1, tzinfo=UTC))]
    with store(url, "Asia/Tokyo", (BASE,)) as opened:
        assert opened.fit() == 2
        assert [(row[0], row[3]) for row in rows(url)] == [("p", datetime(2025, 12, 31, 15, tzinfo=UTC))] * 2


def test_consents_from_before_there_were_rows_are_read_when_the_server_starts(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        opened.fit()
        opened.transact([consent("a")], SYSTEM)
        before = rows(url)
    with psycopg.connect(url, autocommit=True) as connection:
        # As the migration finds and leaves it.
        connection.execute("DELETE FROM consent_permit")
        connection.execute("UPDATE index_settings SET fingerprint = fingerprint || '; consents=unread'")
    with store(url) as opened:
        with pytest.raises(Outcome, match="consents=unread there"):
            opened.check_fit()
        assert opened.fit() == 1
        assert rows(url) == before


def test_the_last_of_many_writers_of_one_consent_decides_alone(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:

        def write(number: int) -> None:
            opened.transact([consent("a", f"Patient/{number}")], SYSTEM)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(24)))
        with opened.snapshot(SYSTEM) as db:
            last = db.read("Consent", "a")
        assert last is not None
        assert last.body is not None
        (patient,) = patients(url)
        assert f'"Patient/{patient}"'.encode() in last.body
