"""The record of the clinic behind two doors: `snapshot` to read, `transact` to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from fhir_server.search import Grant, Registry
from fhir_server.spec import r4

from .database import Database
from .dictionary import Dictionary, schema_version
from .ids import new_id
from .migrate import newest_revision
from .ops import Commit, Lookup, Op
from .snapshot import Snapshot
from .transact import Extras, Writer, transact


def utc_now() -> datetime:
    """The current time, cut to the milliseconds that an instant in `meta` shows."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Store:
    """One PostgreSQL database and what is needed to read and write FHIR in it. Safe to share between threads, not between processes."""

    def __init__(self, url: str, *, zone: ZoneInfo, bases: Sequence[str] = (), connections: int = 8, referential_integrity: bool = False) -> None:
        """Connects to a migrated database.

        `zone` is the clinic's, for dates without one; `bases` are this server's own FHIR bases, under which absolute references are local.
        Raises Outcome `unavailable` when the database is away or not migrated.
        """
        self._database = Database(url, connections=connections)
        # A session of its own: whoever holds one of the others for a transaction must not wait for a second of them.
        self._numbers = Database(url, connections=1)
        try:
            self._dictionary = Dictionary(self._numbers)
        except BaseException:
            self.close()
            raise
        self.registry = Registry(r4(), types=self._dictionary.types, pids=self._dictionary.parameters, zone=zone, base_url_prefixes=tuple(bases))
        self._writer = Writer(self._database, self.registry, self._dictionary, utc_now, new_id, referential_integrity)

    def close(self) -> None:
        """Lets running work end and closes the connections."""
        self._database.close()
        self._numbers.close()

    def ready(self) -> bool:
        """Whether the database answers and is at the newest schema."""
        if not self._database.answers():
            return False
        with self._database.connection() as connection:
            return schema_version(connection) == newest_revision()

    @contextmanager
    def snapshot(self, grant: Grant) -> Iterator[Snapshot]:
        """A read-only view of one moment, however many statements are run in it."""
        with self._database.connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield Snapshot(connection, self.registry, self._dictionary, grant)

    @contextmanager
    def latest(self, grant: Grant) -> Iterator[Snapshot]:
        """The same face for a single statement, which is consistent by itself: spares a read by id three round trips."""
        with self._database.connection() as connection:
            yield Snapshot(connection, self.registry, self._dictionary, grant)

    def transact(
        self,
        ops: Sequence[Op],
        grant: Grant,
        *,
        request_id: str = "",
        lookups: Sequence[Lookup] = (),
        once: bytes | None = None,
        then: Callable[[Snapshot], None] | None = None,
    ) -> Commit:
        """Does all ops in one database transaction or none; durable when it returns.

        `lookups` are the conditional references in the resources, resolved in the same transaction. With `once`, a second call with the same key
        does nothing and says so. `then` reads what was written before it is committed; if it raises, nothing is.
        Raises Outcome: `precondition` and `multiple-matches` (412), `forbidden`, `not-found` and `gone` (patch), `conflict` (409),
        `parameter` (two ops on one identity), `unavailable`. A transaction that loses against another is run again, up to six times.
        """
        return transact(self._writer, ops, grant, Extras(request_id, lookups, once, then))

    @property
    def clock(self) -> Callable[[], datetime]:
        """The clock that stamps versions."""
        return self._writer.clock
