"""A store on this worker's database."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest

from fhir_server.store import Store


@pytest.fixture(scope="session")
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url, zone=ZoneInfo("Europe/Berlin"), bases=("http://localhost/fhir",), connections=20)
    yield opened
    opened.close()
