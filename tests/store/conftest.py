"""A store on this worker's database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.store import Store
from fhir_server.store.session import Session


@pytest.fixture(scope="session")
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url, zone=ZoneInfo("Europe/Berlin"), bases=("http://localhost/fhir",), connections=20)
    yield opened
    opened.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Counts the SQL statements that a call runs in its own thread, transaction commands included; the numbers taken in blocks are left out."""
    seen: list[str] = []
    here = threading.get_ident()
    execute = Session.execute
    transaction = Session.transaction

    def counting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if "nextval" not in str(query) and threading.get_ident() == here:
            seen.append(str(query))
        return execute(self, query, *arguments, **options)

    def counting_transaction(self: Any, *arguments: Any, **options: Any) -> Any:
        if threading.get_ident() == here:
            seen.extend(["BEGIN", "COMMIT"])
        return transaction(self, *arguments, **options)

    monkeypatch.setattr(Session, "execute", counting)
    monkeypatch.setattr(Session, "transaction", counting_transaction)

    def count(work: Callable[[], object]) -> int:
        seen.clear()
        work()
        return len(seen)

    return count
