"""Conditions of writes: found under locks, so that two concurrent conditional creates make one resource.

https://hl7.org/fhir/R4/http.html#ccreate, https://hl7.org/fhir/R4/http.html#concurrency

Every condition holds an advisory lock until its transaction ends. Conditions that name one token (an identifier, as nearly all do) lock that token
and share the lock of the type; any other condition takes the lock of the type alone. So those that could meet do, and the others do not wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Query, Registry
from fhir_server.search.compile import compile_matching
from fhir_server.store.arrays import rows_of
from fhir_server.store.database import Connection

_UNION = 50
_MAX_TOKENS = 250
"""Tokens of one type that a transaction locks one by one: PostgreSQL has room for 6,400 locks of all sessions. Beyond, it locks the type."""


@dataclass(frozen=True, slots=True)
class Match:
    """A resource that a condition found, and the version number that met the condition."""

    type: str
    id: str
    vid: int


def lock_conditions(connection: Connection, queries: Sequence[Query]) -> None:
    """Waits until no other transaction holds a condition that could meet one of these."""
    tokens: dict[str, set[str | None]] = {}
    for query in queries:
        tokens.setdefault(query.type, set()).add(query.lock_token())
    exclusive: set[int] = set()
    shared: set[int] = set()
    for name, named in tokens.items():
        if None in named or len(named) > _MAX_TOKENS:
            exclusive.add(_key(name))
        else:
            shared.add(_key(name))
            exclusive.update(_key(f"{name}\0{token}") for token in named)
    locks = sorted({**dict.fromkeys(shared, True), **dict.fromkeys(exclusive, False)}.items())
    if locks:
        connection.execute(
            "SELECT CASE WHEN x.shared THEN pg_advisory_xact_lock_shared(x.key) ELSE pg_advisory_xact_lock(x.key) END"
            f" FROM {rows_of('bigint', 'boolean')} WITH ORDINALITY AS x(key, shared, n) ORDER BY x.n",
            ([key for key, _ in locks], [is_shared for _, is_shared in locks]),
        )


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def match_all(connection: Connection, registry: Registry, grant: Grant, queries: Sequence[Query], limits: Sequence[int]) -> list[list[Match]]:
    """What each query finds, up to its limit. Fifty queries are one statement. Raises Outcome `precondition` for one without a parameter."""
    found: list[list[Match]] = [[] for _ in queries]
    for start in range(0, len(queries), _UNION):
        parts: list[str] = []
        arguments: list[object] = []
        for number in range(start, min(start + _UNION, len(queries))):
            query = queries[number]
            if not query.filters:
                raise Outcome("precondition", "A condition needs at least one search parameter")
            statement = compile_matching(query, registry, grant, limits[number])
            parts.append(f"SELECT {number} AS n, m.type, m.id, m.vid FROM ({statement.text}) AS m")
            arguments += statement.params
        for number, tid, identity, vid in connection.execute(" UNION ALL ".join(parts), arguments):
            found[number].append(Match(registry.type_name(tid), identity, vid))
    return found
