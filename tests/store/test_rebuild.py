"""Index rows and the settings that they were made under."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, compile_search
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Put
from fhir_server.store.tables import INDEX_TABLES
from tests.store.anew import made_anew

ADDRESS = "http://localhost:8000/fhir"


@contextmanager
def store(url: str, zone: str = "UTC", bases: tuple[str, ...] = ()) -> Iterator[Store]:
    opened = Store(url, zone=ZoneInfo(zone), bases=bases, connections=4)
    try:
        yield opened
    finally:
        opened.close()


def observation(identity: str, **fields: Any) -> Put:
    code = {"coding": [{"system": "http://loinc.org", "code": "8302-2"}]}
    return Put({"resourceType": "Observation", "id": identity, "status": "final", "code": code, **fields}, identity)


def fill(opened: Store) -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "Ökafor", "given": ["A", "B"]}], "birthDate": "1990-05-17"}
    weight = {"value": fhirjson.loads(b"72.10"), "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}
    opened.transact([Create(patient), Create(patient)], SYSTEM)
    opened.transact([observation(f"o{n}", effectiveDateTime=f"2024-03-{n + 1:02}", valueQuantity=weight) for n in range(20)], SYSTEM)
    opened.transact([observation("o1", subject={"reference": "Patient/p"}, effectiveDateTime="2024-03-02"), Delete("Observation", "o2")], SYSTEM)
    opened.transact([Create({"resourceType": "ValueSet", "url": "urn:a", "status": "draft"})], SYSTEM)


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {table.name: sorted(connection.execute(f"SELECT * FROM {table.name}").fetchall(), key=repr) for table in INDEX_TABLES}


def indexes(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'sp\\_%' ORDER BY 1").fetchall()


def found(opened: Store, code: str, value: str) -> list[str]:
    query = opened.registry.parse("Observation", [(code, value)], strict=True)
    with opened.snapshot(SYSTEM) as db:
        return sorted(row[2] for row in db.select(compile_search(query, opened.registry, SYSTEM)))


def test_a_rebuild_under_the_same_settings_gives_the_same_rows_and_indexes(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    before_indexes = indexes(url)
    with store(url) as opened:
        assert opened.fit((ADDRESS,)) == 0
        fill(opened)
        before = rows(url)
        assert all(before[name] for name in ("sp_date", "sp_quantity", "sp_reference", "sp_string", "sp_token", "sp_uri"))
        seen: list[tuple[int, int]] = []
        assert made_anew(opened, lambda done, total: seen.append((done, total))) == 22
        assert (seen[0], seen[-1]) == ((0, 22), (22, 22))
    assert rows(url) == before
    assert indexes(url) == before_indexes
    with store(url) as opened:
        assert opened.fit((ADDRESS,)) is None


def test_dates_without_a_zone_move_with_the_clinic(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        opened.fit()
        opened.transact([observation("o", effectiveDateTime="2024-03-01")], SYSTEM)
    with store(url, "Asia/Tokyo") as opened:
        with pytest.raises(Outcome, match=r"CLINIC_TIMEZONE=UTC there, CLINIC_TIMEZONE=Asia/Tokyo here"):
            opened.check_fit()
        assert not opened.ready()
        with pytest.raises(Outcome, match="other settings"):
            opened.transact([Create({"resourceType": "Basic", "code": {"text": "x"}})], SYSTEM)
        with pytest.raises(Outcome, match="other settings"):
            opened.transact([observation("o", effectiveDateTime="2024-03-02")], SYSTEM)
        assert opened.fit() == 1
        assert opened.ready()
        assert found(opened, "date", "lt2024-02-29T16:00:00Z") == ["o"]
        opened.transact([observation("o", effectiveDateTime="2024-05-05")], SYSTEM)
        assert found(opened, "date", "2024-03-01") == []
        assert len(rows(url)["sp_date"]) == 1


def test_a_change_of_the_public_address_changes_what_is_local(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        opened.fit()
        opened.transact([observation("o", subject={"reference": "https://a.example.org/fhir/Patient/p"})], SYSTEM)
        assert found(opened, "patient", "p") == []
    with store(url, bases=("https://a.example.org/fhir",)) as opened:
        assert opened.fit() == 1
        assert found(opened, "patient", "p") == ["o"]
    with store(url, bases=("https://b.example.org/fhir",)) as opened:
        assert opened.fit() == 1
        assert found(opened, "patient", "p") == []


def test_another_port_makes_nothing_anew_unless_something_refers_to_it(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    other = ADDRESS.replace("8000", "9000")
    with store(url) as opened:
        opened.fit((ADDRESS,))
        opened.transact([observation("o", subject={"reference": f"{ADDRESS}/Patient/p"})], SYSTEM)
        before = rows(url)
        assert found(opened, "patient", "p") == ["o"]
    with store(url) as opened:
        assert opened.fit((other,)) is None
        assert rows(url) == before
        assert found(opened, "patient", "p") == ["o"]
        opened.transact([observation("q", subject={"reference": "http://localhost:7000/fhir/Patient/p"})], SYSTEM)
        assert found(opened, "patient", "p") == ["o"]
        made_anew(opened)
        assert found(opened, "patient", "p") == ["o"]
        assert opened.fit(("http://localhost:7000/fhir",)) == 2
        assert found(opened, "patient", "p") == ["o", "q"]


def test_a_process_learns_the_addresses_that_another_brings(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as first, store(url) as second:
        first.fit((ADDRESS,))
        second.transact([observation("o", subject={"reference": f"{ADDRESS}/Patient/p"})], SYSTEM)
        assert found(second, "patient", "p") == ["o"]
        first.transact([Delete("Observation", "o")], SYSTEM)
        assert not any(rows(url).values())


def test_a_rebuild_that_fails_leaves_the_old_rows(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        opened.fit()
        fill(opened)
    before, made = rows(url), indexes(url)
    with store(url, "Asia/Tokyo") as opened:

        def fail(done: int, _total: int) -> None:
            if done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            opened.fit(progress=fail)
        with pytest.raises(Outcome, match="other settings"):
            opened.check_fit()
    assert rows(url) == before
    assert indexes(url) == made


def test_a_database_from_before_is_indexed_anew_once(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        fill(opened)
        assert opened.fit() == 22
        assert opened.fit() is None


def test_one_of_several_does_the_work(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened:
        fill(opened)
        counts: list[int | None] = []
        threads = [threading.Thread(target=lambda: counts.append(opened.fit())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(counts, key=str) == [22, None, None]


def test_readers_and_writers_wait_for_a_rebuild_and_see_all_of_it(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    with store(url) as opened, store(url) as other:
        opened.fit()
        fill(opened)
        everything = found(other, "code", "8302-2")
        reached, results = threading.Event(), []

        def progress(done: int, _total: int) -> None:
            if not done:
                reached.set()
                deadline = time.monotonic() + 20
                while waiting(url) < 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)

        work = threading.Thread(target=lambda: made_anew(opened, progress))
        work.start()
        assert reached.wait(20)
        reader = threading.Thread(target=lambda: results.append(found(other, "code", "8302-2")))
        writer = threading.Thread(target=lambda: other.transact([observation("late", effectiveDateTime="2025-01-01")], SYSTEM))
        for thread in (reader, writer):
            thread.start()
        for thread in (work, reader, writer):
            thread.join(30)
        assert results in ([everything], [sorted([*everything, "late"])])
        assert found(other, "date", "2025-01-01") == ["late"]


def waiting(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").fetchone()
        return int(row[0]) if row else 0
