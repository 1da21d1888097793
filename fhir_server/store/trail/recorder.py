"""Events of what only reads, by group commit: requests hand theirs over, and one thread of the process writes all of some milliseconds at once.

An event is durable at most LATEST seconds after it was handed over. Where the database takes none, requests wait, and then are refused, so that
nothing is read for long that the trail does not have. The same thread seals the chain (`chain`). Figures: docs/decisions/0015-audit-trail.md
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store.database import RETRY_AFTER, Database

from .chain import Sealer
from .events import Event, append

GATHERED: Final = 0.02
"""Seconds that the thread gathers from the first event on."""
LATEST: Final = 0.1
"""Seconds after which an event is durable, as long as the database answers in its usual time."""
_ROOM: Final = 5_000  # Events that wait, 10 MB at the most where each tells of a page of patients.
_BATCH: Final = 1_000
_PATIENCE: Final = 5.0  # Seconds that a request waits for room.
_AGAIN: Final = 0.5  # Seconds until a write that failed is tried again.
_SEALED: Final = 1.0  # Seconds between two looks for events to seal.
_CLOSING: Final = 5.0

_log = logging.getLogger("fhir_server.audit")


class Recorder:
    """The events of one process on their way into the trail. `note` may be called from any thread."""

    def __init__(self, database: Database) -> None:
        """Takes a database with a session for this alone; it is closed with the recorder."""
        self._database = database
        self._waiting: deque[Event] = deque()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._sealer: Sealer | None = None
        self._failing = False
        self._closing = False

    def note(self, event: Event) -> None:
        """Hands an event over. Costs some 5 µs here, and the database 15 to 20.

        Where there is no room, or the last write failed, it waits. Raises Outcome `unavailable` where that does not pass within five seconds.
        """
        with self._condition:
            if (self._failing or len(self._waiting) >= _ROOM) and not self._condition.wait_for(self._takes, _PATIENCE):
                raise Outcome("unavailable", "What is read is written down, and that is not possible now; try again", headers=RETRY_AFTER)
            self._waiting.append(event)
            self._start()
            if len(self._waiting) == 1:
                self._condition.notify_all()

    def seal(self) -> None:
        """Has the thread seal the chain too, in turns with the other processes."""
        with self._condition:
            self._sealer = Sealer(self._database)
            self._start()

    def flush(self) -> None:
        """Returns when every event handed over so far is durable. Raises Outcome `unavailable` where that takes longer than five seconds."""
        with self._condition:
            if not self._condition.wait_for(lambda: not self._waiting, _PATIENCE):
                raise Outcome("unavailable", "The audit trail cannot be written to now; try again", headers=RETRY_AFTER)

    def close(self) -> None:
        """Writes what waits, ends the thread, and closes the session."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_CLOSING)
        if self._waiting:
            _log.error("audit events were lost: the database did not take them", extra={"events": len(self._waiting)})
        self._database.close()

    def _takes(self) -> bool:
        return not self._failing and len(self._waiting) < _ROOM

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        due = time.monotonic() + _SEALED
        while True:
            with self._condition:
                while not self._waiting and not self._closing and (self._sealer is None or time.monotonic() < due):
                    self._condition.wait(None if self._sealer is None else max(0.0, due - time.monotonic()))
                if self._closing and not (self._waiting and not self._failing):
                    return
                if self._waiting and not self._closing:
                    self._condition.wait(GATHERED)
            if self._waiting:
                self._write()
            if self._sealer is not None and time.monotonic() >= due and not self._closing:
                more = self._seal_some(self._sealer)
                due = time.monotonic() + (0.0 if more else _SEALED)

    def _write(self) -> None:
        """Writes events that wait, up to a batch, and takes them out once they are durable."""
        try:
            done = self._append([self._waiting[n] for n in range(min(len(self._waiting), _BATCH))])
        except Exception as error:  # noqa: BLE001 - the thread goes on, and requests are told that it cannot write
            # What the database says of a value repeats it.
            self._failed(error.category if isinstance(error, Outcome) else type(error).__name__)
            return
        with self._condition:
            for _ in range(done):
                self._waiting.popleft()
            self._failing = False
            self._condition.notify_all()

    def _append(self, batch: list[Event]) -> int:
        """How many from the first on are done with. One that the database does not take keeps no others out."""
        try:
            with self._database.connection() as connection:
                append(connection, batch)
        except Outcome as outcome:
            if outcome.category == "unavailable":
                raise
            if len(batch) > 1:
                return self._append(batch[:1])
            _log.error("an audit event cannot be written", extra={"request_id": batch[0].request_id, "reason": outcome.category})
        return len(batch)

    def _failed(self, reason: str) -> None:
        _log.warning("the audit trail cannot be written to; reads are refused until it can", extra={"reason": reason})
        with self._condition:
            self._failing = True
            if not self._closing:
                self._condition.wait(_AGAIN)

    def _seal_some(self, sealer: Sealer) -> bool:
        try:
            return sealer.seal()
        except Exception as error:  # noqa: BLE001 - whatever it was, the next second may be better
            _log.warning("the audit chain cannot be sealed now", extra={"reason": type(error).__name__})
            return False
