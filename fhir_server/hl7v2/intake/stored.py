"""Stored messages: what came, what was answered, and what became of it.

Each function is one statement, in the transaction that its connection is in. A message is known by the digest of its bytes, so that the same bytes,
which are the same control id of the same sender, are one row on whatever way and however often they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec

from fhir_server.hl7v2.landing.processing import OPEN, Peer, Result, State
from fhir_server.hl7v2.text.acknowledge import Code
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Header
from fhir_server.store.database import Connection
from fhir_server.store.trail import APPEND, Event, as_json, clean

LONGEST: Final = 200
"""Characters that are kept of a field of MSH, and of the name of a segment."""
_OPEN: Final = ", ".join(f"'{state}'" for state in OPEN)
_OUTCOMES: Final[dict[Code, Literal[0, 4]]] = {"AA": 0, "AE": 4, "AR": 4}
_UNKNOWN: Final = Header(*[""] * 15)

_CAME: Final = (
    "id",
    "received",
    "transport",
    "peer",
    "address",
    "raw",
    "application",
    "facility",
    "control_id",
    "type",
    "event",
    "version",
    "accept",
)
_BECAME: Final = ("state", "settled", "code", "ack", "faults", "unhandled", "patient", "written")
_TYPES: Final = {
    "received": "timestamptz",
    "settled": "timestamptz",
    "faults": "jsonb",
    "unhandled": "text[]",
    "written": "text[]",
}
_BYTES: Final = ("raw", "accept", "ack")
_RECORD: Final = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in _CAME + _BECAME if name not in _BYTES)
# Bytes go beside the JSON, in which they would take twice the room.
_ROWS: Final = (
    f"rows AS MATERIALIZED (SELECT x.*, {', '.join(f'(%({name})b::bytea[])[x.n] AS {name}' for name in _BYTES)}"  # noqa: S608 - our own words
    f" FROM json_to_recordset(%(rows)s::json) AS x(n int, attempts int, {_RECORD}))"
)
_INSERT: Final = (
    f"INSERT INTO hl7v2_message AS m ({', '.join(_CAME + _BECAME)}, attempts, reused)"  # noqa: S608 - our own words
    f" SELECT {', '.join(f'x.{name}' for name in _CAME + _BECAME)}, x.attempts, x.control_id <> '' AND EXISTS (SELECT FROM hl7v2_message o"
    " WHERE o.control_id = x.control_id AND o.application = x.application AND o.facility = x.facility AND o.id <> x.id) FROM rows x ORDER BY x.id"
)
_RECEIVE: Final = f"WITH {_ROWS} {_INSERT} ON CONFLICT (id) DO NOTHING"
_TOLD: Final = f"told AS ({APPEND.replace('%s', '%(told)s')} JOIN kept ON kept.id = x.resource) SELECT id FROM kept"  # noqa: S608 - our own words
_KEEP: Final = (
    f"WITH {_ROWS}, kept AS ({_INSERT} ON CONFLICT (id) DO UPDATE SET attempts = m.attempts + 1, revision = m.revision + 1,"
    f" {', '.join(f'{name} = EXCLUDED.{name}' for name in _BECAME)} WHERE m.state IN ({_OPEN}) RETURNING id), {_TOLD}"
)
_KEEP_REPLAY: Final = (
    "WITH kept AS (UPDATE hl7v2_message SET attempts = attempts + 1, revision = revision + 1, replayed = %(settled)s,"  # noqa: S608 - our own words
    " corrected = coalesce(%(corrected)s, corrected), linked = coalesce(%(linked)s, linked),"
    f" {', '.join(f'{name} = %({name})s' for name in _BECAME)} WHERE id = %(id)s AND revision = %(revision)s RETURNING id), {_TOLD}"
)
_CORRECT: Final = "UPDATE hl7v2_message SET corrected = %s, revision = revision + 1 WHERE id = %s AND revision = %s RETURNING patient"
# Messages that wait, or were refused, are somebody's to look at still, and keep their text.
_PRUNE: Final = (
    "UPDATE hl7v2_message SET raw = '', corrected = NULL WHERE id IN (SELECT id FROM hl7v2_message"
    " WHERE state IN ('processed', 'warning') AND received < %s AND octet_length(raw) > 0 ORDER BY received, id LIMIT %s FOR UPDATE SKIP LOCKED)"
)
_AGAIN: Final = "UPDATE hl7v2_message SET repeats = repeats + 1 WHERE id = %s"
_LOAD: Final = "SELECT received, transport, peer, address, raw, corrected, linked, control_id, revision FROM hl7v2_message WHERE id = %s"
# What has been promised by an accept acknowledgement is not sent again: it is for us to finish it.
_LEFT: Final = (
    f"SELECT id FROM hl7v2_message WHERE state IN ({_OPEN}) AND accept IS NOT NULL AND attempts < %s AND coalesce(settled, received) < %s"  # noqa: S608
    " ORDER BY received, id LIMIT 100"
)
_ANSWERS: Final = "SELECT id, state, code, accept, ack FROM hl7v2_message WHERE id = ANY(%s)"
_encode: Final = msgspec.json.Encoder().encode


def identity(raw: bytes) -> str:
    """The id of the stored message of these bytes."""
    return sha256(raw).hexdigest()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it came; `accept` is the accept acknowledgement of enhanced mode, `header` None where there is none to read."""

    id: str
    received: datetime
    peer: Peer
    raw: bytes
    header: Header | None
    accept: bytes | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What an administrator makes of a message: other bytes in place of those that came, and the id of the patient whom it is about."""

    corrected: bytes | None = None
    linked: str | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a message was answered, whether or not its sender wanted to know, and its state; `code` is MSA-1 of `ack`."""

    state: State
    code: Code | None
    accept: bytes | None
    ack: bytes | None

    @property
    def settled(self) -> bool:
        """Whether it is to be answered the same when it comes again, and not processed again."""
        return self.state not in OPEN


@dataclass(frozen=True, slots=True)
class Stored:
    """What is needed to process a stored message again. `linked` is the patient who was chosen for it; `revision` is another after each change."""

    received: datetime
    peer: Peer
    raw: bytes
    corrected: bytes | None
    linked: str | None
    control_id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a message, at a moment, and its answer, whose MSA-1 is `code`."""

    arrival: Arrival
    result: Result
    code: Code
    ack: bytes
    at: datetime


def answers(connection: Connection, keys: Sequence[str]) -> dict[str, Answers]:
    """What those of the messages were answered that have come before, by id."""
    return {key: Answers(*row) for key, *row in connection.execute(_ANSWERS, (list(keys),)).fetchall()}


def receive(connection: Connection, arrival: Arrival) -> None:
    """Stores a message that is still to be processed; one that is there already stays as it is."""
    connection.execute(_RECEIVE, _rows([{**_came(arrival), **_became(None, (None, None), None), "attempts": 0}]))


def keep(connection: Connection, settled: Sequence[Settlement]) -> set[str]:
    """Stores what became of messages, each with the message if it is not there yet, and its event in the audit trail; the ids of those stored.

    A message that was settled before, which it waits for where that is happening just now, stays as it is.
    """
    rows = [{**_came(each.arrival), **_became(each.result, (each.code, each.ack), each.at), "attempts": 1} for each in settled]
    told = as_json([_told(each.arrival, each.result, _sender(each.arrival.peer), "") for each in settled])
    return {key for (key,) in connection.execute(_KEEP, {**_rows(rows), "told": told}).fetchall()}


def keep_replay(connection: Connection, settled: Settlement, *, revision: int, changed: Change, by: Event) -> bool:
    """Stores what became of a message that was processed anew, unless it has changed since, as `revision` shows; whether it did.

    A link is kept where it has led to a patient. `by` is an event that tells who asks for it.
    """
    how = " ".join(("again", *(("corrected",) if changed.corrected else ()), *(("linked",) if changed.linked else ())))
    values = {
        "id": settled.arrival.id,
        "revision": revision,
        "corrected": changed.corrected,
        "linked": changed.linked if settled.code == "AA" else None,
        **_became(settled.result, (settled.code, settled.ack), settled.at),
        "told": as_json([_told(settled.arrival, settled.result, by, how)]),
    }
    return connection.execute(_KEEP_REPLAY, values).fetchone() is not None


def came_again(connection: Connection, key: str) -> None:
    """Counts that a message came once more."""
    connection.execute(_AGAIN, (key,))


def load(connection: Connection, key: str) -> Stored | None:
    """A stored message; None where there is none of this id."""
    row = connection.execute(_LOAD, (key,)).fetchone()
    if row is None:
        return None
    received, transport, name, address, raw, *rest = row
    return Stored(received, Peer(transport, name, address or ""), raw, *rest)


def correct(connection: Connection, key: str, corrected: bytes | None, revision: int) -> tuple[str | None] | None:
    """Stores what a message should have been, None to take that back; the patient that it is about, or None where it is of another revision now."""
    row = connection.execute(_CORRECT, (corrected, key, revision)).fetchone()
    return (row[0],) if row is not None else None


def prune(connection: Connection, before: datetime, most: int) -> int:
    """Removes the bytes of up to so many processed messages that came before a moment; of how many.

    All else that is known of them stays, so that the same bytes are still known and answered when they come again.
    """
    return connection.execute(_PRUNE, (before, most)).rowcount


def left(connection: Connection, now: datetime, *, patience: timedelta, attempts: int) -> list[str]:
    """Ids of up to 100 accepted messages, oldest first, that have been waiting for longer than `patience` after fewer than so many attempts."""
    return [row[0] for row in connection.execute(_LEFT, (attempts, now - patience))]


def _rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The arguments of a statement that takes rows of messages."""
    texts = [
        {"n": number, **{name: value for name, value in row.items() if name not in _BYTES}, "faults": msgspec.Raw(row["faults"].encode())}
        for number, row in enumerate(rows, 1)
    ]
    return {"rows": _encode(texts).decode(), **{name: [row[name] for row in rows] for name in _BYTES}}


def _came(arrival: Arrival) -> dict[str, Any]:
    header = arrival.header or _UNKNOWN
    said = (header.sending_application, header.sending_facility, header.control_id, header.type, header.event, header.version)
    names = ("application", "facility", "control_id", "type", "event", "version")
    return {
        "id": arrival.id,
        "received": arrival.received,
        "transport": arrival.peer.transport,
        "peer": clean(arrival.peer.name),
        "address": arrival.peer.address or None,
        "raw": arrival.raw,
        "accept": arrival.accept,
        **{name: clean(text[:LONGEST]) for name, text in zip(names, said, strict=True)},
    }


def _became(result: Result | None, answer: tuple[Code | None, bytes | None], at: datetime | None) -> dict[str, Any]:
    return {
        "state": result.state if result is not None else "received",
        "settled": at,
        "code": answer[0],
        "ack": answer[1],
        "faults": _faults(result.faults if result is not None else ()),
        "unhandled": [clean(each[:LONGEST]) for each in result.unhandled] if result is not None else [],
        "patient": result.patient if result is not None else None,
        "written": list(result.written) if result is not None else [],
    }


def _faults(faults: Sequence[Fault]) -> str:
    # A text of JSON in PostgreSQL has no NUL in it.
    return _encode(faults).decode().replace("\\u0000", "\N{REPLACEMENT CHARACTER}")


def _sender(peer: Peer) -> Event:
    return Event("message", peer.name, address=peer.address or None, request_id=peer.request_id or None)


def _told(arrival: Arrival, result: Result, by: Event, how: str) -> Event:
    kind = f"{arrival.header.type}^{arrival.header.event}" if arrival.header is not None else "no message"
    return replace(
        by,
        outcome=_OUTCOMES[result.code] if result.state != "failed" else 8,
        type="hl7v2-message",
        resource=arrival.id,
        patients=(result.patient,) if result.patient is not None else (),
        detail=" ".join(part for part in (kind[:LONGEST], result.state, how) if part),
    )
