"""Connections to PostgreSQL: the pool, what every session is set to, and which errors mean that the database is away.

https://www.psycopg.org/psycopg3/docs/advanced/pool.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout

from fhir_server.outcome import Outcome
from fhir_server.settings import NETWORK

from .session import Session

Connection = Session
T = TypeVar("T")

RETRY_AFTER: Final = {"Retry-After": "2"}
_ATTEMPTS: Final = 6
_SESSION: Final = "-c jit=off -c TimeZone=UTC -c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000 -c application_name=fhir-server"


class Changed(Exception):  # noqa: N818 - an event, not a fault: the transaction starts again
    """What a transaction has found was changed by another one before it was locked."""


# 40001 and 40P01: the transaction lost against another; 23505: another made the same thing in between; 23P01: took the same time. All are settled by
# trying again.
_LOST: Final = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation, errors.ExclusionViolation, Changed)
_TOO_LARGE: Final = (errors.ProgramLimitExceeded, errors.StatementTooComplex, errors.TooManyArguments, errors.TooManyColumns)
# 25006: a server that has become a standby; 25P03: it ended the session of a transaction that did nothing for a minute.
_AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction, errors.IdleInTransactionSessionTimeout)


class Database:
    """A pool of connections in autocommit mode."""

    def __init__(self, url: str, *, connections: int, wait: float = 5.0) -> None:
        """Opens up to `connections` sessions when they are needed; a request waits `wait` seconds for one before it is told 503."""
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            min_size=0,
            max_size=connections,
            timeout=wait,
            reconnect_timeout=10,
            open=True,
            connection_class=Session,
            kwargs={"autocommit": True, "client_encoding": "utf8", "options": _SESSION, "prepare_threshold": None, **NETWORK},
        )

    def close(self) -> None:
        """Waits for running work and closes every session."""
        self._pool.close()

    @contextmanager
    def connection(self, *, retried: bool = False) -> Iterator[Connection]:
        """One session. Raises Outcome `unavailable` when the database is away or none becomes free in time.

        What the database cannot hold is `parameter` or `too-large`. What a lost race raises is left to the caller if the work is `retried`.
        """
        try:
            # Without the pool's own context manager, which ends a transaction that in autocommit mode is never there: 10 µs of a read's 180.
            connection = self._pool.getconn()
        except PoolTimeout:
            raise Outcome("unavailable", "The database is not reachable, or busier than it can serve; try again", headers=RETRY_AFTER) from None
        try:
            yield connection
        except _LOST:
            if retried:
                raise
            raise _conflict() from None
        except errors.QueryCanceled:
            raise Outcome("unavailable", "The request took longer than a minute in the database", code="timeout", headers=RETRY_AFTER) from None
        except _TOO_LARGE:
            raise Outcome("too-large", "The request is too large or too complex for the database") from None
        except psycopg.DataError as error:
            raise Outcome("parameter", f"A value cannot be stored or compared: {error.diag.message_primary or error}", code="value") from None
        except _AWAY as error:
            if not connection.closed and isinstance(error, errors.ReadOnlySqlTransaction):
                connection.close()  # A new session may find the server that takes writes.
            elif connection.closed:
                self._pool.check()  # Sessions that died with the server are found out now rather than by one request each.
            raise Outcome("unavailable", "The database is away, or has no room; try again", headers=RETRY_AFTER) from error
        finally:
            self._pool.putconn(connection)

    def retrying(self, work: Callable[[Connection], T]) -> T:
        """Runs a whole transaction, again from its start when it lost against another one; Outcome `conflict` after six losses."""
        for _ in range(_ATTEMPTS):
            try:
                with self.connection(retried=True) as connection:
                    return work(connection)
            except _LOST:
                continue
        raise _conflict()

    def answers(self) -> bool:
        """Whether a statement goes through within three seconds."""
        try:
            with self._pool.connection(timeout=3) as connection:
                connection.execute("SELECT 1")
        except (psycopg.Error, PoolTimeout):
            return False
        return True


def _conflict() -> Outcome:
    return Outcome("conflict", "Others keep changing the same resources; try again", code="transient", headers=RETRY_AFTER)


@contextmanager
def exclusive(connection: Connection, space: int, name: str) -> Iterator[bool]:
    """Whether the block is the only one of its kind in all processes, for as long as it lasts; `space` tells kinds apart.

    Needs no transaction, and ends with the session: what a process held that was killed is free at once.
    """
    mine = bool(scalar(connection, "SELECT pg_try_advisory_lock(%s, hashtext(%s))", space, name))
    try:
        yield mine
    finally:
        if mine and not connection.closed:
            with suppress(psycopg.Error):
                connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", (space, name))


def scalar(connection: Connection, statement: str, *arguments: Any) -> Any:
    """The first column of the first row; None where there is no row."""
    row = connection.execute(statement, arguments).fetchone()
    return row[0] if row else None
