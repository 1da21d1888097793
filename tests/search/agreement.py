"""The law of every parameter type: the predicate finds in SQL what `matches` says in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.search import Statement
from fhir_server.search.params import kind_of

UPDATED = "2020-01-01T00:00:00.000Z"


def assert_agreement(database: Any, name: str, code: str, elements: Sequence[dict[str, Any]], queries: Sequence[str]) -> None:
    """For resources of a type with these elements, and values of one of its parameters, one by one and as alternatives."""
    registry = database.registry
    param = registry.supported_params(name)[code]
    kind = kind_of(param)
    resources = [{"resourceType": name, "id": f"r{rid}", "meta": {"lastUpdated": UPDATED}, **own} for rid, own in enumerate(elements, start=1)]
    rows = [[row[1:] for row in registry.rows(resource).get(kind.TABLE, ()) if row[0] == param.pid] for resource in resources]
    values = [kind.parse(query, None, param.targets, registry.context) for query in queries]
    with database.holding(resources) as run:
        for asked in ([values] if len(values) > 1 else []) + [[value] for value in values]:
            found = kind.predicate(asked, "f.")
            text = f"SELECT DISTINCT f.rid FROM {kind.TABLE} f WHERE f.pid = {param.pid} AND {found.text}"
            expected = {rid for rid, own in enumerate(rows, start=1) if any(kind.matches(value, row) for value in asked for row in own)}
            assert {row[0] for row in run(Statement(text, found.params))} == expected, asked
