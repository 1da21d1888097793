"""A loaded database made larger: every resource with its rows again and again, under new ids, by the database itself.

The copies refer to each other as the originals do, so a search meets the same number of matches per patient and more patients.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from fhir_server.store.tables import INDEX_TABLES, resource, resource_version

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves the factory untyped
_RENAMED = {("resource", "id"), ("sp_reference", "id"), ("sp_token_reference", "b_id")}


def multiply(url: str, times: int) -> Iterator[int]:
    """Makes the database hold its resources `times` times; yields how many there are after each copy. Indexes are made anew at the end."""
    tables = (resource, resource_version, *INDEX_TABLES)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0; SET maintenance_work_mem = '1GB'; SET synchronous_commit = off")
        row = connection.execute("SELECT max(rid), max(vid), count(*) FROM resource").fetchone()
        assert row is not None
        step, versions, count = row[0] + 1_000_000, row[1] + 1_000_000, row[2]
        indexes = [index for table in tables for index in sorted(table.indexes, key=lambda index: str(index.name))]
        connection.execute(f"DROP INDEX {', '.join(str(index.name) for index in indexes)}")
        for copy in range(1, times):
            for table in tables:
                connection.execute(_copied(table, copy, step, versions))
            yield count * (copy + 1)
        for index in indexes:
            connection.execute(str(CreateIndex(index).compile(dialect=_DIALECT)))
        connection.execute("SELECT setval('resource_rid', %s)", (step * (times + 1),))
        connection.execute("SELECT setval(pg_get_serial_sequence('resource_version', 'vid'), %s)", (versions * (times + 1),))
        connection.execute("VACUUM")


def _copied(table: Table, copy: int, step: int, versions: int) -> str:
    names = [column.name for column in table.columns if (table.name, column.name) != ("resource_version", "xid")]
    changed = {"rid": f"rid + {copy * step}", "vid": f"vid + {copy * versions}"}
    for name in names:
        if (table.name, name) in _RENAMED:
            # References elsewhere stay; ids are shortened to what an id may have.
            local = "TRUE" if table is resource else f"{name.removesuffix('id')}type <> 0"
            changed[name] = f"CASE WHEN {local} THEN left({name}, 58) || '-' || {copy} ELSE {name} END"
    values = ", ".join(changed.get(name, name) for name in names)
    overriding = "OVERRIDING SYSTEM VALUE " if table is resource_version else ""
    return f"INSERT INTO {table.name} ({', '.join(names)}) {overriding}SELECT {values} FROM {table.name} WHERE rid < {step}"
