"""The oldest part of the audit chain in a file that proves itself: NDJSON, whose first line says where it begins; each other one is an entry.

An entry is `{"seq", "settled", "hash", "event"}`. Its `hash` is SHA-256 over the hash before it, the JSON array `[seq,settled]` and the text of
`event` as it stands in the line: a JSON array of the values that the first line names as `columns`, times in microseconds since 1970. What was
written to the file goes out of the database, where an anchor stays: the number and the hash of the last entry that went.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from fhir_server.store.database import Connection, Database, scalar

from .chain import EMPTY, LOCK, Progress, canonical, digest
from .events import COLUMNS, FIELDS, Event, append

_CHUNK: Final = 5_000  # Entries of one transaction, half a second, in which nothing is sealed.
_RECORDED: Final = COLUMNS.index("recorded")
_ANCHOR: Final = "SELECT seq, hash FROM audit_anchor ORDER BY seq DESC LIMIT 1"
# Never the last: the next entry is built on it.
_OLDEST: Final = (
    f"SELECT c.seq, c.settled, c.hash, {FIELDS} FROM audit_chain c LEFT JOIN audit_event e ON e.id = c.event"
    " WHERE c.seq > %s AND c.seq < (SELECT max(seq) FROM audit_chain) ORDER BY c.seq LIMIT %s"
)
_KEEP: Final = "INSERT INTO audit_anchor (seq, settled, hash, xid, made) VALUES (%s, %s, %s, 0, now())"


class _Header(msgspec.Struct):
    entries_before: int
    hash_before: str
    columns: list[str]


class _Entry(msgspec.Struct):
    seq: int
    settled: int
    hash: str
    event: msgspec.Raw


_header: Final = msgspec.json.Decoder(_Header)
_entry: Final = msgspec.json.Decoder(_Entry)
_encode: Final = msgspec.json.Encoder().encode


Row = tuple[int, int, bytes, Sequence[Any]]
"""An entry of the chain: number, settled, hash, event."""


class BrokenChainError(Exception):
    """The chain, or a file of it, does not hold; the text says where."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A part of the chain: the entries from `first` to `last`, the hash before them and that of the last, in hexadecimal."""

    first: int
    last: int
    before: str
    head: str
    contains: bool = False

    @property
    def count(self) -> int:
        """How many entries there are."""
        return self.last - self.first + 1


def archive(database: Database, until: datetime, file: BinaryIO, progress: Progress = lambda _done, _total: None) -> Archived:
    """Moves the entries whose events are older than `until` to an empty file, up to the first that is not; the last of the chain stays.

    Some thousands in each transaction, which commits when they are safe in the file: after a crash the file may have entries that the database has
    too, and never lacks one. `progress` has how many went, and how many there were to look at. Raises BrokenChainError where an entry does not hold,
    which stays with all behind it; Outcome `unavailable`; OSError where the file cannot be written.
    """
    total = 0
    with database.connection() as connection:
        begun = connection.execute(_ANCHOR).fetchone() or (0, EMPTY)
        total = int(scalar(connection, "SELECT count(*) FROM audit_chain"))
    first, last, head = begun[0] + 1, begun[0], begun[1]
    file.write(_encode({"entries_before": last, "hash_before": head.hex(), "columns": COLUMNS}) + b"\n")
    while True:
        with database.connection() as connection, connection.transaction():
            connection.execute("SET LOCAL statement_timeout = 0", prepare=False)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if (connection.execute(_ANCHOR).fetchone() or (0, EMPTY)) != (last, head):
                raise BrokenChainError("somebody else archives at the same time")
            entries = _older(connection, until, last, head)
            if not entries:
                return Archived(first, last, begun[1].hex(), head.hex())
            file.writelines(map(_line, entries))
            file.flush()
            os.fsync(file.fileno())
            if last < first:
                append(connection, [Event("operation", "system", type="AuditEvent", detail=f"archive of events before {until.isoformat()}")])
            _take_out(connection, entries)
        last, head = entries[-1][0], entries[-1][2]
        progress(last - first + 1, total)


def check(path: Path, head: str | None = None) -> Archived:
    """What is in an archive, all of which holds. `contains` tells whether the hash `head` is in it. 10 µs an entry, in bounded memory.

    Raises BrokenChainError with the first line that does not hold, OSError.
    """
    with path.open("rb") as file:
        try:
            begun = _header.decode(file.readline())
            before = bytes.fromhex(begun.hash_before)
        except (msgspec.DecodeError, ValueError):
            raise BrokenChainError(f"{path} is no archive of an audit trail") from None
        last, kept, contains = begun.entries_before, before, False
        for number, line in enumerate(file, 2):
            try:
                entry = _entry.decode(line)
            except (msgspec.DecodeError, ValueError):
                raise BrokenChainError(f"line {number} of {path} is no entry") from None
            made = digest(kept, entry.seq, entry.settled, bytes(entry.event))
            if entry.seq != last + 1 or made.hex() != entry.hash:
                raise BrokenChainError(f"line {number} of {path} was changed, or one before it is missing")
            last, kept, contains = entry.seq, made, contains or entry.hash == head
    return Archived(begun.entries_before + 1, last, begun.hash_before, kept.hex(), contains)


def is_linked(database: Database, part: Archived) -> bool:
    """Whether the trail in the database goes on from the end of an archive, or did so before more was archived."""
    with database.connection() as connection:
        row = connection.execute("SELECT hash FROM audit_anchor WHERE seq = %s", (part.last,)).fetchone()
    return row is not None and row[0].hex() == part.head


def _line(entry: Row) -> bytes:
    seq, settled, kept, event = entry
    return b'{"seq":%d,"settled":%d,"hash":"%s","event":%s}\n' % (seq, settled, kept.hex().encode(), canonical(event))


def _older(connection: Connection, until: datetime, last: int, head: bytes) -> list[Row]:
    found: list[Row] = []
    for seq, settled, kept, *event in connection.execute(_OLDEST, (last, _CHUNK)):
        if event[0] is None or seq != last + 1 or digest(head, seq, settled, canonical(event)) != kept:
            if found:
                break
            raise BrokenChainError(f"the audit chain is broken at entry {last + 1}; `audit verify` tells more")
        if event[_RECORDED] >= until:
            break
        found.append((seq, settled, kept, event))
        last, head = seq, kept
    return found


def _take_out(connection: Connection, entries: Sequence[Row]) -> None:
    seq, settled, kept, _ = entries[-1]
    connection.execute(_KEEP, (seq, settled, kept))
    # Nobody has this right, nor sees that it was given for the moment.
    connection.execute("GRANT DELETE ON audit_event, audit_chain TO CURRENT_USER")
    connection.execute("DELETE FROM audit_event WHERE id = ANY(%s)", ([event[0] for *_, event in entries],))
    connection.execute("DELETE FROM audit_chain WHERE seq <= %s", (seq,))
    connection.execute("REVOKE DELETE ON audit_event, audit_chain FROM CURRENT_USER")
