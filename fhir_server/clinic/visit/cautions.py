"""What speaks against a prescription, before it is written."""

from __future__ import annotations

from fhir_server.outcome import Outcome
from fhir_server.prescribing import Caution
from fhir_server.search import Grant
from fhir_server.store import Store
from fhir_server.store.ops import Resource
from fhir_server.store.rules import prescriptions


def cautions_of(store: Store, grant: Grant, prescription: Resource) -> list[Caution]:
    """All that speaks against a MedicationRequest, of what the caller may see of its patient; the most serious first.

    Raises Outcome `forbidden` for callers who do not prescribe.
    """
    if not grant.allows("MedicationRequest", "c"):
        raise Outcome("forbidden", "What speaks against a prescription is told to those who prescribe")
    with store.snapshot(grant) as db:
        return sorted(prescriptions.against(prescription, store.registry, db), key=lambda caution: caution.severity)
