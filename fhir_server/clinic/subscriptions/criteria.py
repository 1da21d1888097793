"""Whether a version meets the criteria of a Subscription, for its subscriber. https://hl7.org/fhir/R4/subscription-definitions.html#Subscription.criteria"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine
from fhir_server.interactions.engine import parse_parameters
from fhir_server.interactions.finding import find, prepared
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Query, matches
from fhir_server.store import Snapshot
from fhir_server.store.ops import Version

_MOST: Final = 2_000  # Characters.
_SHAPING: Final = frozenset({"_sort", "_count", "_summary", "_elements", "_total", "_contained", "_containedType", "_explain", "_format", "_cursor"})


def parsed(engine: Engine, text: str, identity: str | None = None) -> tuple[str, Query]:
    """The type and the Query of criteria, for one resource where its id is given. Raises Outcome `parameter` for what they cannot be."""
    name, _, query = text.partition("?")
    if len(text) > _MOST or name not in engine.registry.types or name in ("AuditEvent", "Subscription"):
        raise Outcome("parameter", "The criteria are a search as Appointment?status=booked")
    params = parse_parameters(query)
    shaping = next((key for key, _ in params if key.partition(":")[0] in _SHAPING or key.startswith(("_include", "_revinclude"))), None)
    if shaping is not None:
        raise Outcome("parameter", f"Criteria say what matches; '{shaping}' is about what an answer looks like")
    wanted = params if identity is None else [*params, ("_id", identity), ("_count", "1")]
    return name, engine.registry.parse(name, wanted, strict=True, now=engine.store.clock())


def meets(engine: Engine, db: Snapshot, text: str, version: Version, grant: Grant) -> bool:
    """Whether a version meets criteria, and is open to a grant: the current one by a search, one before it by its content.

    Raises Outcome where criteria cannot be searched for by this grant any more.
    """
    if version.body is None or not grant.allows(version.type, "r"):
        return False
    current = db.read(version.type, version.id)
    if current is None or current.body is None:
        return False
    if current.version != version.version:
        resource: dict[str, Any] = fhirjson.loads(version.body)
        return matches(parsed(engine, text)[1], resource, engine.registry, grant=grant) and _found(engine, db, f"{version.type}?", version.id, grant)
    return _found(engine, db, text, version.id, grant)


def _found(engine: Engine, db: Snapshot, text: str, identity: str, grant: Grant) -> bool:
    query = replace(parsed(engine, text, identity)[1], total="none")
    return bool(find(engine, db, prepared(engine, db, query, grant), grant, None).found)
