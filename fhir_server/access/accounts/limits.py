"""How often something may fail: counted in the database, so that all processes and hosts share the count.

A try is entered before it is made and struck out when it succeeds, so that many at once cannot all pass a limit that each of them saw unreached.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection, Database

MINUTES_15: Final = timedelta(minutes=15)
KEPT: Final = timedelta(days=1)
_UNDER_WAY: Final = timedelta(seconds=10)
_PATIENCE: Final = 20  # Looks, 0.1 s apart, at tries that are under way, before they count as failed.


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures under one key within a time."""

    key: bytes
    most: int
    within: timedelta = MINUTES_15


def enter(database: Database, limits: Sequence[Limit], now: datetime) -> list[int]:
    """Enters a try under each limit; the numbers of the entries, for `strike` or `fail`.

    Raises Outcome `throttled` with `Retry-After` in seconds where a limit is reached. Tries that others are making at this moment are waited for:
    two seconds at the most.
    """
    for look in range(_PATIENCE + 1):
        work = partial(_entered, limits=limits, now=now, waited=look == _PATIENCE)
        found = database.retrying(work)
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError("the last look decides")


def fail(database: Database, entries: Sequence[int]) -> None:
    """The tries have failed."""
    with database.connection() as connection:
        connection.execute("UPDATE attempt SET failed = true WHERE id = ANY(%s)", (list(entries),))


def strike(database: Database, entries: Sequence[int]) -> None:
    """The tries have not failed: they never count."""
    with database.connection() as connection:
        connection.execute("DELETE FROM attempt WHERE id = ANY(%s)", (list(entries),))


def forget(connection: Connection, keys: Sequence[bytes]) -> None:
    """Nothing has ever failed under these keys."""
    connection.execute("DELETE FROM attempt WHERE key = ANY(%s)", (list(keys),))


def _entered(connection: Connection, *, limits: Sequence[Limit], now: datetime, waited: bool) -> list[int] | None:
    with connection.transaction():
        # One after the other per key, in one order for all.
        for limit in sorted(limits, key=lambda each: each.key):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(limit.key[:8], signed=True),))
        for limit in limits:
            rows = connection.execute(
                "SELECT at, failed OR at < %s FROM attempt WHERE key = %s AND at > %s ORDER BY at DESC LIMIT %s",
                (now - _UNDER_WAY, limit.key, now - limit.within, limit.most),
            ).fetchall()
            if len(rows) < limit.most:
                continue
            if waited or all(failed for _, failed in rows):
                seconds = max(1, math.ceil((rows[-1][0] + limit.within - now).total_seconds()))
                raise Outcome("throttled", "Too many tries have failed; wait before the next", headers={"Retry-After": str(seconds)})
            return None
        return [
            connection.execute("INSERT INTO attempt (key, at) VALUES (%s, %s) RETURNING id", (limit.key, now)).fetchall()[0][0] for limit in limits
        ]
