"""Messages on their way out: rows that each peer gets in their order, one after the other.

A message is stored with its control id before it is sent, and marked when its answer is there. Whoever dies in between leaves it waiting: it goes out
again with the same control id, by which the peer knows it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection, scalar

STATES: Final = ("waiting", "delivered", "dead")
KEPT: Final = timedelta(days=30)
"""So long a message stays that was delivered."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message: `event` of `version` of `type`/`resource`, about `patient`.

    `message` is None where none could be made, for `fault`. `attempts` counts how often it was sent, `unanswered` how often in vain since it was made
    or replayed. `answer` is the acknowledgement as it came.
    """

    id: int
    peer: str
    control_id: str
    event: str
    type: str
    resource: str
    version: int
    patient: str | None
    message: bytes | None
    state: str
    attempts: int
    unanswered: int
    created: datetime
    sent: datetime | None
    ended: datetime | None
    fault: str | None
    answer: bytes | None


_NAMES: Final = tuple(each.name for each in fields(Delivery))
_COLUMNS: Final = ", ".join(_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A message for a peer; without a `message` it is dead from the start, for a `fault`."""

    peer: str
    control_id: str
    event: str
    type: str
    resource: str
    version: int
    patient: str | None
    message: bytes | None
    fault: str | None = None


def new_control_id() -> str:
    """A control id that no other message has: 20 characters, as many as MSH-10 has room for before 2.7."""
    return secrets.token_hex(10).upper()


def add(connection: Connection, new: NewDelivery, now: datetime) -> None:
    """Adds a message behind all that wait for the peer."""
    connection.execute(
        "INSERT INTO hl7v2_delivery (peer, control_id, event, type, resource, version, patient, message, state, created, ended, fault)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            *(new.peer, new.control_id, new.event, new.type, new.resource, new.version, new.patient, new.message),
            *("dead" if new.message is None else "waiting", now, now if new.message is None else None, new.fault),
        ),
    )


def get(connection: Connection, identity: int, *, lock: bool = False) -> Delivery | None:
    """The message of a number, locked for the caller's transaction where asked."""
    statement = f"SELECT {_COLUMNS} FROM hl7v2_delivery WHERE id = %s{' FOR UPDATE' if lock else ''}"  # noqa: S608 - our names
    row = connection.execute(statement, (identity,)).fetchone()
    return None if row is None else Delivery(*row)


def page(connection: Connection, wanted: dict[str, str], after: int | None, limit: int) -> list[Delivery]:
    """So many messages, the newest first, before that of a number; `wanted` has values for `peer`, `state`, `type`, `resource` and `control_id`."""
    conditions = [f"{name} = %({name})s" for name in ("peer", "state", "type", "resource", "control_id") if name in wanted]
    if after is not None:
        conditions.append("id < %(after)s")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {_COLUMNS} FROM hl7v2_delivery {where} ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608 - our names
    return [Delivery(*row) for row in connection.execute(statement, {**wanted, "after": after, "limit": limit}).fetchall()]


def first(connection: Connection, peer: str) -> Delivery | None:
    """The message that a peer gets next."""
    statement = f"SELECT {_COLUMNS} FROM hl7v2_delivery WHERE peer = %s AND state = 'waiting' ORDER BY id LIMIT 1"  # noqa: S608 - our names
    row = connection.execute(statement, (peer,)).fetchone()
    return None if row is None else Delivery(*row)


def leave(connection: Connection, delivery: Delivery, now: datetime) -> None:
    """Notes that a message is about to be sent."""
    connection.execute("UPDATE hl7v2_delivery SET attempts = attempts + 1, sent = %s WHERE id = %s", (now, delivery.id))


def settle(connection: Connection, delivery: Delivery, state: str, now: datetime, *, fault: str | None = None, answer: bytes | None = None) -> None:
    """Ends a message that waits: `delivered` or `dead`."""
    connection.execute(
        "UPDATE hl7v2_delivery SET state = %s, ended = %s, fault = %s, answer = %s WHERE id = %s AND state = 'waiting'",
        (state, now, fault, answer, delivery.id),
    )


def unanswered(connection: Connection, delivery: Delivery, fault: str) -> int:
    """Notes that a message was sent in vain; how often it was by now."""
    statement = "UPDATE hl7v2_delivery SET unanswered = unanswered + 1, fault = %s WHERE id = %s RETURNING unanswered"
    return int(scalar(connection, statement, fault, delivery.id))


def postpone(connection: Connection, peer: str, fault: str, due: datetime) -> None:
    """Notes that a peer could not be served, and when it is tried again."""
    connection.execute("UPDATE hl7v2_peer SET failures = failures + 1, fault = %s, due = %s WHERE id = %s", (fault, due, peer))


def served(connection: Connection, peer: str) -> None:
    """Notes that a peer has answered."""
    connection.execute("UPDATE hl7v2_peer SET failures = 0, fault = NULL, due = NULL WHERE id = %s AND (failures <> 0 OR due IS NOT NULL)", (peer,))


def due(connection: Connection, now: datetime) -> list[str]:
    """The ids of enabled peers that a message waits for, and whose time has come."""
    rows = connection.execute(
        "SELECT p.id FROM hl7v2_peer p WHERE p.disabled IS NULL AND (p.due IS NULL OR p.due <= %s)"
        " AND EXISTS (SELECT FROM hl7v2_delivery d WHERE d.peer = p.id AND d.state = 'waiting') ORDER BY p.id",
        (now,),
    ).fetchall()
    return [str(identity) for (identity,) in rows]


def counts(connection: Connection, peer: str) -> tuple[int, int]:
    """How many messages wait for a peer, and how many are dead."""
    statement = "SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'dead') FROM hl7v2_delivery WHERE peer = %s"
    ((waiting, dead),) = connection.execute(f"{statement} AND state IN ('waiting', 'dead')", (peer,)).fetchall()
    return int(waiting), int(dead)


def replay(connection: Connection, delivery: Delivery, control_id: str, message: bytes) -> Delivery:
    """A dead message that waits again, in its old place. Raises Outcome `conflict` for one that is not dead."""
    if delivery.state != "dead":
        raise Outcome("conflict", f"Only dead messages are replayed; this one is {delivery.state}")
    statement = (
        "UPDATE hl7v2_delivery SET state = 'waiting', control_id = %s, message = %s, unanswered = 0, ended = NULL, fault = NULL, answer = NULL"  # noqa: S608 - our names
        f" WHERE id = %s RETURNING {_COLUMNS}"
    )
    connection.execute("UPDATE hl7v2_peer SET due = NULL WHERE id = %s", (delivery.peer,))
    return Delivery(*connection.execute(statement, (control_id, message, delivery.id)).fetchall()[0])


def forget(connection: Connection, now: datetime) -> int:
    """Takes out what was delivered longer ago than KEPT; how many messages that were. Dead ones stay until they are replayed."""
    return connection.execute("DELETE FROM hl7v2_delivery WHERE state = 'delivered' AND ended < %s", (now - KEPT,)).rowcount
