"""A server over a database of its own: what these tests count, others must not add to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from fhir_server.store import Store
from fhir_server.store.trail.chain import Sealer, Verdict, verify
from tests.interactions.conftest import Fhir, MakeFhir, make_fhir

__all__ = ["make_fhir"]

Json = dict[str, Any]


class Trail:
    """The trail of one database, and a server over it."""

    def __init__(self, url: str, fhir: Fhir) -> None:
        self.url = url
        self.fhir = fhir
        self.store: Store = fhir.app.extensions["store"]

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(statement, arguments)
            return found.fetchall() if found.description is not None else []

    def forge(self, *statements: str) -> None:
        """What somebody does who owns the database and knows what they are doing."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            tables = ("audit_event", "audit_chain")
            for table in tables:
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            for statement in statements:
                connection.execute(statement)
            for table in tables:
                for trigger in ("is_appended_to", "is_archived"):
                    connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{trigger}")

    def since(self, mark: int) -> list[Json]:
        """The events behind a number, as they stand, once all that was handed over is there."""
        self.store.flush_notes()
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute("SELECT * FROM audit_event WHERE id > %s ORDER BY id", (mark,))
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def mark(self) -> int:
        self.store.flush_notes()
        return int(self.sql("SELECT coalesce(max(id), 0) FROM audit_event")[0][0])

    def during(self, work: Callable[[], object]) -> list[Json]:
        """The events that something leaves."""
        mark = self.mark()
        work()
        return self.since(mark)

    def seal(self) -> None:
        """Seals all there is."""
        self.store.flush_notes()
        sealer = Sealer(self.store.database)
        while sealer.seal():
            pass

    def verify(self, head: str | None = None) -> Verdict:
        return verify(self.store.database, head=head)


@pytest.fixture
def trail(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Trail]:
    url = fresh_database()
    found = Trail(url, make_fhir(url))
    yield found
    # Its sessions would otherwise stay open to the end of the run, one trail's after the other's.
    found.store.close()


@pytest.fixture(scope="module")
def shared(make_fhir: MakeFhir, fresh_database: Callable[[], str]) -> Iterator[Trail]:
    url = fresh_database()
    found = Trail(url, make_fhir(url))
    yield found
    found.store.close()
