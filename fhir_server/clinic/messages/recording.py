"""What the record has of messages: a CommunicationRequest for each that is planned, a Communication for each that was sent, or was not and why.

https://hl7.org/fhir/R4/communicationrequest.html, https://hl7.org/fhir/R4/communication.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final
from uuid import uuid4

from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store import Snapshot, Store, instant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit, Create, Op, Patch

from . import rows
from .events import EVENTS
from .rows import Message

Json = dict[str, Any]

AT_A_TIME: Final = 200
EVENT: Final = f"{CANON}/CodeSystem/message-event"
REASON: Final = f"{CANON}/CodeSystem/message-reason"
_MODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationMode"
_CATEGORY: Final = {"system": "http://terminology.hl7.org/CodeSystem/communication-category", "code": "notification"}
_MEDIA: Final = {"email": ("EMAILWRIT", "email"), "sms": ("SMSWRIT", "SMS message")}
_REQUESTS: Final = {"planned": "active", "sent": "completed", "dead": "on-hold"}  # Others are over, and were not done.
_COMMUNICATIONS: Final = {"sent": "completed", "dead": "not-done", "suppressed": "not-done", "expired": "not-done"}


def record(store: Store) -> int:
    """Brings the record to what has become of messages, so many at a time; how many. Each is written once, whoever else is at it."""
    found: list[Message] = []
    asked: list[tuple[Message, Op]] = []

    def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
        found[:] = rows.unrecorded(connection, AT_A_TIME)
        known = [("CommunicationRequest", each.request) for each in found if each.request is not None]
        known += [("Communication", each.communication) for each in found if each.communication is not None]
        there = {(each.type, each.id) for each in db.read_many(known)} if known else set()
        asked[:] = [(each, op) for each in found for op in _ops(each, there)]
        return [op for _, op in asked]

    def beside(connection: Connection, commit: Commit) -> None:
        ids = {each.id: [each.request, each.communication] for each in found}
        for (message, _), written in zip(asked, commit.written, strict=True):
            if written.version is not None:
                ids[message.id][written.version.type == "Communication"] = written.version.id
        if ids:
            rows.record(connection, [(number, request, communication) for number, (request, communication) in ids.items()])

    store.transact(prepare, SYSTEM, beside=beside)
    return len(found)


def _ops(message: Message, there: set[tuple[str, str]]) -> Iterator[Op]:
    """What is to be written of a message. What somebody has deleted does not come back."""
    request, communication = _REQUESTS.get(message.state, "revoked"), _COMMUNICATIONS.get(message.state)
    based_on = f"CommunicationRequest/{message.request}"
    if message.request is None:
        based_on = uuid4().urn
        yield Create(_request(message, request), link=based_on)
    elif ("CommunicationRequest", message.request) in there:
        yield Patch("CommunicationRequest", partial(_with_status, message, request), message.request)
    if communication is None:
        return
    if message.communication is None:
        yield Create(_communication(message, communication, based_on))
    elif ("Communication", message.communication) in there:
        yield Patch("Communication", partial(_told_again, message, communication), message.communication)


def _request(message: Message, status: str) -> Json:
    resource = {
        "resourceType": "CommunicationRequest",
        "status": status,
        "subject": {"reference": f"Patient/{message.patient}"},
        "about": [{"reference": message.focus}],
        "occurrenceDateTime": instant(message.due),
        "authoredOn": instant(message.created),
        "recipient": [{"reference": f"Patient/{message.patient}"}],
    }
    return _with_status(message, status, resource | _kind(message))


def _communication(message: Message, status: str, based_on: str) -> Json:
    resource = {
        "resourceType": "Communication",
        "basedOn": [{"reference": based_on}],
        "status": status,
        "subject": {"reference": f"Patient/{message.patient}"},
        "about": [{"reference": message.focus}],
        "recipient": [{"reference": f"Patient/{message.patient}"}],
    }
    return _told_again(message, status, resource | _kind(message))


def _kind(message: Message) -> Json:
    code, display = _MEDIA[message.channel]
    event = {"system": EVENT, "code": message.event, "display": EVENTS[message.event]}
    return {
        "category": [{"coding": [_CATEGORY]}, {"coding": [event]}],
        "medium": [{"coding": [{"system": _MODE, "code": code, "display": display}]}],
    }


def _with_status(message: Message, status: str, resource: Json) -> Json:
    kept = {name: value for name, value in resource.items() if name != "statusReason"}
    return kept | {"status": status} | (_reason(message) if status not in ("active", "completed") else {})


def _told_again(message: Message, status: str, resource: Json) -> Json:
    found = _with_status(message, status, resource)
    if status == "completed" and message.ended is not None:
        found |= {"sent": instant(message.ended), "payload": [{"contentString": message.told or EVENTS[message.event]}]}
    return found


def _reason(message: Message) -> Json:
    return {"statusReason": {"coding": [{"system": REASON, "code": message.reason or "failed"}]}}
