"""Index rows made while others read and write: those of search parameters that come at run time, and all of them anew.

Resources are walked in the order of their numbers, some at a time. Their rows are made without a lock and put in place in a short transaction that
holds the resources' own rows, if they are still at the version that was read; who has changed one meanwhile is read again. Nobody waits for more than
such a transaction, about 10 ms. How far the walk is stands in `search_param.walked`, so that another process goes on where one was killed.

Writers make rows of a parameter from the moment that its row is committed, except those that had started before; the walk begins when they have
ended.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from psycopg import errors

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection, Database, scalar
from fhir_server.store.index.dictionary import Dictionary
from fhir_server.store.index.parameters import promote
from fhir_server.store.index.rows import Row, copy_rows, merge
from fhir_server.store.rules import consequences
from fhir_server.store.tables import BLOCK, INDEX_TABLES
from fhir_server.store.writing.plan import Writer

from . import jobs

_LOCK: Final = 0x46484954
_WINDOW: Final = 5_000  # Resources that one statement looks through for those concerned.
_CHUNK: Final = 200  # Resources whose rows one transaction replaces,
_CHUNK_BYTES: Final = 8_000_000  # or so many bytes of them.
_DELETE: Final = 5_000
_INTERVAL: Final = 10.0
PATIENCE: Final = 60.0
"""Seconds for which rows of a parameter that went stay: searches that began with it may still run."""
_ANALYZE_FROM: Final = 1_000
_TOLD: Final = 1.0  # Seconds between two notes of how far a job is.

_PENDING: Final = "SELECT EXISTS (SELECT FROM search_param WHERE NOT ready)"
_WINDOW_OF: Final = """
WITH w AS MATERIALIZED (SELECT rid, vid, type, deleted FROM resource WHERE rid > %s AND rid <= %s ORDER BY rid LIMIT %s)
SELECT w.rid, octet_length(v.body),
    CASE WHEN w.deleted THEN %s WHEN w.type = ANY(%s::smallint[]) THEN true ELSE v.body LIKE '%%"contained":%%' END
FROM w JOIN resource_version v USING (vid) ORDER BY w.rid
"""
_WRITERS: Final = """
SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = 'resource_version'::regclass AND mode = 'RowExclusiveLock'
AND granted AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""Whoever writes: a statement takes its locks before its snapshot, so who is not here after a commit sees what it committed."""
Progress = Callable[[int, int], None]
"""Called with how many resources are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Added:
    """A search parameter that came at run time. `source` is the id of its SearchParameter; `percent` of its rows are there, and at 100 it answers."""

    pid: int
    type: str
    code: str
    url: str
    source: str
    percent: int


def added(connection: Connection, *, after: int | None = None, limit: int) -> list[Added]:
    """So many parameters that have come, by number, after the one of this number."""
    found = connection.execute(
        "SELECT pid, type, code, url, source, ready, walked, (SELECT max(rid) FROM resource) FROM search_param"
        " WHERE source IS NOT NULL AND retired IS NULL AND code NOT LIKE '%%:%%' AND pid > %s ORDER BY pid LIMIT %s",
        (-1 if after is None else after, limit),
    )
    return [
        Added(pid, name, code, url, source, 100 if ready else min(99, 100 * max(walked, 0) // (top or 1)))
        for pid, name, code, url, source, ready, walked, top in found
    ]


@dataclass(frozen=True, slots=True)
class Coming:
    """A parameter whose rows are being made. `source` is the id of its SearchParameter."""

    pid: int
    type: str
    code: str
    source: str | None
    percent: int


def coming(connection: Connection) -> list[Coming]:
    """All that are on their way."""
    found = connection.execute(
        "SELECT pid, type, code, source, walked, (SELECT max(rid) FROM resource) FROM search_param WHERE NOT ready AND retired IS NULL ORDER BY pid"
    )
    return [Coming(pid, name, code, source, min(99, 100 * max(walked, 0) // (top or 1))) for pid, name, code, source, walked, top in found]


class Reindexer:
    """The work on index rows beside the writers', in one process."""

    def __init__(self, database: Database, numbers: Database, dictionary: Dictionary, refreshed: Callable[[], Writer]) -> None:
        """Takes a `database` for the work alone, and what makes rows with the newest set of parameters."""
        self._database = database
        self._numbers = numbers
        self._dictionary = dictionary
        self._refreshed = refreshed
        self._ends: dict[int, int] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = structlog.get_logger("fhir_server.store")

    def start(self) -> None:
        """Starts the thread that does what there is to do, at once and whenever it comes up."""
        self._thread = threading.Thread(target=self._run, name="reindex", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Tells the thread that there may be work."""
        self._wake.set()

    def close(self) -> None:
        """Ends the thread after its current transaction, and closes the connection."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10)
        self._database.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._refreshed()
                with self._numbers.connection() as connection:
                    pending, asked = scalar(connection, _PENDING), jobs.open_jobs(connection)
                if pending:
                    self.work(pause=True)
                if asked:
                    self._run_jobs()
            except Outcome as outcome:
                self._log.warning("indexing waits", reason=str(outcome))
            except Exception as error:  # noqa: BLE001 - the thread outlives whatever it meets
                self._log.error("indexing failed", exc_info=error)
            self._wake.wait(_INTERVAL)

    def work(self, *, patience: float = PATIENCE, seconds: float = math.inf, pause: bool = False) -> bool:
        """Makes all rows that are missing and takes away those of parameters that went `patience` seconds ago; False where another process does.

        It ends after so many `seconds` or a little more; with `pause` it leaves half of the time to others.
        """
        deadline = time.monotonic() + seconds
        with self._database.connection() as connection:
            if not scalar(connection, "SELECT pg_try_advisory_lock(%s)", _LOCK):
                return False
            try:
                while not self._stop.is_set() and time.monotonic() < deadline and self._advance(connection, pause=pause):
                    pass
                self._sweep(connection, patience)
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
        return True

    def renew(self, progress: Progress, resource_type: str | None, code: str | None) -> int:
        """See `Store.reindex`."""
        with self._database.connection() as connection:
            return self._renewed(connection, progress, resource_type, code)

    def check(self, resource_type: str | None, code: str | None) -> None:
        """Raises Outcome `not-found` for what `renew` does not know."""
        self._chosen(resource_type, code)

    def _renewed(self, connection: Connection, progress: Progress, resource_type: str | None, code: str | None, *, pause: bool = False) -> int:
        pids = self._chosen(resource_type, code)
        types = [resource_type] if resource_type is not None else list(self._dictionary.types) if pids is None else sorted(pids)
        numbers = None if pids is None else sorted({pid for its in pids.values() for pid in its})
        tids = [self._dictionary.types[name] for name in types]
        done, at = 0, 0
        total = scalar(connection, "SELECT count(*) FROM resource WHERE NOT deleted AND type = ANY(%s::smallint[])", tids)
        progress(0, total)
        last = _newest(connection)
        while window := self._window(connection, at, last, tids, deleted=pids is None):
            at = window[-1][0]
            for chunk in _chunks(window):
                start = time.monotonic()
                done += self._index(connection, chunk, numbers, whole=code is None)
                progress(min(done, total), total)
                if self._stop.wait(time.monotonic() - start if pause else 0):
                    return done
        return done

    def _run_jobs(self) -> None:
        """Runs what was asked for, one after the other, unless another process does."""
        with self._database.connection() as connection:
            if not scalar(connection, "SELECT pg_try_advisory_lock(%s)", jobs.LOCK):
                return

            def work(job: jobs.Job, tell: Progress) -> bool:
                self._renewed(connection, _now_and_then(tell), job.type, job.code, pause=True)
                return not self._stop.is_set()

            try:
                while not self._stop.is_set() and jobs.run_next(connection, work):
                    pass
            finally:
                if not connection.closed:
                    connection.execute("SELECT pg_advisory_unlock(%s)", (jobs.LOCK,))

    def _chosen(self, resource_type: str | None, code: str | None) -> dict[str, set[int]] | None:
        """The numbers of the parameters that are named, also of those made from them for modifiers, by type; None for all of all types."""
        if resource_type is not None and resource_type not in self._dictionary.types:
            raise Outcome("not-found", f"'{resource_type}' is not a resource type of FHIR R4", code="not-supported")
        if resource_type is None and code is None:
            return None
        writer = self._refreshed()
        chosen: dict[str, set[int]] = {}
        for (name, own), pid in writer.parameters.numbers.items():
            if resource_type in (None, name) and (code is None or own == code or own.startswith(f"{code}:")):
                # What has no rows of its own is searched under the numbers of others.
                param = writer.registry.supported_params(name).get(own)
                chosen.setdefault(name, set()).update((pid, *(param.pids if param is not None else ())))
        if not chosen:
            raise Outcome("not-found", f"There is no search parameter '{code}'" + (f" of {resource_type}" if resource_type else ""))
        return chosen

    def _advance(self, connection: Connection, *, pause: bool) -> bool:
        """Goes on by one window with those parameters that are furthest behind; False when there are none left."""
        rows = connection.execute("SELECT pid, type, code, walked FROM search_param WHERE NOT ready AND retired IS NULL").fetchall()
        if not rows:
            return False
        low = min(walked for *_, walked in rows)
        group = {pid: (name, code) for pid, name, code, walked in rows if walked == low}
        if low < 0:
            if not self._outlast_writers(connection):
                return False
            self._ends |= dict.fromkeys(group, _newest(connection))
            self._walked(connection, group, 0)
            return True
        # Resources of greater numbers were written when writers made the rows already. Another process may have begun: then by those of now.
        last = max(self._ends.get(pid) or self._ends.setdefault(pid, _newest(connection)) for pid in group)
        # Where they meet others that are further, they go on together.
        end = min((walked for *_, walked in rows if walked > low), default=last)
        types = [self._dictionary.types[name] for name in {name for name, _ in group.values()}]
        window = self._window(connection, low, end, types, deleted=False)
        for chunk in _chunks(window):
            start = time.monotonic()
            self._index(connection, chunk, list(group))
            if self._stop.wait(time.monotonic() - start if pause else 0):
                return False
            self._walked(connection, group, chunk[-1])
        if window:
            self._walked(connection, group, window[-1][0])
        elif end < last:
            self._walked(connection, group, end)
        else:
            self._finish(connection, group, low)
            self._ends = {pid: at for pid, at in self._ends.items() if pid not in group}
        return True

    def _finish(self, connection: Connection, group: Mapping[int, tuple[str, str]], top: int) -> None:
        if top >= _ANALYZE_FROM:
            # The planner knows nothing of the new numbers yet.
            for table in INDEX_TABLES:
                connection.execute(f"ANALYZE {table.name}")
        with connection.transaction():
            promote(connection, list(group))
        self._refreshed()
        if self._thread is not None:
            self._log.info("search parameters are ready", parameters=[".".join(key) for key in group.values()][:20], count=len(group))

    def _walked(self, connection: Connection, pids: Iterable[int], rid: int) -> None:
        connection.execute("UPDATE search_param SET walked = %s WHERE pid = ANY(%s::smallint[]) AND NOT ready", (rid, list(pids)))

    def _window(self, connection: Connection, after: int, end: int, types: Sequence[int], *, deleted: bool) -> list[tuple[int, int, bool]]:
        return connection.execute(_WINDOW_OF, (after, end, _WINDOW, deleted, list(types))).fetchall()

    def _index(self, connection: Connection, rids: Sequence[int], pids: Sequence[int] | None, *, whole: bool = False) -> int:
        """Makes the rows of these resources anew, all or those under some numbers; how many of them there are.

        With `whole` also what is kept beside the search rows: what appointments hold.
        """
        wanted = None if pids is None else {number for pid in pids for number in (pid, -pid)}
        todo, done = set(rids), 0
        while todo and not self._stop.is_set():
            try:
                settled = self._replace(connection, todo, wanted, whole=whole)
            except (errors.DeadlockDetected, errors.SerializationFailure):
                settled = {}
            done += sum(settled.values())
            if len(settled) < len(todo):
                time.sleep(0.02)
            todo -= settled.keys()
        return done

    def _replace(self, connection: Connection, rids: Collection[int], pids: Collection[int] | None, *, whole: bool = False) -> dict[int, bool]:
        """The same for as many as nobody else is at; each with whether it is there, and not deleted."""
        writer = self._refreshed()
        found = connection.execute(
            "SELECT r.rid, r.vid, v.body FROM resource r JOIN resource_version v ON v.vid = r.vid WHERE r.rid = ANY(%s) AND NOT r.deleted",
            (list(rids),),
        )
        read = {rid: (vid, fhirjson.loads(body.encode())) for rid, vid, body in found}
        made = {rid: (vid, _only(writer.registry.rows(resource), pids)) for rid, (vid, resource) in read.items()}
        with connection.transaction():
            # One of the writers, whom others wait for before they begin a walk or a rebuild.
            connection.execute("LOCK TABLE resource_version, sp_date IN ROW EXCLUSIVE MODE")
            if not self._fits(connection, writer):
                return {}
            held = connection.execute(
                "SELECT rid, vid, deleted FROM resource WHERE rid = ANY(%s) ORDER BY rid FOR NO KEY UPDATE SKIP LOCKED", (list(rids),)
            ).fetchall()
            same = {rid: not deleted for rid, vid, deleted in held if deleted or (rid in made and made[rid][0] == vid)}
            for table in INDEX_TABLES:
                if pids is None:
                    connection.execute(f"DELETE FROM {table.name} WHERE rid = ANY(%s)", (list(same),))
                else:
                    # The cast keeps the planner from the index that begins with pid: that is the whole walk so far, for every chunk.
                    connection.execute(f"DELETE FROM {table.name} WHERE rid = ANY(%s) AND pid::int = ANY(%s)", (list(same), list(pids)))
            copy_rows(connection, self._dictionary, merge((made[rid][1], rid) for rid, there in same.items() if there))
            if whole:
                renewed = {rid: read[rid][1] if there else None for rid, there in same.items()}
                consequences.renew_some(connection, writer.registry, renewed, writer.clock())
        return same

    def _fits(self, connection: Connection, writer: Writer) -> bool:
        fit = writer.fit
        there = connection.execute(
            "SELECT generation, fingerprint, cardinality(addresses) FROM search_generation LEFT JOIN index_settings ON true"
        ).fetchone()
        if there is not None and there[1] is not None and there[1] != fit.fingerprint:
            raise Outcome("unavailable", "The search rows were made under other settings than this process has")
        return there is not None and there[0] == fit.generation and there[2] in (None, fit.addresses)

    def _sweep(self, connection: Connection, patience: float) -> None:
        rows = connection.execute(
            "SELECT pid FROM search_param WHERE retired <= clock_timestamp() - make_interval(secs => %s)", (patience,)
        ).fetchall()
        if not rows:
            return
        gone = [pid for (pid,) in rows]
        if not self._outlast_writers(connection):
            return
        numbers = [number for pid in gone for number in (pid, -pid)]
        for table in INDEX_TABLES:
            if not any(index.columns.keys()[0] == "pid" for index in table.indexes):
                continue
            some = f"SELECT ctid FROM {table.name} WHERE pid = ANY(%s::smallint[]) LIMIT {_DELETE}"
            while connection.execute(f"DELETE FROM {table.name} WHERE ctid = ANY(ARRAY({some}))", (numbers,)).rowcount:
                if self._stop.is_set():
                    return
        connection.execute("DELETE FROM search_param WHERE pid = ANY(%s::smallint[]) AND retired IS NOT NULL", (gone,))

    def _outlast_writers(self, connection: Connection) -> bool:
        """Waits until everybody who is writing now has ended; False where the wait was cut short."""
        writing = {row[0] for row in connection.execute(_WRITERS)}
        while writing and not self._stop.wait(0.01):
            writing &= {row[0] for row in connection.execute(_WRITERS)}
        return not writing


def _now_and_then(progress: Progress) -> Progress:
    """Tells the first and the last, and one each second."""
    told = -math.inf

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done >= total or time.monotonic() - told > _TOLD:
            told = time.monotonic()
            progress(done, total)

    return tell


def _newest(connection: Connection) -> int:
    """A number that no resource has yet, nor any number that a process has in store for new ones."""
    newest: int = scalar(connection, "SELECT last_value + %s FROM resource_rid", BLOCK)
    return newest


def _only(rows: Mapping[str, Sequence[Row]], pids: Collection[int] | None) -> Mapping[str, Sequence[Row]]:
    return rows if pids is None else {table: [row for row in made if row[0] in pids] for table, made in rows.items()}


def _chunks(window: Iterable[tuple[int, int | None, bool]]) -> Iterator[list[int]]:
    """The numbers of the resources concerned, as many together as one transaction takes."""
    chunk: list[int] = []
    size = 0
    for rid, length, concerned in window:
        if concerned:
            chunk.append(rid)
            size += length or 0
        if chunk and (len(chunk) == _CHUNK or size > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
