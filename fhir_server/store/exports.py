"""Bulk exports as rows: asked for by whatever process, made by whoever holds the lock, and read by their callers for a day.

A file is kept in parts of some megabytes, so that neither writing nor reading one takes more memory than that. An export that stands as running when
the lock is had is one whose process has ended: it is begun anew.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fhir_server.outcome import Outcome
from fhir_server.search import Grant

from .database import Connection, exclusive, scalar
from .rules.subscribers import holder_text

KEPT: Final = timedelta(days=1)
"""How long an export can be fetched after it has ended."""
AT_ONCE: Final = 5
"""Exports of one caller that are not over."""

_LOCK: Final = 0x46484963
_COLUMNS: Final = "id, actor, holder, request, state, done, created, at, ended, fault"
_OPEN: Final = "state IN ('waiting', 'running')"
_NEXT: Final = (
    "UPDATE bulk_export SET state = 'running', done = 0"
    f" WHERE id = (SELECT id FROM bulk_export WHERE {_OPEN} ORDER BY state = 'running', created, id LIMIT 1) RETURNING {_COLUMNS}"
)


@dataclass(frozen=True, slots=True)
class Export:
    """One export. `holder` is what was open to its `actor`, `request` what they asked for, `at` the moment that it shows, `done` its resources."""

    id: str
    actor: str
    holder: str
    request: str
    state: str
    done: int
    created: datetime
    at: datetime | None
    ended: datetime | None
    fault: str | None


class File(NamedTuple):
    """One file: the resource type that it has, of how many resources, and whether it tells that they were deleted."""

    number: int
    type: str
    resources: int
    deleted: bool = False


class Dropped(Exception):  # noqa: N818 - not an error
    """The export that is being made is not wanted any more."""


def ask(connection: Connection, grant: Grant, request: str, now: datetime, room: int) -> str:
    """The id of an export that waits. Raises Outcome `throttled` for a caller who has too many, and where those that are kept fill the `room`."""
    if held(connection) >= room:
        raise Outcome(
            "throttled", "The exports that are kept fill the room for them; delete those that you have fetched", headers={"Retry-After": "600"}
        )
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, grant.actor))
        open_ = connection.execute(f"SELECT count(*) FROM bulk_export WHERE actor = %s AND {_OPEN}", (grant.actor,)).fetchone()
        if open_ is not None and open_[0] >= AT_ONCE:
            raise Outcome("throttled", f"{AT_ONCE} exports of yours are not over; wait for one, or delete one", headers={"Retry-After": "60"})
        identity = secrets.token_urlsafe(18)
        connection.execute(
            "INSERT INTO bulk_export (id, actor, holder, request, state, created) VALUES (%s, %s, %s, %s, 'waiting', %s)",
            (identity, grant.actor, holder_text(grant), request, now),
        )
    return identity


def export(connection: Connection, identity: str) -> Export | None:
    """The export of an id."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM bulk_export WHERE id = %s", (identity,)).fetchone()
    return None if row is None else Export(*row)


def files(connection: Connection, identity: str) -> list[File]:
    """The files of an export, in order."""
    statement = "SELECT number, type, count, deleted FROM bulk_file WHERE export = %s ORDER BY number"
    return [File(*row) for row in connection.execute(statement, (identity,))]


def held(connection: Connection) -> int:
    """How many bytes all files take, packed as they are. Some milliseconds: their lengths are known without reading them."""
    return int(scalar(connection, "SELECT coalesce(sum(octet_length(content)), 0) FROM bulk_file"))


def settled(connection: Connection, moment: datetime) -> datetime:
    """The latest time until `moment` from before which nothing can come to the record any more: writes that are under way have begun after it.

    To be asked before the view of the record is opened, and some time after the moment: a write takes its time before its transaction is seen.
    """
    writing = "SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL AND xact_start < %s"
    begun: datetime | None = scalar(connection, writing, moment)
    # Times of versions are cut to the millisecond, and what is asked for comes after the time that is named.
    return moment if begun is None else begun - timedelta(milliseconds=1)


def content(connection: Connection, identity: str, number: int) -> tuple[str, bytes] | None:
    """The type and the NDJSON of a file."""
    row = connection.execute("SELECT type, content FROM bulk_file WHERE export = %s AND number = %s", (identity, number)).fetchone()
    return None if row is None else (row[0], zlib.decompress(row[1]))


def drop(connection: Connection, identity: str) -> None:
    """Ends an export and takes its files away."""
    connection.execute("DELETE FROM bulk_export WHERE id = %s", (identity,))


def forget(connection: Connection, now: datetime) -> None:
    """Takes away what ended long enough ago."""
    connection.execute("DELETE FROM bulk_export WHERE ended < %s", (now - KEPT,))


def add(connection: Connection, identity: str, file: File, lines: bytes, room: int) -> None:
    """Adds a file to an export. Raises Dropped where that is not there any more, Outcome `too-costly` where all files would take more than `room`."""
    packed = zlib.compress(lines, 1)
    if held(connection) + len(packed) > room:
        raise Outcome("too-costly", f"It does not fit into the {room // 1_000_000} MB that are for exports; ask for less, or delete others")
    statement = (
        "WITH e AS (UPDATE bulk_export SET done = done + %s WHERE id = %s RETURNING id)"
        " INSERT INTO bulk_file (export, number, type, count, content, deleted) SELECT id, %s, %s, %s, %s, %s FROM e"
    )
    values = (file.resources, identity, file.number, file.type, file.resources, packed, file.deleted)
    if not connection.execute(statement, values).rowcount:
        raise Dropped


def run_next(connection: Connection, work: Callable[[Export], datetime], now: Callable[[], datetime]) -> bool:
    """Makes the export that has waited longest; False where none waits, or another process is making one.

    `work` adds its files, gives the moment that they show, and raises Outcome for what is its fault. One that was begun before comes after those that
    wait: what ends its process again and again keeps nobody else from theirs. What else `work` raises ends the export too, and is raised.
    """
    with exclusive(connection, _LOCK, "making") as mine:
        row = connection.execute(_NEXT).fetchone() if mine else None
        if row is None:
            return False
        current = Export(*row)
        connection.execute("DELETE FROM bulk_file WHERE export = %s", (current.id,))
        at, fault = None, None
        try:
            at = work(current)
        except Dropped:
            return True
        except Outcome as outcome:
            if outcome.category == "unavailable":
                raise
            fault = str(outcome)
        except Exception:
            _end(connection, current.id, None, now(), "Something went wrong here; the server's log tells what")
            raise
        _end(connection, current.id, at, now(), fault)
        return True


def _end(connection: Connection, identity: str, at: datetime | None, now: datetime, fault: str | None) -> None:
    if fault is not None:
        connection.execute("DELETE FROM bulk_file WHERE export = %s", (identity,))
    connection.execute(
        "UPDATE bulk_export SET state = %s, at = %s, ended = %s, fault = %s WHERE id = %s",
        ("done" if fault is None else "failed", at, now, fault, identity),
    )
