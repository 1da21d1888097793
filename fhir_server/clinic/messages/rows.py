"""Messages as rows: planned once, claimed by one worker, settled, revoked, replayed.

planned → sending → sent | planned (again later) | dead; planned → suppressed | revoked | expired; dead → planned by an administrator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection, scalar

from .events import Channel

STATES: Final = ("planned", "sending", "sent", "dead", "suppressed", "revoked", "expired")
KEPT: Final = timedelta(days=180)
"""So long a message stays as a row when it is over; the record keeps its Communication."""
LOCK: Final = 0x46484961
"""Of a message that a worker has at hand; see `database.exclusive`."""

Settled = Literal["sent", "dead", "suppressed", "revoked", "expired"]

# PostgreSQL takes nearly every message for one of the second kind, and would read all there are, each ten seconds; in order it asks the index that
# has only those.
IS_DUE: Final = (
    "SELECT EXISTS (SELECT FROM message WHERE state = 'planned' AND due <= %s)"
    " OR (SELECT id FROM message WHERE recorded IS DISTINCT FROM state AND state <> 'sending' ORDER BY id LIMIT 1) IS NOT NULL"
)
"""Whether there is something to do at a moment; of two hundred thousand messages it took 22 ms, and takes 0.1."""


@dataclass(frozen=True, slots=True)
class New:
    """A message to plan: of `event`, about `focus` (`Appointment/12`), to a patient by a channel, not before `due` and not after `expires`.

    Of one `about`, `occurrence`, channel and patient there is one. `start` is the time of the appointment that it tells of; `details` are values for
    its text that the resource does not have. With a `reason` it is not to be sent, and kept for who asks why.
    """

    event: str
    focus: str
    about: str
    occurrence: str
    channel: Channel
    patient: str
    due: datetime
    expires: datetime | None = None
    start: datetime | None = None
    details: Mapping[str, str | bool] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `reason` says why it was not sent, `fault` why the last try failed; `told` is the subject or SMS that was sent.

    `request` and `communication` are the ids of what the record has of it, which shows the state `recorded`.
    """

    id: int
    event: str
    focus: str
    about: str
    occurrence: str
    channel: Channel
    patient: str
    state: str
    reason: str | None
    due: datetime
    expires: datetime | None
    start: datetime | None
    details: str | None
    attempts: int
    created: datetime
    claimed: datetime | None
    ended: datetime | None
    fault: str | None
    told: str | None
    request: str | None
    communication: str | None
    recorded: str | None


_COLUMNS: Final = ", ".join(each.name for each in fields(Message))
_NEW: Final = (
    "event text, focus text, about text, occurrence text, channel text, patient text, state text, reason text, due timestamptz,"
    " expires timestamptz, start timestamptz, details text, created timestamptz, ended timestamptz"
)
_NAMES: Final = ", ".join(each.split()[0] for each in _NEW.split(", "))
_PLAN: Final = (
    f"INSERT INTO message ({_NAMES}) SELECT {_NAMES} FROM json_to_recordset(%s::json) AS x({_NEW})"  # noqa: S608 - our names
    " ON CONFLICT ON CONSTRAINT message_once DO NOTHING"
)
_CLAIM: Final = f"""
UPDATE message SET state = 'sending', claimed = %(now)s, attempts = attempts + 1
WHERE id = %(id)s AND state = 'planned' AND due <= %(now)s RETURNING {_COLUMNS}
"""  # noqa: S608 - our names


def plan(connection: Connection, messages: Iterable[New], now: datetime) -> None:
    """Adds messages, but for those that are there. One statement."""
    rows = [_row(each, now) for each in messages]
    if rows:
        connection.execute(_PLAN, (json.dumps(rows),))


def void(connection: Connection, focuses: Sequence[str], now: datetime) -> None:
    """Takes back all that is planned about some resources."""
    if focuses:
        connection.execute(
            "UPDATE message SET state = 'revoked', reason = 'changed', ended = %s WHERE focus = ANY(%s) AND state = 'planned'", (now, list(focuses))
        )


def due(connection: Connection, now: datetime, limit: int) -> list[int]:
    """The numbers of so many messages that are due, those that have been so for longest first."""
    statement = "SELECT id FROM message WHERE state = 'planned' AND due <= %s ORDER BY due, id LIMIT %s"
    return [identity for (identity,) in connection.execute(statement, (now, limit)).fetchall()]


def claim(connection: Connection, identity: int, now: datetime) -> Message | None:
    """The message, which is on its way from now on; None where it is not to be had. The caller holds the lock of its number."""
    row = connection.execute(_CLAIM, {"id": identity, "now": now}).fetchone()
    return None if row is None else Message(*row)


def abandoned(connection: Connection) -> list[int]:
    """The numbers of messages that somebody has at hand, or had."""
    return [identity for (identity,) in connection.execute("SELECT id FROM message WHERE state = 'sending' ORDER BY id LIMIT 1000").fetchall()]


def again(connection: Connection, identity: int, due: datetime, fault: str) -> None:
    """Lets a claimed message wait until it is due again."""
    connection.execute("UPDATE message SET state = 'planned', due = %s, fault = %s WHERE id = %s AND state = 'sending'", (due, fault, identity))


def settle(
    connection: Connection,
    identity: int,
    state: Settled,
    now: datetime,
    *,
    reason: str | None = None,
    fault: str | None = None,
    told: str | None = None,
) -> None:
    """Ends a claimed message."""
    connection.execute(
        "UPDATE message SET state = %s, ended = %s, reason = %s, fault = coalesce(%s, fault), told = %s WHERE id = %s AND state = 'sending'",
        (state, now, reason, fault, told, identity),
    )


def get(connection: Connection, identity: int, *, lock: bool = False) -> Message | None:
    """The message of a number."""
    statement = f"SELECT {_COLUMNS} FROM message WHERE id = %s{' FOR UPDATE' if lock else ''}"  # noqa: S608 - our names
    row = connection.execute(statement, (identity,)).fetchone()
    return None if row is None else Message(*row)


def page(connection: Connection, wanted: Mapping[str, str], after: int | None, limit: int) -> list[Message]:
    """So many messages, the newest first, before that of a number; `wanted` as the columns are called."""
    conditions = [f"{name} = %({name})s" for name in ("event", "state", "channel", "patient", "focus") if name in wanted]
    conditions += ["id < %(after)s"] if after is not None else []
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {_COLUMNS} FROM message {where} ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608 - our names
    return [Message(*row) for row in connection.execute(statement, {**wanted, "after": after, "limit": limit}).fetchall()]


def replay(connection: Connection, message: Message, now: datetime) -> Message:
    """A dead message that is due again. Raises Outcome `conflict` for one that is not dead, or of no use any more."""
    if message.state != "dead":
        raise Outcome("conflict", f"Only dead messages are sent again; this one is {message.state}")
    if message.expires is not None and message.expires <= now:
        raise Outcome("conflict", "The time that the message tells of is over")
    statement = (
        "UPDATE message SET state = 'planned', due = %s, attempts = 0, fault = NULL, reason = NULL, ended = NULL WHERE id = %s"  # noqa: S608 - our names
        f" RETURNING {_COLUMNS}"
    )
    return Message(*connection.execute(statement, (now, message.id)).fetchall()[0])


def unrecorded(connection: Connection, limit: int) -> list[Message]:
    """So many messages whose state the record does not show, locked for the caller's transaction; others skip them."""
    statement = (
        f"SELECT {_COLUMNS} FROM message WHERE recorded IS DISTINCT FROM state AND state <> 'sending'"  # noqa: S608 - our names
        " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"
    )
    return [Message(*row) for row in connection.execute(statement, (limit,)).fetchall()]


def record(connection: Connection, messages: Sequence[tuple[int, str | None, str | None]]) -> None:
    """Notes what the record has of messages: their numbers, with the ids of CommunicationRequest and Communication."""
    columns = [list(each) for each in zip(*messages, strict=True)]
    connection.execute(
        "UPDATE message m SET recorded = m.state, request = x.request, communication = x.communication"
        " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS x(id, request, communication) WHERE m.id = x.id",
        columns,
    )


def waiting(connection: Connection, now: datetime) -> int:
    """How many are due, or on their way."""
    statement = "SELECT count(*) FROM message WHERE (state = 'planned' AND due <= %s) OR state = 'sending'"
    return int(connection.execute(statement, (now,)).fetchall()[0][0])


def is_due(connection: Connection, now: datetime) -> bool:
    """Whether some message is due, or the record does not show what has become of one."""
    return bool(scalar(connection, IS_DUE, now))


def sending(connection: Connection) -> bool:
    """Whether some message is on its way."""
    return connection.execute("SELECT 1 FROM message WHERE state = 'sending' LIMIT 1").fetchone() is not None


def forget(connection: Connection, now: datetime) -> None:
    """Takes out what was over longer ago than KEPT. Dead ones stay as long."""
    connection.execute("DELETE FROM message WHERE ended < %s AND recorded IS NOT DISTINCT FROM state", (now - KEPT,))


def _row(new: New, now: datetime) -> dict[str, Any]:
    moments = {name: value.isoformat() if (value := getattr(new, name)) is not None else None for name in ("due", "expires", "start")}
    texts = {name: getattr(new, name) for name in ("event", "focus", "about", "occurrence", "channel", "patient", "reason")}
    details = json.dumps(dict(new.details)) if new.details else None
    stated = {"state": "planned", "ended": None} if new.reason is None else {"state": "suppressed", "ended": now.isoformat()}
    return texts | moments | stated | {"details": details, "created": now.isoformat()}
