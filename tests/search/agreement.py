"""The law of every parameter type: the predicate finds in SQL what `matches` says in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.search import Statement
from fhir_server.search.conditions import numbered
from fhir_server.search.params import kind_of

UPDATED = "2020-01-01T00:00:00.000Z"


def assert_agreement(database: Any, name: str, code: str, elements: Sequence[dict[str, Any]], queries: Sequence[str]) -> None:
    """For resources of a type with these elements, and values of one of its parameters, one by one and as alternatives."""
    registry = database.registry
    param = registry.supported_params(name)[code]
    kind = kind_of(param)
    resources = [{"resourceType": name, "id": f"r{rid}", "meta": {"lastUpdated": UPDATED}, **own} for rid, own in enumerate(elements, start=1)]
    rows = [[row[1:] for row in registry.rows(resource).get(kind.TABLE, ()) if row[0] in param.pids] for resource in resources]
    values = [kind.parse(query, None, param.targets, registry.context) for query in queries]
    with database.holding(resources) as run:
        for asked in ([values] if len(values) > 1 else []) + [[value] for value in values]:
            found = kind.predicate(asked, "f.")
            text = f"SELECT DISTINCT f.rid FROM {kind.TABLE} f WHERE {numbered(param.pids, 'f')} AND {found.text}"
            expected = {rid for rid, own in enumerate(rows, start=1) if any(kind.matches(value, row) for value in asked for row in own)}
            assert {row[0] for row in run(Statement(text, found.params))} == expected, asked


def plan(database: Any, name: str, code: str, query: str, values: dict[str, str] | None = None) -> str:
    """How PostgreSQL finds the rows of one value if it may not read the whole table; `values` are columns of 5,000 rows, by their number `g`."""
    param = database.registry.supported_params(name)[code]
    kind = kind_of(param)
    found = kind.predicate([kind.parse(query, None, param.targets, database.registry.context)], "f.")
    with database.connection.transaction(force_rollback=True):
        if values:
            names, made = ", ".join(values), ", ".join(values.values())
            database.connection.execute(f"INSERT INTO {kind.TABLE} (pid, rid, {names}) SELECT {param.pid}, g, {made} FROM generate_series(1, 5000) g")
            database.connection.execute(f"ANALYZE {kind.TABLE}")
        database.connection.execute("SET LOCAL enable_seqscan = off")
        text = f"EXPLAIN SELECT f.rid FROM {kind.TABLE} f WHERE f.pid = {param.pid} AND {found.text}"
        return "\n".join(row[0] for row in database.run(Statement(text, found.params)))
