"""What a doctor proposes for later at the end of a visit: an Appointment without a time, which becomes an Orange one when it is booked and kept.

https://hl7.org/fhir/R4/appointment.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, content, visible
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Resource

FOLLOWUP: Final = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0276", "code": "FOLLOWUP"}]}
MOST_DAYS: Final = 1_830
"""Five years."""
_WINDOW: Final = timedelta(days=14)
"""How long after the day that was asked for a time is still the one that was meant."""


def propose_follow_up(store: Store, act: Act, encounter: str, *, after_days: int, reason: str) -> Commit:
    """Proposes that the patient of an Encounter, by id, comes again after so many days; the proposed Appointment comes first.

    Raises Outcome `forbidden` for anybody but clinicians, `not-found`, `gone`, `parameter` for more than five years, and `business-rule` for an
    Encounter that is nobody's.
    """
    if not act.is_clinical:
        raise Outcome("forbidden", "A follow-up is proposed by clinicians")
    act.require("Appointment", "c")
    if not 1 <= after_days <= MOST_DAYS:
        raise Outcome("parameter", f"A follow-up is 1 to {MOST_DAYS:,} days later", code="value")

    def prepare(_connection: Connection, db: Snapshot) -> Sequence[Op]:
        visit = content(visible(db, act, "Encounter", encounter))
        subject = visit.get("subject")
        if not isinstance(subject, dict):
            raise Outcome("business-rule", "The encounter has no subject, so nobody is to come again", expression="Encounter.subject")
        today = store.clock().astimezone(store.registry.zone).date()
        return [Create(_proposal(visit, subject, today + timedelta(days=after_days), reason))]

    return carry_out(store, replace(act, reason=reason), prepare)


def _proposal(visit: Resource, subject: Any, day: date, reason: str) -> Resource:
    seen_by = [each["individual"] for each in visit.get("participant", ()) if "individual" in each]
    people = [reference for reference in seen_by if str(reference.get("reference", "")).startswith(("Practitioner/", "PractitionerRole/"))]
    made: Resource = {
        "resourceType": "Appointment",
        "status": "proposed",
        "appointmentType": FOLLOWUP,
        "supportingInformation": [{"reference": f"Encounter/{visit['id']}"}],
        "requestedPeriod": [{"start": day.isoformat(), "end": (day + _WINDOW).isoformat()}],
        "participant": [{"actor": actor, "status": "needs-action"} for actor in (subject, *people[:1])],
    }
    if "serviceType" in visit:
        made["serviceType"] = [visit["serviceType"]]
    return made | ({"description": reason} if reason else {})
