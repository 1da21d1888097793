"""The record of the clinic behind two doors: `snapshot` to read, `transact` to write."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry
from fhir_server.settings import Settings
from fhir_server.spec import r4

from .database import RETRY_AFTER, Connection, Database, scalar
from .ids import new_id
from .index.dictionary import Dictionary, Parameters, parameters, schema_version
from .index.rows import Fit, Stale
from .ops import Commit, Lookup, Resource
from .postgres.migrate import newest_revision
from .reindexing.jobs import Job, ask
from .reindexing.rebuild import Progress, differences, fingerprint, recorded, renew
from .reindexing.reindex import PATIENCE, Coming, Reindexer, coming
from .snapshot import Snapshot
from .tables import INDEX_TABLES
from .trail import Event
from .trail.recorder import Recorder
from .trail.search import Entry, append_one
from .transact import Extras, defines_parameters, transact
from .units import Ops, Unit
from .writing.plan import Writer

_ATTEMPTS: Final = 6
_SEARCHED: Final = ", ".join(table.name for table in INDEX_TABLES)
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL enable_seqscan = off;"
    f" LOCK TABLE {_SEARCHED} IN ACCESS SHARE MODE; SELECT generation FROM search_generation"
)
"""Chooses the moment that a transaction sees, in one round trip; brings the generation of the search parameters then.

The lock, 15 µs, comes before the moment is chosen: to a moment before a rebuild the search tables would seem empty after it.
Statistics take a range for full that is empty, since they know a column and not a parameter; read whole, a table is read for nothing then.
"""


def utc_now() -> datetime:
    """The current time, cut to the milliseconds that an instant in `meta` shows."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Store:
    """One PostgreSQL database and what is needed to read and write FHIR in it. Safe to share between threads, not between processes."""

    def __init__(
        self,
        url: str,
        *,
        zone: ZoneInfo,
        bases: Sequence[str] = (),
        connections: int = 8,
        referential_integrity: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Connects to a migrated database, whose versions `clock` stamps.

        `zone` is the clinic's, for dates without one; `bases` are this server's public FHIR bases, under which absolute references are local, as
        they are under every address that the database has recorded (see `fit`).
        Raises Outcome `unavailable` when the database is away or not migrated.
        """
        self.url: Final = url
        """Of the database; holds a password."""
        self._database = Database(url, connections=connections)
        # A session of its own: whoever holds one of the others for a transaction must not wait for a second of them.
        self._numbers = Database(url, connections=1)
        self._zone, self._bases = zone, tuple(bases)
        self._fingerprint = fingerprint(zone, bases)
        self._learning = threading.Lock()
        self._viewed = threading.local()
        try:
            self._dictionary = Dictionary(self._numbers)
            with self._numbers.connection() as connection:
                if schema_version(connection) != newest_revision():
                    raise Outcome("unavailable", "The database is not at this program's schema; run `fhir-server migrate`", headers=RETRY_AFTER)
                there, known = recorded(connection), parameters(connection)
        except BaseException:
            self.close()
            raise
        addresses = there[1] if there is not None else []
        fit = Fit(self._fingerprint, len(addresses), known.generation, known.listening)
        self._writer = Writer(self._database, self._registry(known, addresses), self._dictionary, known, fit, clock, new_id, referential_integrity)
        self._recorder = Recorder(Database(url, connections=1))
        self._reindexer = Reindexer(Database(url, connections=1), self._numbers, self._dictionary, self.refreshed)

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

    @property
    def database(self) -> Database:
        """The pool of connections, for what is no FHIR data: accounts and sessions."""
        return self._database

    @property
    def bases(self) -> tuple[str, ...]:
        """The FHIR bases below which absolute references are the server's own: its public one, and those that the database has recorded."""
        return tuple(sorted(base.rstrip("/") for base in self._writer.registry.context.bases))

    def close(self) -> None:
        """Lets running work end and closes the connections."""
        if hasattr(self, "_reindexer"):
            self._reindexer.close()
            self._recorder.close()
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
        return there is None or there[0] == self._fingerprint

    def check_fit(self) -> None:
        """Raises Outcome `unavailable`, which names the settings, where the index rows were made under others than this store's."""
        with self._numbers.connection() as connection:
            there = recorded(connection)
        if there is not None and there[0] != self._fingerprint:
            raise Outcome(
                "unavailable",
                f"The search rows were made under other settings ({differences(there[0], self._fingerprint)}); start with the same settings, or"
                " let `fhir-server migrate` make the rows anew while no server works on the database",
                headers=RETRY_AFTER,
            )

    def fit(self, addresses: Sequence[str] = (), progress: Progress = lambda _done, _total: None) -> int | None:
        """Sees that the index rows fit this store's settings; the number of resources indexed anew, None where they fitted.

        `addresses` are FHIR bases that the server answers at besides its public ones: references below them are local from now on, for every process.
        While rows that do not fit are made anew, whoever reads or writes waits, for a minute at the most, and then is told 503. Where that fails
        nothing has changed. Memory does not grow with the resources. Raises Outcome `unavailable` when the database is away, or others keep the
        tables busy for a minute.
        """
        with self._database.connection() as connection:
            count = renew(connection, self._registry_of, self._dictionary, self._fingerprint, addresses, progress)
        self._learn()
        return count

    def gather_statistics(self) -> None:
        """Tells the planner what the tables hold now. After many writes at once its plans are wrong until it knows; 1 to 2 s of CPU at any size."""
        with self._database.connection() as connection:
            connection.execute(f"ANALYZE resource, resource_version, {_SEARCHED}", prepare=False)

    def index_in_background(self) -> None:
        """Has a thread of this process make the rows of search parameters that come at run time, and take away those of parameters that go.

        Of several processes on one database one does the work. `close` ends it.
        """
        self._reindexer.start()

    def note(self, event: Event) -> None:
        """Hands an event over to the audit trail, where it is durable within 0.1 s; one that belongs to a transaction comes by `trail.append`.

        Raises Outcome `unavailable` where the trail cannot be written to, or not fast enough.
        """
        self._recorder.note(event)

    def append_event(self, event: Event) -> Entry:
        """Adds an event to the audit trail by itself; durable when it returns. Raises Outcome `unavailable`."""
        with self._database.connection() as connection:
            return append_one(connection, event)

    def flush_notes(self) -> None:
        """Returns when the events handed over so far are durable. Raises Outcome `unavailable` where they are not within five seconds."""
        self._recorder.flush()

    def seal_in_background(self) -> None:
        """Has a thread of this process seal the audit chain, in turns with other processes on the database. `close` ends it."""
        self._recorder.seal()

    def index_now(self, *, seconds: float = math.inf, patience: float = PATIENCE) -> None:
        """Does that work here and now, for so many `seconds`, unless another process is at it.

        Rows of parameters that went `patience` seconds ago go too; searches that began before may still ask for them.
        """
        self._reindexer.work(seconds=seconds, patience=patience)

    def reindex(self, progress: Progress, *, resource_type: str | None = None, code: str | None = None) -> int:
        """Makes the index rows of all resources, of one type's, or of one parameter anew while others read and write; the number of resources.

        A few resources at a time, whose old rows answer until the new ones stand. Raises Outcome `not-found` for an unknown type or parameter.
        """
        return self._reindexer.renew(progress, resource_type, code)

    def ask_reindex(self, connection: Connection, resource_type: str | None, code: str | None, actor: str) -> Job:
        """Asks for the same as a job of the background, in a transaction of the caller's, who calls `wake` after it.

        Raises Outcome `not-found` as `reindex`, `conflict` where the same waits already.
        """
        self._reindexer.check(resource_type, code)
        return ask(connection, resource_type, code, actor, utc_now())

    def wake(self) -> None:
        """Tells this process's background that there may be work; that of others looks every ten seconds."""
        self._reindexer.wake()

    def indexing(self) -> list[Coming]:
        """The search parameters whose rows are still being made, and how far that is."""
        with self._numbers.connection() as connection:
            return coming(connection)

    @property
    def registry(self) -> Registry:
        """The search parameters as this process knows them, or as they were at the moment that this thread looks at by `snapshot`.

        It is another one whenever their set has changed.
        """
        return getattr(self._viewed, "registry", None) or self._writer.registry

    def refreshed(self, generation: int | None = None) -> Writer:
        """What to make index rows with, of that generation of the search parameters if this process can have it; without one, of the newest."""
        if generation is None:
            with self._numbers.connection() as connection:
                generation = scalar(connection, "SELECT generation FROM search_generation")
        with self._learning:
            if self._writer.parameters.generation != generation:
                self._learn()
            return self._writer

    def _learn(self) -> None:
        """Takes over the addresses and the search parameters that are recorded."""
        with self._numbers.connection() as connection:
            there, known = recorded(connection), parameters(connection)
        addresses = there[1] if there is not None else []
        fit = Fit(self._fingerprint, len(addresses), known.generation, known.listening)
        self._writer = replace(self._writer, registry=self._registry(known, addresses), parameters=known, fit=fit)

    def _registry_of(self, connection: Connection, addresses: Sequence[str]) -> Registry:
        return self._registry(parameters(connection), addresses)

    def _registry(self, known: Parameters, addresses: Sequence[str]) -> Registry:
        return Registry(
            r4(),
            types=self._dictionary.types,
            pids=known.numbers,
            zone=self._zone,
            base_url_prefixes=(*self._bases, *addresses),
            added=known.added,
            coming=known.coming,
            progress=self._progress,
        )

    def _progress(self, pid: int) -> str:
        return next((f", {each.percent} % done" for each in self.indexing() if each.pid == pid), "")

    @contextmanager
    def snapshot(self, grant: Grant) -> Iterator[Snapshot]:
        """A read-only view of one moment, however many statements are run in it.

        Until it is left, `registry` is for this thread that of the moment: rows of parameters that have come since need not be there.
        """
        with self._database.connection() as connection:
            for _ in range(_ATTEMPTS):
                writer = self._writer
                with connection.transaction(_BEGIN) as begun:
                    generation = int(begun.get_value(0, 0) or 0) if begun is not None and begun.ntuples else 0
                    if generation == writer.parameters.generation:
                        before = getattr(self._viewed, "registry", None)
                        self._viewed.registry = writer.registry
                        try:
                            yield Snapshot(connection, writer.registry, self._dictionary, grant)
                        finally:
                            self._viewed.registry = before
                        return
                self.refreshed(generation)
        raise _restless()

    @contextmanager
    def latest(self, grant: Grant) -> Iterator[Snapshot]:
        """The same face for a single statement, which is consistent by itself: spares a read by id two round trips."""
        with self._database.connection() as connection:
            yield Snapshot(connection, self.registry, self._dictionary, grant)

    def transact(  # noqa: PLR0913 - the one door for every writer
        self,
        ops: Ops,
        grant: Grant,
        *,
        request_id: str = "",
        lookups: Sequence[Lookup] = (),
        once: bytes | None = None,
        then: Callable[[Snapshot], None] | None = None,
        address: str = "",
        provenance: Resource | None = None,
        beside: Callable[[Connection, Commit], None] | None = None,
        operation: str = "",
    ) -> Commit:
        """Does all ops in one database transaction or none; durable when it returns.

        Ops that depend on what is there are a function that is given the transaction's connection, to look and to lock, and what the grant shows of
        the record in it; it is called again when the transaction is.
        `lookups` are the conditional references in the resources, resolved in the same transaction. With `once`, a second call with the same key
        does nothing and says so. `then` reads what was written before it is committed; if it raises, nothing is. `beside` is the last before the
        commit: given the connection and what will have been done, it may write rows of its own, which stand or fall with the resources. Each version
        that is written leaves an event in the audit trail, in the same transaction, with the request's id and the caller's `address`. A `provenance`,
        valid but for its targets, is created for all that is written; an amendment has one made for it. An `operation` of the server's own is named
        that keeps the rules of bills by itself, which plain writes are held to.
        Raises Outcome: `precondition` and `multiple-matches` (412), `forbidden`, `not-found` and `gone` (patch), `conflict` (409),
        `parameter` (two ops on one identity), `method` (AuditEvent), `unavailable`.
        A transaction that loses against another is run again, up to six times.
        """
        unit = Unit(ops, grant, request_id, address, provenance, operation=operation)
        hook = None if beside is None else lambda connection, commits: beside(connection, commits[0])
        return self._transact((unit,), Extras(lookups, once, then, hook))[0]

    def transact_all(self, units: Sequence[Unit], beside: Callable[[Connection, Sequence[Commit]], None]) -> list[Commit]:
        """Does all ops of all units in one database transaction or none; one Commit for each, durable when it returns.

        Each unit is held to its grant as if it were alone, and none may name what another one writes, by a condition or as `seen`. `beside` is as for
        `transact`, given all that will have been done. Raises as `transact`, whichever unit it is that is refused; Outcome `conflict` also where what
        one has `seen` has changed. The number of statements is that of one unit.
        """
        return self._transact(units, Extras(beside=beside))

    def _transact(self, units: Sequence[Unit], extras: Extras) -> list[Commit]:
        for _ in range(_ATTEMPTS):
            try:
                commits = transact(self._writer, units, extras)
            except Stale:
                self.check_fit()
                self._learn()
                continue
            if any(not callable(unit.ops) and defines_parameters(unit.ops) for unit in units):
                # What is committed is committed, whether or not it can be looked at now.
                with suppress(Outcome):
                    self.refreshed()
                self._reindexer.wake()
            return commits
        raise _restless()

    def is_there(self, connection: Connection, resource_type: str, identity: str) -> bool:
        """Whether there is a resource of this type and id, not deleted, as a transaction of the caller's sees it."""
        statement = "SELECT 1 FROM resource WHERE type = %s AND id = %s AND NOT deleted"
        return scalar(connection, statement, self._dictionary.types[resource_type], identity) is not None

    def by(self, clock: Callable[[], datetime]) -> Store:
        """The same store by another clock, which stamps what is written; for a few writes while this one is open."""
        other = copy(self)
        other._writer = replace(self._writer, clock=clock)  # noqa: SLF001 - its own
        return other

    @property
    def clock(self) -> Callable[[], datetime]:
        """The clock that stamps versions."""
        return self._writer.clock


def _restless() -> Outcome:
    return Outcome("unavailable", "The server's addresses or search parameters keep changing; try again", headers=RETRY_AFTER)
