"""Small integers for long names: resource types, search parameters, code systems; and blocks of resource and transaction numbers.

Types are written by `migrate` and read once; systems are added as they are met; parameters are read again when their generation has gone up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from fhir_server.outcome import Outcome
from fhir_server.search.params.derived import derived
from fhir_server.search.params.kind import capped
from fhir_server.spec import SearchParam, r4
from fhir_server.store.database import RETRY_AFTER, Connection, Database, scalar
from fhir_server.store.tables import BLOCK

_MAX_SYSTEMS = 200_000
_SYSTEMS = "SELECT url, sid FROM token_system WHERE url = ANY(%s::text[])"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The search parameters of a database at one generation.

    `numbers` are those that answer, by type and code; `added` the definitions of those among them that came at run time. `coming` are those whose
    rows are still being made, by type and number. `heard` are the types whose changes somebody listens to, at the generation `listening`.
    """

    generation: int
    numbers: Mapping[tuple[str, str], int]
    added: Mapping[str, Mapping[str, SearchParam]]
    coming: Mapping[str, Mapping[int, SearchParam]]
    listening: int
    heard: frozenset[str]


def parameters(connection: Connection) -> Parameters:
    """What the database has. One statement, so that it is of one moment; 5 ms."""
    # A row without a number brings the generation where there is no parameter.
    rows = connection.execute(
        "SELECT generation, listening, ARRAY(SELECT DISTINCT type FROM outbox_listener), pid, type, code, definition, ready"
        " FROM search_generation LEFT JOIN search_param ON retired IS NULL ORDER BY pid"
    ).fetchall()
    numbers: dict[tuple[str, str], int] = {}
    added: dict[str, dict[str, SearchParam]] = {}
    coming: dict[str, dict[int, SearchParam]] = {}
    for _, _, _, pid, name, code, definition, ready in rows:
        if pid is None:
            continue
        if ready:
            numbers[name, code] = pid
            if definition is not None and ":" not in code:
                added.setdefault(name, {})[code] = decoded(definition)
        elif (param := decoded(definition) if definition is not None else stated(name, code)) is not None:
            coming.setdefault(name, {})[pid] = param
    return Parameters(rows[0][0], numbers, added, coming, rows[0][1], frozenset(rows[0][2]))


def stated(resource_type: str, code: str) -> SearchParam | None:
    """The specification's own parameter of a type, or what is derived from one for a modifier, such as `code:text`."""
    own = r4().search_params(resource_type).get(code.partition(":")[0])
    return next((param for param in (own, *derived(own)) if param.code == code), None) if own is not None else None


def encoded(param: SearchParam) -> str:
    """A definition as `search_param` keeps it."""
    return msgspec.json.encode(param).decode()


def decoded(text: str) -> SearchParam:
    """The same back."""
    return msgspec.json.decode(text, type=SearchParam)


class Dictionary:
    """The dictionaries of one database, as one process knows them."""

    def __init__(self, database: Database) -> None:
        """Reads the types. Raises Outcome `unavailable` when the database is away or not migrated."""
        self._database = database
        with database.connection() as connection:
            if schema_version(connection) is None:
                raise Outcome("unavailable", "The database is empty; `fhir-server migrate` makes its tables", headers=RETRY_AFTER)
            self.types: Mapping[str, int] = {name: tid for tid, name in connection.execute("SELECT tid, name FROM resource_type")}
        self.names: Mapping[int, str] = {tid: name for name, tid in self.types.items()}
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
            found: dict[str, int] = dict(connection.execute(_SYSTEMS, (wanted,)).fetchall())
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
