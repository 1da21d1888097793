"""A registry without a database, and a database whose rows are written straight from the registry and taken back after each use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql

from fhir_server import fhirjson
from fhir_server.search import Registry, Statement
from fhir_server.search.params.derived import derived
from fhir_server.search.registry import ADDED_FROM
from fhir_server.search.tables import metadata
from fhir_server.spec import r4

from .worlds import permit

BASE = "http://localhost/fhir"
ZONE = ZoneInfo("Europe/Berlin")

Json = dict[str, Any]
Rows = list[tuple[Any, ...]]


class Database:
    """Resources with their index rows, numbered 1, 2, … in the order given."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.connection = connection
        types = {name: tid for tid, name in connection.execute("SELECT tid, name FROM resource_type")}
        pids = {(name, code): pid for name, code, pid in connection.execute("SELECT type, code, pid FROM search_param")}
        self.registry = Registry(r4(), types=types, pids=pids, zone=ZONE, base_url_prefixes=(BASE,))
        self.systems: dict[str, int] = {"": 0}
        self.apart = apart(self.registry, pids)
        permit(connection, types)

    @contextmanager
    def holding(self, resources: Sequence[Json]) -> Iterator[Callable[[Statement], Rows]]:
        """Runs statements while these resources are there."""
        with self.connection.transaction(force_rollback=True):
            self.systems = {"": 0}
            self._insert(resources)
            yield self.run

    def run(self, statement: Statement) -> Rows:
        return self.connection.execute(statement.text, statement.params).fetchall()

    def _insert(self, resources: Sequence[Json]) -> None:
        stored: dict[str, Rows] = {"resource": [], "resource_version": []}
        for rid, resource in enumerate(resources, start=1):
            tid, updated = self.registry.types[resource["resourceType"]], resource["meta"]["lastUpdated"]
            stored["resource"].append((rid, tid, resource["id"], rid, 1, False, updated))
            stored["resource_version"].append((rid, rid, tid, 1, "P", updated, 1, fhirjson.dumps(resource).decode()))
            for table, rows in self.registry.rows(resource).items():
                coded = [name.endswith("system") for name in _names(table)]
                stored.setdefault(table, []).extend(
                    (*[self._system(value) if is_system else value for value, is_system in zip(row, coded, strict=True)], rid) for row in rows
                )
        with self.connection.cursor() as cursor:
            for table, rows in stored.items():
                columns = {"resource_version": ("vid", "rid", "type", "version", "method", "at", "txn", "body")}.get(table, (*_names(table), "rid"))
                if table == "resource":
                    columns = tuple(column.name for column in metadata.tables[table].columns)
                statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
                )
                cursor.executemany(statement, rows)

    def _system(self, url: str) -> int:
        if url not in self.systems:
            found = self.connection.execute("INSERT INTO token_system (url) VALUES (%s) RETURNING sid", (url,)).fetchone()
            assert found is not None
            self.systems[url] = found[0]
        return self.systems[url]


def _names(table: str) -> list[str]:
    return [column.name for column in metadata.tables[table].columns if column.name != "rid"]


Holding = Callable[[Sequence[Json]], AbstractContextManager[Callable[[Statement], Rows]]]


def apart(registry: Registry, pids: Mapping[tuple[str, str], int]) -> Registry:
    """The same where every parameter has all of its rows itself, as those have that came at run time."""
    numbers = {key: ADDED_FROM + pid for key, pid in pids.items()}
    return Registry(registry.spec, types=registry.types, pids=numbers, zone=registry.zone, base_url_prefixes=(BASE,))


@pytest.fixture(scope="session")
def database(fresh_database: Callable[[], str]) -> Iterator[Database]:
    with psycopg.connect(fresh_database(), autocommit=True) as connection:
        yield Database(connection)


@pytest.fixture(scope="session")
def registry() -> Registry:
    spec = r4()
    stated = [(name, param) for name in spec.resource_types for param in spec.search_params(name).values()]
    pairs = [(name, each.code) for name, param in stated for each in (param, *derived(param))]
    types = {name: number for number, name in enumerate(spec.resource_types, start=1)}
    return Registry(spec, types=types, pids={pair: number for number, pair in enumerate(pairs, start=1)}, zone=ZONE, base_url_prefixes=(BASE,))
