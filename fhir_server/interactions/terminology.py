"""Stored code systems and value sets for those who ask terminology: by canonical URL, within the caller's grant.

https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from fhir_server import fhirjson
from fhir_server.search import Grant, compile_search
from fhir_server.spec import terminology as shipped
from fhir_server.store import Snapshot
from fhir_server.terminology import Terminology

from .engine import Engine

_CANDIDATES: Final = 20
_SPECIAL: Final = re.compile(r"[\\,$|]")
_PREFERENCE: Final = ("active", "draft", "unknown", "retired")


def terminology(engine: Engine, db: Snapshot, grant: Grant) -> Terminology:
    """The terminology of one request, over what the snapshot shows to the grant. One statement for each resource that an answer takes."""

    def find(kind: Literal["CodeSystem", "ValueSet"], canonical: str) -> dict[str, Any] | None:
        """By a reference such as `ValueSet/1`, or by URL: of several an active one, and of these the one written last."""
        if not (grant.allows(kind, "r") and grant.allows(kind, "s")):
            return None
        if canonical.startswith(f"{kind}/"):
            read = db.read(kind, canonical.removeprefix(f"{kind}/"))
            return None if read is None or read.body is None else fhirjson.loads(read.body)
        url, _, version = canonical.partition("|")
        asked = [("url", escaped(url)), ("_sort", "-_lastUpdated"), ("_count", str(_CANDIDATES))]
        if version:
            asked.append(("version", escaped(version)))
        rows = db.select(compile_search(engine.registry.parse(kind, asked, strict=True), engine.registry, grant))
        found = [fhirjson.loads(db.body_of(row)) for row in rows]
        # The index folds and shortens what it compares.
        exact = [r for r in found if r.get("url") == url and version in ("", r.get("version"))]
        return min(exact, key=lambda r: _PREFERENCE.index(r["status"]) if r.get("status") in _PREFERENCE else len(_PREFERENCE), default=None)

    return Terminology(shipped(), find)


def escaped(value: str) -> str:
    """A text as the value of a search parameter."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], value)
