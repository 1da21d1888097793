"""Searching inside of containers: a query over resources that stand within others, as one over these others.

https://hl7.org/fhir/R4/search.html#contained

Rows of contained resources have the negative numbers of their type's parameters and the number of the container.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .match import matches
from .query import AllOf, AnyOf, Criterion, Filter, Itself, Query, rewritten
from .registry import Registry


def over_containers(query: Query, registry: Registry) -> Query:
    """The query over all types whose matches may contain matches, or be matches themselves where `contained` is `both`.

    A container of two resources that satisfy one filter each is found, though neither matches: `inside` tells.
    """

    def change(node: Filter) -> Filter:
        return replace(node, param=replace(node.param, pid=-node.param.pid, others=())) if isinstance(node, Criterion) else node

    within = tuple(rewritten(node, change) for node in query.filters)
    types = tuple(registry.types)
    if query.contained == "true":
        return replace(query, types=types, filters=within)
    outside = AllOf((Itself(query.type), *query.filters))
    return replace(query, types=types, filters=(AnyOf((outside, AllOf(within))),))


def inside(query: Query, resource: dict[str, Any], registry: Registry) -> Iterator[dict[str, Any]]:
    """The resources contained in one that match the query as it was asked."""
    for inner in resource.get("contained", ()):
        if inner["resourceType"] == query.type and matches(query, inner, registry):
            yield inner
