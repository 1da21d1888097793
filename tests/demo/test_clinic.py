"""The demo clinic: what is in it, on a day and at night, and that opening it once more changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from fhir_server import fhirjson
from fhir_server.clinic.queue.board import board
from fhir_server.demo import open_clinic
from fhir_server.search import SYSTEM
from fhir_server.spec import r4
from fhir_server.store import Store
from fhir_server.store.snapshot import HistoryScope
from fhir_server.validation import Validator

ZONE = ZoneInfo("Europe/Berlin")
BUSY = datetime(2031, 3, 4, 11, 10, tzinfo=ZONE)
NIGHT = datetime(2031, 3, 8, 23, 40, tzinfo=ZONE)


def counts(store: Store) -> Counter[str]:
    with store.database.connection() as connection:
        rows = connection.execute("SELECT t.name, count(*) FROM resource r JOIN resource_type t ON t.tid = r.type WHERE NOT r.deleted GROUP BY 1")
        return Counter(dict(rows.fetchall()))


@pytest.mark.parametrize("now", [BUSY, NIGHT], ids=["on a day", "at night on a Saturday"])
def test_a_clinic_that_is_at_work(fresh_database: Callable[[], str], now: datetime) -> None:
    store = Store(fresh_database(), zone=ZONE)
    try:
        open_clinic(store.by(lambda: now))
        found = counts(store)
        assert found["Practitioner"] == found["Schedule"] == 6
        assert (found["Patient"], found["Organization"]) == (200, 1)
        assert found["Encounter"] > 250
        assert found["DiagnosticReport"] > 100
        assert (found["Invoice"], found["Coverage"]) == (8, 10)
        with store.database.connection() as connection:
            shares = connection.execute("SELECT count(*) FROM insured_invoice").fetchone()
        assert shares is not None
        assert shares[0] >= 1
        for location in ("demo-location", "demo-harbour"):
            shown = fhirjson.loads(board(store.by(lambda: now), SYSTEM, location))
            entries = [{part["name"]: part for part in entry["part"]} for entry in shown["parameter"] if entry["name"] == "entry"]
            zones = Counter(entry["zone"]["valueCode"] for entry in entries)
            assert set(zones) == {"emergency", "follow-up", "regular"}
            assert {entry["state"]["valueCode"] for entry in entries} == {"waiting", "called", "in-service"}
        with store.snapshot(SYSTEM) as db:
            versions = db.history(HistoryScope(), 10_000)[0]
        validator = Validator(r4())
        for _, version in versions:
            if version.body is not None:
                validator.require(fhirjson.loads(version.body))
        before = len(versions)
        open_clinic(store.by(lambda: now))
        with store.snapshot(SYSTEM) as db:
            assert len(db.history(HistoryScope(), 10_000)[0]) == before
    finally:
        store.close()
