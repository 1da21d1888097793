"""The profiles that a caller sees: StructureDefinitions that are stored, and the value sets that they bind to.

https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from fhir_server.search import Grant, compile_search
from fhir_server.store import Snapshot
from fhir_server.validation.profiles import Profiles

from .engine import Engine
from .terminology import escaped, terminology


def profiles_of(engine: Engine, db: Snapshot, grant: Grant) -> Profiles:
    """The profiles of one request, over what the snapshot shows to the grant. One statement for each definition that is met."""

    def find(canonical: str) -> bytes | None:
        """The definition of `url` or `url|version`: of several the one written last."""
        if not (grant.allows("StructureDefinition", "r") and grant.allows("StructureDefinition", "s")):
            return None
        url, _, version = canonical.partition("|")
        asked = [(code, escaped(text)) for code, text in (("url", url), ("version", version)) if text]
        query = engine.registry.parse("StructureDefinition", [*asked, ("_sort", "-_lastUpdated"), ("_count", "1")], strict=True)
        rows = db.select(compile_search(query, engine.registry, grant))
        return db.body_of(rows[0]) if rows else None

    return Profiles(engine.spec, find, terminology(engine, db, grant).member)
