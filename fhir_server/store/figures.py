"""Figures about the database, for whoever runs the server."""

from __future__ import annotations

from dataclasses import dataclass

from .database import Connection, scalar


@dataclass(frozen=True, slots=True)
class Figures:
    """How many resources there are by type, deleted ones left out, how many versions there are of all, and the size of the database in bytes."""

    resources: dict[str, int]
    versions: int
    database_bytes: int


def figures(connection: Connection) -> Figures:
    """The figures of now; `versions` as the planner estimates it. Counts an index from end to end: 100,000 resources take 15 ms."""
    rows = connection.execute(
        "SELECT t.name, counted.n FROM (SELECT type, count(*) AS n FROM resource WHERE NOT deleted GROUP BY type) AS counted"
        " JOIN resource_type t ON t.tid = counted.type ORDER BY t.name"
    ).fetchall()
    versions = scalar(connection, "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'resource_version'::regclass")
    return Figures(dict(rows), versions, scalar(connection, "SELECT pg_database_size(current_database())"))
