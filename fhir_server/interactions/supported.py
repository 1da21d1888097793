"""Which profiles the server has: those of resources that are stored, for its CapabilityStatement.

https://hl7.org/fhir/R4/capabilitystatement-definitions.html#CapabilityStatement.rest.resource.supportedProfile
"""

from __future__ import annotations

import time
from typing import Final
from weakref import WeakKeyDictionary

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.search.compile import compile_matching
from fhir_server.store import Store

from .engine import Engine

FRESH: Final = 30.0
"""Seconds for which a process goes by what it has found: anybody may ask for the statement as often as they like."""
_MOST: Final = 1_000
_ASKED: Final = [("kind", "resource"), ("derivation", "constraint"), ("status", "active,draft")]

Found = tuple[tuple[str, str], ...]
_looked: WeakKeyDictionary[Store, tuple[float, tuple[int, ...], Found]] = WeakKeyDictionary()


def supported(engine: Engine) -> Found:
    """Types and canonical URLs of stored profiles, in order, as they were within FRESH; what was known last where the database does not answer.

    A statement at most every FRESH seconds, and the definitions are read where one has changed: 2 ms each.
    """
    at, versions, found = _looked.get(engine.store, (-FRESH, (), ()))
    now = time.monotonic()
    if now - at < FRESH:
        return found
    try:
        with engine.store.snapshot(SYSTEM) as db:
            query = engine.registry.parse("StructureDefinition", _ASKED, strict=True)
            rows = db.select(compile_matching(query, engine.registry, SYSTEM, _MOST))
            current = tuple(sorted(row[3] for row in rows))
            if current != versions:
                definitions = [fhirjson.loads(each.body or b"{}") for each in db.read_many([("StructureDefinition", row[2]) for row in rows])]
                found = tuple(sorted({(each["type"], each["url"]) for each in definitions if "type" in each and "url" in each}))
    except Outcome:
        return found
    _looked[engine.store] = (now, current, found)
    return found
