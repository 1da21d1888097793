"""Index rows that fit the settings they were made under: what these are, whether they have changed, and all rows anew.

A write takes old rows away by making them again from the old body, so all rows have to come from the same zone, bases, extraction code and facts.
Their fingerprint stands in the database. Addresses that a server answers at (`http://localhost:8000/fhir`) vary from start to start; they are only
ever added to, so that another port changes no row, unless some reference lies below it already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from psycopg import errors
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.search.extraction import INDEX_VERSION
from fhir_server.spec import digest
from fhir_server.store.database import RETRY_AFTER, Connection, scalar
from fhir_server.store.index.dictionary import Dictionary
from fhir_server.store.index.parameters import promote
from fhir_server.store.index.rows import copy_rows, merge
from fhir_server.store.rules import consequences
from fhir_server.store.tables import INDEX_TABLES

Progress = Callable[[int, int], None]
"""Called with how many resources are done, and how many there are."""

_LOCK: Final = 0x46484953
_FETCH: Final = 50  # Resources that come from the database at a time; each may be as large as a request.
_CHUNK: Final = 1_000  # Resources whose rows go into one COPY per table,
_CHUNK_BYTES: Final = 8_000_000  # or so many bytes of them.
_LOCK_SECONDS: Final = 60.0
_NAMES: Final = ", ".join(table.name for table in INDEX_TABLES)
_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves the factory untyped

_BELOW: Final = """
SELECT EXISTS (
    SELECT FROM search_param p, unnest(%s::text[]) AS b(base)
    WHERE EXISTS (SELECT FROM sp_reference s WHERE s.pid = p.pid AND s.id >= b.base || '/' AND s.id < b.base || '0'))
"""
"""Whether a row holds a URL below one of these bases ('0' follows '/'): a range of the index per parameter and base,
7 ms for three bases and 58,000 resources."""


def fingerprint(zone: ZoneInfo, bases: Sequence[str]) -> str:
    """What index rows depend on, as people can read it."""
    return f"CLINIC_TIMEZONE={zone.key}; PUBLIC_URL={' '.join(bases) or 'unset'}; rules={INDEX_VERSION}; facts={digest()}"


def differences(there: str, here: str) -> str:
    """What of two fingerprints differs, as 'CLINIC_TIMEZONE=UTC there, CLINIC_TIMEZONE=Europe/Berlin here'."""
    old, new = there.split("; "), here.split("; ")
    return f"{', '.join(part for part in old if part not in new)} there, {', '.join(part for part in new if part not in old)} here"


def recorded(connection: Connection) -> tuple[str, list[str]] | None:
    """Fingerprint and addresses of the rows that are there, None where nobody has recorded them."""
    return connection.execute("SELECT fingerprint, addresses FROM index_settings").fetchone()


def renew(
    connection: Connection,
    registry: Callable[[Connection, Sequence[str]], Registry],
    dictionary: Dictionary,
    wanted: str,
    addresses: Collection[str],
    progress: Progress,
) -> int | None:
    """Makes all rows anew if they do not fit, and records what they were made under; the number of resources, None where they fitted.

    `registry` makes one of the parameters that the database has, with further addresses; `wanted` is the fingerprint that is to be. Parameters that
    were on their way have arrived after this.

    One transaction: whoever searches or writes meanwhile waits, and sees the old rows if this fails. Of several callers one does the work. 5,000
    resources a second or so, in bounded memory. Raises Outcome `unavailable` where others keep the tables busy for a minute.
    """
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0", prepare=False)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        there = recorded(connection)
        known = there[1] if there else []
        new = [address for address in dict.fromkeys(addresses) if address not in known]
        fits = there is not None and there[0] == wanted
        if fits and not new:
            return None
        _lock_out(connection)
        count = None
        if not fits or scalar(connection, _BELOW, new):
            _settle(connection)
            count = _all_anew(connection, registry(connection, [*known, *new]), dictionary, progress)
        connection.execute(
            "INSERT INTO index_settings (fingerprint, addresses) VALUES (%s, %s)"
            " ON CONFLICT (single) DO UPDATE SET fingerprint = excluded.fingerprint, addresses = excluded.addresses",
            (wanted, [*known, *new]),
        )
    return count


def _settle(connection: Connection) -> None:
    """Lets parameters that are on their way answer, and forgets those that are retired: their rows are about to be made, and to go."""
    coming = connection.execute("SELECT pid FROM search_param WHERE NOT ready AND retired IS NULL").fetchall()
    if coming:
        promote(connection, [pid for (pid,) in coming])
    connection.execute("DELETE FROM search_param WHERE retired IS NOT NULL")


def _lock_out(connection: Connection) -> None:
    """Waits until nobody reads or writes index rows, and keeps everybody out until the transaction ends."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            with connection.transaction():
                # Half a second: a writer that has read one table and waits for another makes a ring with us, and after a second PostgreSQL
                # would end one of the two. While we wait, all others queue behind us.
                connection.execute("SET LOCAL lock_timeout = 500")
                connection.execute(f"LOCK TABLE {_NAMES} IN ACCESS EXCLUSIVE MODE")
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            if time.monotonic() > deadline:
                raise Outcome("unavailable", "Others keep the search tables busy; try again when less is going on", headers=RETRY_AFTER) from None
            time.sleep(0.2)
        else:
            return


def _all_anew(connection: Connection, registry: Registry, dictionary: Dictionary, progress: Progress) -> int:
    total: int = scalar(connection, "SELECT count(*) FROM resource WHERE NOT deleted")
    progress(0, total)
    connection.execute(f"TRUNCATE {_NAMES}")
    # Filled without indexes, which are then sorted once instead of being searched for every row.
    indexes = [index for table in INDEX_TABLES for index in sorted(table.indexes, key=lambda index: str(index.name))]
    connection.execute(f"DROP INDEX {', '.join(str(index.name) for index in indexes)}")
    done = 0
    with connection.cursor("rebuild") as cursor:
        cursor.itersize = _FETCH
        cursor.execute("SELECT r.rid, v.body FROM resource r JOIN resource_version v ON v.vid = r.vid WHERE NOT r.deleted ORDER BY r.rid")
        rows = iter(cursor)
        while chunk := list(_limited(rows)):
            copy_rows(connection, dictionary, merge((registry.rows(fhirjson.loads(body)), rid) for rid, body in chunk))
            done += len(chunk)
            progress(done, total)
    for index in indexes:
        connection.execute(str(CreateIndex(index).compile(dialect=_DIALECT)))
    connection.execute(f"ANALYZE {_NAMES}")
    consequences.renew(connection, registry, datetime.now(UTC))
    return done


def _limited(rows: Iterator[tuple[int, str]]) -> Iterator[tuple[int, bytes]]:
    """The next rows, as many as may be in memory."""
    size = 0
    for number, (rid, text) in enumerate(rows, 1):
        body = text.encode()
        yield rid, body
        size += len(body)
        if number == _CHUNK or size > _CHUNK_BYTES:
            return
