"""What changed, for those who want to hear of it after the commit: consumers by name, each with its own rows, written by the change's own statement.

A consumer that is away finds all that happened meanwhile. Who listens to which types is known to every process that writes, under a generation that
its statements check (`index.Fit`): a change that nobody listens to costs nothing. Figures: docs/decisions/0024-after-the-commit.md

https://www.postgresql.org/docs/current/sql-notify.html
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from fhir_server.settings import NETWORK

from .database import Connection, Database, scalar

BATCH: Final = 100
"""Changes that a consumer is given at a time."""

_LOCK: Final = 0x46484958
_AGAIN: Final = 2.0  # Seconds until another try to listen.
_COLUMNS: Final = "id, type, resource, version, kind, at, actor, client"

_log = logging.getLogger("fhir_server.outbox")


@dataclass(frozen=True, slots=True)
class Change:
    """One version that somebody listens to: `version` of `type`/`resource`, written `at` by `actor` through `client`, as the grant names them.

    `number` goes up with each change of one resource, and from one change to any that began after its commit; between changes that were made at the
    same time it says nothing.
    """

    number: int
    type: str
    resource: str
    version: int
    kind: Literal["create", "update", "patch", "delete"]
    at: datetime
    actor: str
    client: str | None


def listen(connection: Connection, consumer: str, types: Collection[str]) -> None:
    """Has a consumer hear of changes of these types and of no others, from the commit of the caller's transaction on; what waits for it stays.

    Where that is what it hears of already, nothing is written.
    """
    # Who else changes this waits here: the generation goes up for each.
    connection.execute("SELECT FROM search_generation FOR UPDATE")
    rows = connection.execute("SELECT type FROM outbox_listener WHERE consumer = %s", (consumer,)).fetchall()
    before, after = {name for (name,) in rows}, set(types)
    if before == after:
        return
    connection.execute("DELETE FROM outbox_listener WHERE consumer = %s AND type <> ALL(%s)", (consumer, sorted(after)))
    connection.execute("INSERT INTO outbox_listener (consumer, type) SELECT %s, unnest(%s::text[])", (consumer, sorted(after - before)))
    connection.execute("UPDATE search_generation SET listening = listening + 1")


def drain(database: Database, consumer: str, work: Callable[[Connection, Sequence[Change]], object]) -> Literal["some", "none", "busy"]:
    """Gives a consumer its next changes, up to BATCH, in their order; whether there were any, or somebody else is at it.

    `work` gets them with the connection of a transaction in which they are struck off: what it writes is written once, and where it raises, the
    changes stay. It should be over within seconds, and not speak to others from there.
    """
    with database.connection() as connection, connection.transaction():
        # One at a time, or the second would overtake the first.
        if not scalar(connection, "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", _LOCK, consumer):
            return "busy"
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM outbox WHERE consumer = %s ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED", (consumer, BATCH)
        ).fetchall()
        if not rows:
            return "none"
        work(connection, [Change(*row) for row in rows])
        connection.execute("DELETE FROM outbox WHERE id = ANY(%s)", ([row[0] for row in rows],))
        return "some"


def waiting(connection: Connection) -> dict[str, int]:
    """How many changes each consumer has still to hear of. Counts them."""
    return dict(connection.execute("SELECT consumer, count(*) FROM outbox GROUP BY consumer").fetchall())


class Bell:
    """Rings when something was written that somebody listens to. Has a session of its own; for one thread."""

    def __init__(self, url: str, channel: str = "outbox") -> None:
        """Connects when first waited for; `channel` is the name under which it is rung."""
        self._url = url
        self._channel = channel
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float) -> bool:
        """Returns at the first change that is committed, or after so many seconds; whether there was one.

        A change between two calls rings at once. While the database is away it just takes its time.
        """
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True, application_name=f"fhir-server {self._channel}", **NETWORK)
                self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                # What was committed before is not told of.
                return True
            return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
        except psycopg.Error as error:
            _log.warning("nobody tells of changes now; they are looked for", extra={"reason": type(error).__name__})
            self.close()
            time.sleep(min(seconds, _AGAIN))
            return False

    def close(self) -> None:
        """Ends the session."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
