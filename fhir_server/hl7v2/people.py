"""Patients from PID: the least that can be made of a message."""

from __future__ import annotations

from fhir_server.store import Store
from fhir_server.store.ops import Create

from .faults import Fault
from .message import Message
from .processing import Process, Result, Work


def process(store: Store) -> Process:
    """Makes the patient of a message who is not known yet by the first identifier of PID-3."""

    def run(message: Message, work: Work) -> Result:
        value = next((segment.get(3) for segment in message.segments if segment.name == "PID"), "")
        if not value:
            return Result("AE", "unmatched", (Fault("101", "PID-3 names no patient", "PID", field=3),))
        unhandled = tuple(segment.name for segment in message.segments if segment.name not in {"MSH", "PID"})
        patient = {"resourceType": "Patient", "identifier": [{"value": value}]}
        condition = store.registry.parse(
            "Patient", [("identifier", value.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|"))], strict=True
        )
        made: list[Result] = []

        def result(commit: object) -> Result:
            made[:] = [Result("AA", "processed", (), unhandled, commit.written[0].version.id)]  # type: ignore[attr-defined]
            return made[0]

        store.transact([Create(patient, condition)], work.grant, beside=work.keep(result))
        return made[0]

    return run
