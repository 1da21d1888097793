"""Results that their doctor holds back from their patient: a label on the report and on all that it brings, which the patient's Grant leaves out.

https://hl7.org/fhir/R4/security-labels.html

Results are open to their patient as soon as they are final (`access.roles`); a doctor who wants to tell of one in person holds it back first. A later
version keeps the label, whichever way it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from fhir_server.access.roles import HELD
from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.search import Registry
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Op, Patch, Resource

_DEEP: Final = 5
_BRINGS: Final[dict[str, tuple[str, ...]]] = {
    "DiagnosticReport": ("result", "media"),
    "Observation": ("has-member", "derived-from"),
}
"""Search parameters for what belongs to a result."""
_HELD_TYPES: Final = frozenset({"DiagnosticReport", "Observation", "DocumentReference", "Media", "ImagingStudy"})


def hold_release(store: Store, act: Act, report: str, *, held: bool, reason: str) -> Commit:
    """Holds a DiagnosticReport, by id, back from its patient, or lets it go again, with its results and documents; the report comes first.

    Raises Outcome `forbidden` for anybody but doctors, `not-found` and `gone`.
    """
    act.require("DiagnosticReport", "u")

    def prepare(_connection: Connection, db: Snapshot) -> Sequence[Op]:
        first = content(visible(db, act, "DiagnosticReport", report))
        found = {("DiagnosticReport", report): first}
        layer = [first]
        for _ in range(_DEEP):
            wanted = {pair for resource in layer for pair in _brought(resource, store.registry)} - set(found)
            layer = [content(version) for version in db.read_many(sorted(wanted))]
            found |= {(resource["resourceType"], resource["id"]): resource for resource in layer}
        # Papers that were given out of it name it.
        papers = [version for version in db.referring("DiagnosticReport", report) if version.type == "DocumentReference"]
        found |= {(version.type, version.id): content(version) for version in papers}
        return [Patch(name, lambda resource: _labelled(resource, held=held), identity) for name, identity in found]

    return carry_out(store, replace(act, reason=reason), prepare)


def _brought(resource: Resource, registry: Registry) -> Iterator[tuple[str, str]]:
    for code in _BRINGS.get(resource["resourceType"], ()):
        for name, identity in registry.references(resource, code):
            if name in _HELD_TYPES:
                yield name, identity


def _labelled(resource: Resource, *, held: bool) -> Resource:
    meta: dict[str, Any] = dict(resource.get("meta", {}))
    labels = [label for label in meta.pop("security", ()) if (label.get("system"), label.get("code")) != (HELD["system"], HELD["code"])]
    if held:
        labels.append(HELD)
    if labels:
        meta["security"] = labels
    return {**resource, "meta": meta}
