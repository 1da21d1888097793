"""Whose rights a Subscription has: those of whoever has written it last, kept in the same transaction, through whatever door.

https://hl7.org/fhir/R4/subscription.html#safety
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from fhir_server.search import SYSTEM, Grant, Scope
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Op, Put
from fhir_server.store.writing.plan import Target

SERVER: Final = replace(SYSTEM)
"""The server itself, where it notes how it goes with a Subscription; known by being this very value."""

_TYPE: Final = "Subscription"
_KEEP: Final = """
INSERT INTO subscription (id, holder, state) VALUES (%s, %s, 'new')
ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, state = 'new', failures = 0, fault = NULL, due = NULL
"""


def concerns(ops: Iterable[Op]) -> bool:
    """Whether some op is about a Subscription."""
    return any((op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type) == _TYPE for op in ops)


def follow(connection: Connection, targets: Iterable[Target], grant: Grant) -> None:
    """Keeps the writer of each Subscription that is written, which is to be checked anew then; forgets those that are deleted."""
    if grant is SERVER:
        return
    for target in targets:
        if target.type == _TYPE and target.resource is None:
            connection.execute("DELETE FROM subscription WHERE id = %s", (target.id,))
        elif target.type == _TYPE:
            connection.execute(_KEEP, (target.id, holder_text(grant)))


def holder_of(text: str) -> Grant:
    """The grant of a holder as it was kept: who it is and what was open to them, without what restricts them now."""
    kept = json.loads(text)
    scopes, reach = (_scopes(kept.get(name)) for name in ("scopes", "reach"))
    hidden = tuple((name, frozenset(elements)) for name, elements in kept["hidden"])
    given = {name: kept[name] for name in ("account", "client", "user")}
    return Grant(kept["actor"], frozenset(kept["roles"]), scopes or (), hidden=hidden, reach=reach, **given)


def holder_text(grant: Grant) -> str:
    """The text that `holder_of` takes."""
    kept: dict[str, Any] = {
        "actor": grant.actor,
        "roles": sorted(grant.roles),
        "scopes": _listed(grant.scopes),
        "reach": _listed(grant.reach) if grant.reach is not None else None,
        "hidden": [[name, sorted(elements)] for name, elements in grant.hidden],
        "account": grant.account,
        "client": grant.client,
        "user": grant.user,
    }
    return json.dumps(kept)


def _scopes(listed: list[list[Any]] | None) -> tuple[Scope, ...] | None:
    if listed is None:
        return None
    return tuple(Scope(name, frozenset(permissions), query, patient) for name, permissions, query, patient in listed)


def _listed(scopes: Iterable[Scope]) -> list[list[str | None]]:
    return [[each.type, "".join(sorted(each.permissions)), each.query, each.patient] for each in scopes]
