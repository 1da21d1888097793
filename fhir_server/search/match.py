"""Whether a resource matches a query, decided in memory: the same answer as the SQL's, by the same rows.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from typing import Any

from .extraction import Rows
from .params import KINDS, date
from .query import OF_THE_POINTER, Criterion, Query
from .registry import Registry


def matches(query: Query, resource: dict[str, Any], registry: Registry) -> bool:
    """Whether a valid resource satisfies all filters of a query for its type. Costs about as much as its index rows."""
    if resource["resourceType"] != query.type:
        return False
    rows = registry.rows(resource)
    return all(_holds(criterion, resource, rows, registry) for criterion in query.filters)


def _holds(criterion: Criterion, resource: dict[str, Any], rows: Rows, registry: Registry) -> bool:
    if criterion.param.code in OF_THE_POINTER:
        return _of_the_pointer(criterion, resource, registry)
    kind = KINDS[criterion.param.type]
    own = [row[1:] for row in rows.get(kind.TABLE, ()) if row[0] == criterion.param.pid]
    if criterion.modifier == "missing":
        return bool(own) is not criterion.values[0]
    found = any(kind.matches(value, row) for value in criterion.values for row in own)
    return found is (criterion.modifier != "not")


def _of_the_pointer(criterion: Criterion, resource: dict[str, Any], registry: Registry) -> bool:
    if criterion.modifier == "missing":
        return criterion.values[0] is False
    if criterion.param.code == "_id":
        return (resource.get("id") in criterion.values) != (criterion.modifier == "not")
    updated = date.span(resource["meta"]["lastUpdated"], registry.zone)[0]
    return any(_updated(span, updated) for span in criterion.values)


def _updated(span: date.Span, updated: str) -> bool:
    match span.prefix:
        case "eq" | "ap":
            return span.lo <= updated < span.hi
        case "ne":
            return not span.lo <= updated < span.hi
        case "gt" | "sa":
            return updated >= span.hi
        case "ge":
            return updated >= span.lo
        case "le":
            return updated < span.hi
        case _:
            return updated < span.lo
