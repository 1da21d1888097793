"""Searching inside of containers: a query over resources that stand within others, as one over these others.

https://hl7.org/fhir/R4/search.html#contained

Rows of contained resources have the negative numbers of their type's parameters and the number of the container.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .grant import Grant
from .match import matches
from .query import AllOf, AnyOf, Criterion, Filter, Itself, Not, Query
from .registry import Registry


def over_containers(query: Query, registry: Registry, grant: Grant) -> Query:
    """The query over all types whose matches may contain matches that the grant shows, or be matches themselves where `contained` is `both`.

    The query's codes must be `resolved`. A container of two resources that satisfy one filter each is found, though neither matches, and so is one
    of a resource that has what must not be: `inside` tells.
    """
    within = tuple(found for found in map(_within, query.filters) if found is not None)
    types = tuple(filter(grant.looks_into, registry.types))
    if query.contained == "true":
        return replace(query, types=types, filters=within)
    outside = AllOf((Itself(query.type), *query.filters))
    if query.type not in types:
        types, within = (*types, query.type), (*within, Not(Itself(query.type)))
    return replace(query, types=types, filters=(AnyOf((outside, AllOf(within))),))


def _within(node: Filter) -> Filter | None:
    """What rows say of containers of resources that satisfy a filter; None where they say nothing: another one may have what this one must not."""
    match node:
        case Criterion(param, values, modifier):
            says = param.pid != 0 and param.type != "special" and modifier != "not" and not (modifier == "missing" and values[0])
            return replace(node, param=param.contained()) if says else None
        case AllOf(parts):
            found = tuple(part for part in map(_within, parts) if part is not None)
            return AllOf(found) if found else None
        case AnyOf(parts):
            ways = tuple(part for part in map(_within, parts) if part is not None)
            return AnyOf(ways) if len(ways) == len(parts) else None
    return None


def inside(query: Query, resource: dict[str, Any], registry: Registry) -> Iterator[dict[str, Any]]:
    """The resources contained in one that match the query as it was asked."""
    for inner in resource.get("contained", ()):
        if inner["resourceType"] == query.type and matches(query, inner, registry):
            yield inner
