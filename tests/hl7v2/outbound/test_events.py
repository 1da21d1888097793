from __future__ import annotations

import pytest

from fhir_server.hl7v2.outbound.events import event_of
from tests.hl7v2.outbound.world import APPOINTMENT, ORDER, PATIENT, REPORT, Json

MERGED: Json = {**PATIENT, "link": [{"type": "replaced-by", "other": {"reference": "Patient/p2"}}]}


@pytest.mark.parametrize(
    ("now", "before", "event"),
    [
        ({**APPOINTMENT, "status": "booked"}, {**APPOINTMENT, "status": "noshow"}, "S14"),
        ({**APPOINTMENT, "status": "noshow", "comment": "x"}, {**APPOINTMENT, "status": "noshow"}, "S14"),
        ({**APPOINTMENT, "status": "cancelled", "comment": "x"}, {**APPOINTMENT, "status": "cancelled"}, None),
        ({**APPOINTMENT, "status": "entered-in-error"}, APPOINTMENT, "S17"),
        (APPOINTMENT, {**APPOINTMENT, "status": "pending"}, "S14"),
        ({**APPOINTMENT, "meta": {"versionId": "2"}, "text": {"div": "x"}}, APPOINTMENT, None),
        (None, {**APPOINTMENT, "status": "cancelled"}, None),
        (MERGED, PATIENT, "A40"),
        ({**MERGED, "active": False}, MERGED, "A31"),
        (None, PATIENT, None),
        ({**ORDER, "intent": "plan"}, None, None),
        ({name: value for name, value in ORDER.items() if name != "category"}, None, "O21"),
        ({**ORDER, "status": "completed"}, ORDER, None),
        ({**ORDER, "status": "revoked"}, {**ORDER, "status": "draft"}, None),
        ({**REPORT, "status": "cancelled"}, {**REPORT, "status": "preliminary"}, None),
        ({**REPORT, "status": "cancelled"}, REPORT, "R01"),
    ],
)
def test_a_change_means_to_others_what_its_contents_say(now: Json | None, before: Json | None, event: str | None) -> None:
    kind = (now or before or {})["resourceType"]
    assert event_of(kind, now, before) == event
