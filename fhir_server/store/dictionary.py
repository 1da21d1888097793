"""Small integers for long names: resource types, search parameters, code systems; and blocks of resource and transaction numbers.

Types and parameters are written by `migrate` and read once; systems are added as they are met.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from itertools import islice

from fhir_server.outcome import Outcome
from fhir_server.search.params.kind import capped

from .database import RETRY_AFTER, Connection, Database, scalar
from .tables import BLOCK

_MAX_SYSTEMS = 200_000
_SYSTEMS = "SELECT url, sid FROM token_system WHERE url = ANY(%s::text[])"


class Dictionary:
    """The dictionaries of one database, as one process knows them."""

    def __init__(self, database: Database) -> None:
        """Reads types and parameters. Raises Outcome `unavailable` when the database is away or not migrated."""
        self._database = database
        with database.connection() as connection:
            if schema_version(connection) is None:
                raise Outcome("unavailable", "The database is empty; `fhir-server migrate` makes its tables", headers=RETRY_AFTER)
            self.types: Mapping[str, int] = {name: tid for tid, name in connection.execute("SELECT tid, name FROM resource_type")}
            parameters = connection.execute("SELECT type, code, pid FROM search_param").fetchall()
        self.names: Mapping[int, str] = {tid: name for name, tid in self.types.items()}
        self.parameters: Mapping[tuple[str, str], int] = {(name, code): pid for name, code, pid in parameters}
        self._systems: dict[str, int] = {"": 0}
        self._numbers = {"resource_rid": iter(()), "transaction_txn": iter(())}  # type: dict[str, Iterator[int]]
        self._lock = threading.Lock()

    def systems(self, urls: set[str]) -> Mapping[str, int]:
        """Numbers of code systems; unknown ones are added, in a transaction of their own so that no writer waits for another."""
        known = self._systems
        missing = urls - known.keys()
        if not missing:
            return known
        # In order, so that sessions that add the same ones wait in a line; a URL may be longer than an index row.
        stored = {url: capped(url) for url in missing}
        wanted = sorted(stored.values())
        with self._database.connection() as connection:
            found = dict(connection.execute(_SYSTEMS, (wanted,)).fetchall())
            if new := [text for text in wanted if text not in found]:
                connection.execute("INSERT INTO token_system (url) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (new,))
                found = dict(connection.execute(_SYSTEMS, (wanted,)).fetchall())
        merged = {**known, **{url: found[text] for url, text in stored.items()}}
        # What this call was asked for it answers, however much that is; what is kept has a bound.
        self._systems = merged if len(merged) <= _MAX_SYSTEMS else {"": 0}
        return merged

    def resource_numbers(self, count: int) -> list[int]:
        """Numbers for new resources."""
        return self._take("resource_rid", count)

    def transaction_number(self) -> int:
        """The number of a new transaction."""
        return self._take("transaction_txn", 1)[0]

    def _take(self, sequence: str, count: int) -> list[int]:
        with self._lock:
            taken = list(islice(self._numbers[sequence], count))
            if len(taken) < count:
                blocks = -(-(count - len(taken)) // BLOCK)
                with self._database.connection() as connection:
                    fresh = _blocks(connection, sequence, blocks)
                taken += islice(fresh, count - len(taken))
                self._numbers[sequence] = fresh
            return taken


def _blocks(connection: Connection, sequence: str, count: int) -> Iterator[int]:
    rows = connection.execute("SELECT nextval(%s::regclass) FROM generate_series(1, %s)", (sequence, count)).fetchall()
    return iter([number for (start,) in rows for number in range(start, start + BLOCK)])


def schema_version(connection: Connection) -> str | None:
    """The Alembic revision that the database is at, None for an empty database."""
    if scalar(connection, "SELECT to_regclass('alembic_version')") is None:
        return None
    version: str | None = scalar(connection, "SELECT version_num FROM alembic_version")
    return version
