"""Stored messages: what came, what was answered, and what became of it.

Each function is one statement, in the transaction that its connection is in. A message is known by the digest of its bytes, so that the same bytes,
which are the same control id of the same sender, are one row on whatever way and however often they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec

from fhir_server.store.database import Connection, Frequent
from fhir_server.store.trail import APPEND, Event, as_json, clean

from .acknowledge import Code
from .faults import Fault
from .message import Header
from .processing import OPEN, Peer, Result, State

_LONGEST: Final = 200  # Characters that are kept of a field of MSH.
_OPEN: Final = ", ".join(f"'{state}'" for state in OPEN)
_OUTCOMES: Final = {"AA": 0, "AE": 4, "AR": 4}
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
_INSERT: Final = (
    f"INSERT INTO hl7v2_message AS m ({', '.join(_CAME + _BECAME)}, attempts, reused)"  # noqa: S608 - our own words
    f" VALUES ({', '.join(f'%({name})s' for name in _CAME + _BECAME)}, %(attempts)s,"
    " %(control_id)s <> '' AND EXISTS (SELECT FROM hl7v2_message o WHERE o.control_id = %(control_id)s AND o.application = %(application)s"
    " AND o.facility = %(facility)s AND o.id <> %(id)s))"
)
_TOLD: Final = f"told AS ({APPEND.replace('%s', '%(told)s')} WHERE EXISTS (SELECT FROM kept)) SELECT 1 FROM kept"  # noqa: S608 - our own words
_KEEP: Final = (
    f"WITH kept AS ({_INSERT} ON CONFLICT (id) DO UPDATE SET attempts = m.attempts + 1, {', '.join(f'{name} = EXCLUDED.{name}' for name in _BECAME)}"
    f" WHERE m.state IN ({_OPEN}) RETURNING 1), {_TOLD}"
)
_KEEP_REPLAY: Final = (
    "WITH kept AS (UPDATE hl7v2_message SET attempts = attempts + 1, replayed = %(settled)s, corrected = coalesce(%(corrected)s, corrected),"  # noqa: S608
    f" {', '.join(f'{name} = %({name})s' for name in _BECAME)} WHERE id = %(id)s AND attempts = %(attempts)s RETURNING 1), {_TOLD}"
)
_AGAIN: Final = "UPDATE hl7v2_message SET repeats = repeats + 1 WHERE id = %s"
_LOAD: Final = "SELECT received, transport, peer, address, raw, corrected, accept, attempts, state FROM hl7v2_message WHERE id = %s"
# What has been promised by an accept acknowledgement is not sent again: it is for us to finish it.
_LEFT: Final = (
    f"SELECT id FROM hl7v2_message WHERE state IN ({_OPEN}) AND accept IS NOT NULL AND attempts < %s AND coalesce(settled, received) < %s"  # noqa: S608
    " ORDER BY received, id LIMIT 100"
)
_ANSWERS: Final = Frequent("hl7v2_answers", "SELECT state, code, encode(accept, 'hex'), encode(ack, 'hex') FROM hl7v2_message WHERE id = $1::text")
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
    """What is needed to process a stored message again."""

    received: datetime
    peer: Peer
    raw: bytes
    corrected: bytes | None
    accept: bytes | None
    attempts: int
    state: State


def answers(connection: Connection, key: str) -> Answers | None:
    """What the message was answered; None where it has not come yet. Costs 15 µs here, and the database as much."""
    row = _ANSWERS.row(connection, key)
    if row is None:
        return None
    accept, ack = (None if each is None else bytes.fromhex(each) for each in row[2:])
    return Answers(row[0], row[1], accept, ack)  # type: ignore[arg-type]  # The table's constraint knows the same states.


def receive(connection: Connection, arrival: Arrival) -> None:
    """Stores a message that is still to be processed; one that is there already stays as it is."""
    connection.execute(f"{_INSERT} ON CONFLICT (id) DO NOTHING", {**_came(arrival), **_became(None, (None, None), None), "attempts": 0})


def keep(connection: Connection, arrival: Arrival, result: Result, answer: tuple[Code, bytes], at: datetime) -> bool:
    """Stores what became of a message, with the message if it is not there yet, and its event in the audit trail.

    Whether it did: a message that was settled before, which it waits for where that is happening just now, stays as it is.
    """
    values = {**_came(arrival), **_became(result, answer, at), "attempts": 1, "told": _told(arrival, result, arrival.peer.name, "")}
    return connection.execute(_KEEP, values).fetchone() is not None


def keep_replay(
    connection: Connection, arrival: Arrival, result: Result, ack: bytes, at: datetime, *, attempts: int, corrected: bytes | None, actor: str
) -> bool:
    """Stores what became of a message that was processed anew for an `actor`, unless it has been since, as `attempts` shows; whether it did."""
    values = {
        "id": arrival.id,
        "attempts": attempts,
        "corrected": corrected,
        **_became(result, (result.code, ack), at),
        "told": _told(arrival, result, actor, "again"),
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
    received, transport, name, address, raw, corrected, accept, attempts, state = row
    return Stored(received, Peer(transport, name, address or ""), raw, corrected, accept, attempts, state)


def left(connection: Connection, now: datetime, *, patience: timedelta, attempts: int) -> list[str]:
    """Ids of up to 100 accepted messages, oldest first, that have been waiting for longer than `patience` after fewer than so many attempts."""
    return [row[0] for row in connection.execute(_LEFT, (attempts, now - patience))]


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
        **{name: clean(text[:_LONGEST]) for name, text in zip(names, said, strict=True)},
    }


def _became(result: Result | None, answer: tuple[Code | None, bytes | None], at: datetime | None) -> dict[str, Any]:
    return {
        "state": result.state if result is not None else "received",
        "settled": at,
        "code": answer[0],
        "ack": answer[1],
        "faults": _faults(result.faults if result is not None else ()),
        "unhandled": [clean(each[:_LONGEST]) for each in result.unhandled] if result is not None else [],
        "patient": result.patient if result is not None else None,
        "written": list(result.written) if result is not None else [],
    }


def _faults(faults: Sequence[Fault]) -> str:
    # A text of JSON in PostgreSQL has no NUL in it.
    return _encode(faults).decode().replace("\\u0000", "\N{REPLACEMENT CHARACTER}")


def _told(arrival: Arrival, result: Result, actor: str, how: str) -> str:
    kind = f"{arrival.header.type}^{arrival.header.event}" if arrival.header is not None else "no message"
    event = Event(
        "message",
        actor,
        _OUTCOMES[result.code] if result.state != "failed" else 8,  # type: ignore[arg-type]  # One of the four.
        address=arrival.peer.address or None,
        request_id=arrival.peer.request_id or None,
        type="hl7v2-message",
        resource=arrival.id,
        patients=(result.patient,) if result.patient is not None else (),
        detail=" ".join(part for part in (kind[:_LONGEST], result.state, how) if part),
    )
    return as_json([event])
