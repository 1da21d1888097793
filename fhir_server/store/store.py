"""The record of the clinic behind two doors: `snapshot` to read, `transact` to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry
from fhir_server.settings import Settings
from fhir_server.spec import r4

from .database import RETRY_AFTER, Database
from .dictionary import Dictionary, schema_version
from .ids import new_id
from .index import Fit, Stale
from .migrate import newest_revision
from .ops import Commit, Lookup, Op
from .plan import Writer
from .rebuild import Progress, differences, fingerprint, recorded, renew
from .snapshot import Snapshot
from .tables import INDEX_TABLES
from .transact import Extras, transact

_ATTEMPTS: Final = 3
_SEARCHED: Final = ", ".join(table.name for table in INDEX_TABLES)


def utc_now() -> datetime:
    """The current time, cut to the milliseconds that an instant in `meta` shows."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Store:
    """One PostgreSQL database and what is needed to read and write FHIR in it. Safe to share between threads, not between processes."""

    def __init__(self, url: str, *, zone: ZoneInfo, bases: Sequence[str] = (), connections: int = 8, referential_integrity: bool = False) -> None:
        """Connects to a migrated database.

        `zone` is the clinic's, for dates without one; `bases` are this server's public FHIR bases, under which absolute references are local, as
        they are under every address that the database has recorded (see `fit`).
        Raises Outcome `unavailable` when the database is away or not migrated.
        """
        self._database = Database(url, connections=connections)
        # A session of its own: whoever holds one of the others for a transaction must not wait for a second of them.
        self._numbers = Database(url, connections=1)
        try:
            self._dictionary = Dictionary(self._numbers)
            self.registry = Registry(r4(), types=self._dictionary.types, pids=self._dictionary.parameters, zone=zone, base_url_prefixes=tuple(bases))
            self._fit = Fit(fingerprint(zone, bases))
            self._learn_addresses()
        except BaseException:
            self.close()
            raise
        self._writer = Writer(self._database, self.registry, self._dictionary, self._fit, utc_now, new_id, referential_integrity)

    @classmethod
    def of(cls, settings: Settings, *, connections: int) -> Store:
        """A store as the settings have it; they name a database. Raises as the constructor does."""
        return cls(
            str(settings.database_url),
            zone=settings.clinic_timezone,
            bases=(f"{settings.public_url}/fhir",) if settings.public_url else (),
            connections=connections,
            referential_integrity=settings.reference_integrity,
        )

    def close(self) -> None:
        """Lets running work end and closes the connections."""
        self._database.close()
        self._numbers.close()

    def ready(self) -> bool:
        """Whether the database answers, is at the newest schema, and has index rows that fit this store's settings."""
        if not self._database.answers():
            return False
        with self._database.connection() as connection:
            if schema_version(connection) != newest_revision():
                return False
            there = recorded(connection)
        return there is None or there[0] == self._fit.fingerprint

    def check_fit(self) -> None:
        """Raises Outcome `unavailable`, which names the settings, where the index rows were made under others than this store's."""
        with self._numbers.connection() as connection:
            there = recorded(connection)
        if there is not None and there[0] != self._fit.fingerprint:
            raise Outcome(
                "unavailable",
                f"The search rows were made under other settings ({differences(there[0], self._fit.fingerprint)}); start with the same settings, or"
                " let `fhir-server migrate` make the rows anew while no server works on the database",
                headers=RETRY_AFTER,
            )

    def fit(self, addresses: Sequence[str] = (), progress: Progress = lambda _done, _total: None) -> int | None:
        """Sees that the index rows fit this store's settings; the number of resources indexed anew, None where they fitted.

        `addresses` are FHIR bases that the server answers at besides its public ones: references below them are local from now on, for every process.
        Rows that do not fit are made anew as by `rebuild`.
        """
        with self._database.connection() as connection:
            return renew(connection, self.registry, self._dictionary, self._fit, addresses, progress, force=False)

    def rebuild(self, progress: Progress) -> int:
        """Makes all index rows anew from the current versions, under this store's settings; the number of resources.

        Whoever reads or writes meanwhile waits, for a minute at the most, and then is told 503. A rebuild that fails changes nothing. Memory does not
        grow with the resources. Raises Outcome `unavailable` when the database is away, or others keep the tables busy for a minute.
        """
        with self._database.connection() as connection:
            return renew(connection, self.registry, self._dictionary, self._fit, (), progress, force=True) or 0

    def _learn_addresses(self) -> None:
        with self._numbers.connection() as connection:
            if schema_version(connection) != newest_revision():
                raise Outcome("unavailable", "The database is not at this program's schema; run `fhir-server migrate`", headers=RETRY_AFTER)
            there = recorded(connection)
        if there is not None:
            self.registry.add_bases(there[1])
            self._fit.addresses = len(there[1])

    @contextmanager
    def snapshot(self, grant: Grant) -> Iterator[Snapshot]:
        """A read-only view of one moment, however many statements are run in it."""
        with self._database.connection() as connection, connection.transaction():
            # The lock, 15 µs, comes before the moment is chosen: to a moment before a rebuild the search tables would seem empty after it.
            connection.execute(
                f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; LOCK TABLE {_SEARCHED} IN ACCESS SHARE MODE", prepare=False
            )
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
        for _ in range(_ATTEMPTS):
            try:
                return transact(self._writer, ops, grant, Extras(request_id, lookups, once, then))
            except Stale:
                self.check_fit()
                self._learn_addresses()
        raise Outcome("unavailable", "The server's addresses keep changing; try again", headers=RETRY_AFTER)

    @property
    def clock(self) -> Callable[[], datetime]:
        """The clock that stamps versions."""
        return self._writer.clock
