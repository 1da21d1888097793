"""Reindexing that is asked for over HTTP: rows that the thread of the reindexer takes one after the other.

Whoever holds the lock runs jobs. A job that stands as running when the lock is had is one whose process has ended: it is begun anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

LOCK: Final = 0x46484956
_COLUMNS: Final = "id, type, code, state, done, total, actor, created, started, ended, fault"
_OPEN: Final = "state IN ('waiting', 'running')"


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `type` and `code` say what is indexed anew, all of it where both are None; `done` and `total` count resources."""

    id: str
    type: str | None
    code: str | None
    state: str
    done: int
    total: int | None
    actor: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    fault: str | None


def ask(connection: Connection, resource_type: str | None, code: str | None, actor: str, now: datetime) -> Job:
    """A job that waits, asked for by `actor`. Raises Outcome `conflict` where the same waits already."""
    same = "SELECT id FROM reindex_job WHERE state = 'waiting' AND type IS NOT DISTINCT FROM %s AND code IS NOT DISTINCT FROM %s"
    waiting = connection.execute(same, (resource_type, code)).fetchone()
    if waiting is not None:
        raise Outcome("conflict", f"The same waits already, as the job {waiting[0]}")
    statement = f"INSERT INTO reindex_job (id, type, code, state, actor, created) VALUES (%s, %s, %s, 'waiting', %s, %s) RETURNING {_COLUMNS}"
    return Job(*connection.execute(statement, (secrets.token_hex(8), resource_type, code, actor, now)).fetchall()[0])


def jobs(connection: Connection, *, after: tuple[datetime, str] | None = None, limit: int) -> list[Job]:
    """So many jobs, the newest first, after the one of this time and id."""
    older = "WHERE (created, id) < (%s, %s)" if after is not None else ""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM reindex_job {older} ORDER BY created DESC, id DESC LIMIT %s", (*(after or ()), limit))
    return [Job(*row) for row in rows.fetchall()]


def job(connection: Connection, identity: str) -> Job | None:
    """The job of an id."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM reindex_job WHERE id = %s", (identity,)).fetchone()
    return None if row is None else Job(*row)


def run_next(connection: Connection, work: Callable[[Job, Callable[[int, int], None]], bool]) -> bool:
    """Runs the job that has waited longest, while the caller holds the lock; False where none waits, or where the work was cut short.

    `work` is given the job and what to tell progress to, says whether it came to its end, and raises what is the job's fault.
    """
    taken = connection.execute(
        "UPDATE reindex_job SET state = 'running', started = clock_timestamp(), done = 0 WHERE id ="
        f" (SELECT id FROM reindex_job WHERE {_OPEN} ORDER BY created, id LIMIT 1) RETURNING {_COLUMNS}",
    ).fetchone()
    if taken is None:
        return False
    current = Job(*taken)

    def tell(done: int, total: int) -> None:
        connection.execute("UPDATE reindex_job SET done = %s, total = %s WHERE id = %s", (done, total, current.id))

    fault = None
    try:
        if not work(current, tell):
            return False
    except Outcome as outcome:
        # A database that is away says nothing of the job.
        if outcome.category == "unavailable":
            raise
        fault = outcome.issues[0].diagnostics
    connection.execute(
        "UPDATE reindex_job SET state = %s, ended = clock_timestamp(), fault = %s WHERE id = %s", ("failed" if fault else "done", fault, current.id)
    )
    return True


def open_jobs(connection: Connection) -> int:
    """How many wait or run."""
    ((count,),) = connection.execute(f"SELECT count(*) FROM reindex_job WHERE {_OPEN}").fetchall()
    return int(count)
