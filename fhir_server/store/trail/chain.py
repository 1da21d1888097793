"""The hash chain over the audit trail, by which a change, a gap or an addition behind the server's back is found.

Each entry's hash is SHA-256 over the hash before it, its own numbers, and the canonical bytes of its event. Entries are made a moment after their
events: transactions commit in another order than they take ids in, so the chain has the order in which events were found. A chain cannot show that
its end was cut off; whoever keeps a hash elsewhere can (`verify` with `head`). Its oldest part may be in an archive; then it begins at an anchor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from fhir_server.store.database import Connection, Database, scalar

from .events import FIELDS

EMPTY: Final = bytes(32)
"""The hash before the first entry."""
BATCH: Final = 1_000
"""Events of one transaction of the sealer: some 30 ms, in which the recorder writes none."""

LOCK: Final = 0x46484957
"""The advisory lock of whoever changes the chain."""

_FETCH: Final = 2_000  # Rows in memory at a time; one that a client has sent may have 64 kB.
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_encode: Final = msgspec.json.Encoder().encode

_LAST: Final = "SELECT seq, hash, settled FROM audit_chain ORDER BY seq DESC LIMIT 1"
# Without a bound of its own the chain was walked from its beginning in each pass, 90 ns an entry.
OPEN: Final = (
    f"SELECT {FIELDS} FROM audit_event e WHERE e.id > %(settled)s"
    " AND NOT EXISTS (SELECT FROM audit_chain c WHERE c.event = e.id AND c.event > %(settled)s) ORDER BY e.id LIMIT %(most)s"
)
"""Events behind the id `settled` that have no entry, the first `most` of them."""
_ADD: Final = (
    "INSERT INTO audit_chain (seq, event, settled, hash)"
    " SELECT %s + n, event, %s, substring(%b::bytea FROM 32 * n::int - 31 FOR 32) FROM unnest(%s::bigint[]) WITH ORDINALITY AS x(event, n)"
)
_WALK: Final = f"SELECT c.seq, c.event, c.settled, c.hash, {FIELDS} FROM audit_chain c LEFT JOIN audit_event e ON e.id = c.event ORDER BY c.seq"
_ANCHORS: Final = "SELECT seq, hash, settled FROM audit_anchor ORDER BY seq DESC"
_UNSEALED: Final = (
    "SELECT count(*), min(e.id) FILTER (WHERE e.id <= %(settled)s) FROM audit_event e"
    " WHERE NOT EXISTS (SELECT FROM audit_chain c WHERE c.event = e.id)"
)

Progress = Callable[[int, int], None]
"""Called with how many entries are checked, and how many there are."""


def canonical(row: Sequence[Any]) -> bytes:
    """An event, its values in the order of `trail.COLUMNS`, as the bytes that the chain is made over: no two events have the same.

    A JSON array in UTF-8 without blanks; times are microseconds since 1970.
    """
    return _encode([(value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value for value in row])


def link(before: bytes, seq: int, settled: int, row: Sequence[Any]) -> bytes:
    """The hash of an entry."""
    return digest(before, seq, settled, canonical(row))


def digest(before: bytes, seq: int, settled: int, event: bytes) -> bytes:
    """The hash of an entry whose event is there as its canonical bytes."""
    return hashlib.sha256(before + _encode([seq, settled]) + event).digest()


class Sealer:
    """Adds entries for events that have none. Of several at once, in one process or many, one does the work."""

    def __init__(self, database: Database) -> None:
        """Works on a session of this database."""
        self._database = database
        # The highest id that was seen, and a transaction that began after that: when all before it are over, no event up to the id is to come, since
        # whoever takes an id has a transaction by then.
        self._mark: tuple[int, int] | None = None

    def seal(self) -> bool:
        """Seals up to BATCH events; whether there may be more. Raises Outcome `unavailable`."""
        with self._database.connection() as connection, connection.transaction():
            if not scalar(connection, "SELECT pg_try_advisory_xact_lock(%s)", LOCK):
                return False
            seq, head, settled = connection.execute(_LAST).fetchone() or (0, EMPTY, 0)
            oldest = scalar(connection, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            rows = connection.execute(OPEN, {"settled": settled, "most": BATCH}).fetchall()
            if not rows:
                return False
            if self._mark is not None and oldest >= self._mark[1]:
                # Of a full batch the ids behind its last have not been looked at.
                settled = max(settled, min(self._mark[0], rows[-1][0] if len(rows) == BATCH else self._mark[0]))
                self._mark = self._mark if settled < self._mark[0] else None
            hashes: list[bytes] = []
            for number, row in enumerate(rows, seq + 1):
                head = link(head, number, settled, row)
                hashes.append(head)
            connection.execute(_ADD, (seq, settled, b"".join(hashes), [row[0] for row in rows]))
            if self._mark is None:
                # Our own came with the entries, so that of whoever had an id when the events were read is lower. The end of a snapshot would not do:
                # it is that of the last transaction that is over, and some that still run are beyond it.
                self._mark = (rows[-1][0], scalar(connection, "SELECT pg_current_xact_id()::text::bigint"))
            return len(rows) == BATCH


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a chain was found to be.

    `entries` were in order, of which the first `archived` are in archives and were not looked at; `head` is the hash of the last of them, in
    hexadecimal; `unsealed` events have no entry yet. `fault` tells the first record that is not in order, and how; it is None where all are.
    `contains` is whether a hash that was asked for is among them, or is where an archive ends.
    """

    entries: int
    head: str
    unsealed: int = 0
    fault: str | None = None
    contains: bool = True
    archived: int = 0


def verify(database: Database, progress: Progress = lambda _done, _total: None, *, head: str | None = None) -> Verdict:
    """Walks the whole chain, from one snapshot and in bounded memory; 10 to 20 µs an event. `head` is a hash noted earlier.

    Raises Outcome `unavailable`.
    """
    with database.connection() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = 0", prepare=False)
        anchors = connection.execute(_ANCHORS).fetchall()
        seq, last, settled = anchors[0] if anchors else (0, EMPTY, 0)
        archived = seq
        total = archived + int(scalar(connection, "SELECT count(*) FROM audit_chain"))
        contains = head is None or head in {EMPTY.hex(), *(kept.hex() for _, kept, _ in anchors)}
        with connection.cursor("chain") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(_WALK)
            for number, event, settled_then, kept, *row in cursor:
                fault = _fault(seq, settled, number, event, settled_then, row)
                if fault is None and link(last, number, settled_then, row) != kept:
                    fault = f"event {event} (entry {number}) was changed, or its entry was"
                if fault is not None:
                    return Verdict(seq, last.hex(), 0, fault, contains, archived)
                last, seq, settled = kept, number, settled_then
                contains = contains or kept.hex() == head
                if seq % _FETCH == 0 or seq == total:
                    progress(seq, total)
        unsealed, added = _unsealed(connection, settled)
    fault = f"event {added} was added out of the chain" if added is not None else None
    return Verdict(seq, last.hex(), unsealed, fault, contains, archived)


def _fault(seq: int, settled: int, number: int, event: int, settled_then: int, row: Sequence[Any]) -> str | None:
    if number != seq + 1:
        return f"entry {seq + 1} of the chain is missing"
    if row[0] is None:
        return f"event {event} (entry {number}) is missing"
    if settled_then < settled:
        return f"entry {number} of the chain was changed"
    return None


def _unsealed(connection: Connection, settled: int) -> tuple[int, int | None]:
    row = connection.execute(_UNSEALED, {"settled": settled}).fetchone()
    return (int(row[0]), row[1]) if row is not None else (0, None)
