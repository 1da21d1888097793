"""Boards as they change: one thread of a process that tells all who watch, woken by the commit of whatever has changed a queue.

https://html.spec.whatwg.org/multipage/server-sent-events.html

Whoever watches has a connection and no thread. Each change is told as the whole board, so that whoever is slow misses only what was in between.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fhir_server.clinic.queue.board import lines, rendered
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.outbox import Bell
from fhir_server.store.rules.queueing.queue import CHANNEL

MAX_STREAMS: Final = 250
"""Who may watch by one process at a time."""
HEARTBEAT: Final = 15.0
"""Seconds between two signs of life, at which it is asked again whether somebody may watch still."""
_PAUSE: Final = 0.05
_RETRY: Final = b"retry: 1000\n\n"

_log = logging.getLogger("fhir_server.live")


class Line(Protocol):
    """Where to send; see `gateway.Line`."""

    def send(self, data: bytes) -> bool:
        """Sends; False where nobody reads any more."""

    def close(self) -> None:
        """Ends it."""


@dataclass(slots=True)
class _Watcher:
    line: Line
    location: str
    sees_encounters: bool
    may_watch: Callable[[], bool]
    told: str


class Live:
    """Who watches which board in this process."""

    def __init__(self, store: Store) -> None:
        """Boards of the store's queues. Starts its thread with the first who watches."""
        self._store = store
        self._lock = threading.Lock()
        self._watchers: list[_Watcher] = []
        self._is_running = False
        self._has_left = False

    def check_room(self) -> None:
        """Raises Outcome `unavailable` where too many watch already."""
        if len(self._watchers) >= MAX_STREAMS or self._has_left:
            raise Outcome("unavailable", "Too many watch boards here already; try again, or ask every few seconds", headers={"Retry-After": "10"})

    def first(self, board: bytes, last_event: str) -> tuple[bytes, str]:
        """What an answer begins with, and the number of the board that it tells: not again one that somebody has seen."""
        number = _number(board)
        return (_RETRY if number == last_event else _RETRY + _event(board)), number

    def watch(self, line: Line, location: str, may_watch: Callable[[], bool], told: str, *, sees_encounters: bool) -> None:
        """Tells a board's changes from now on, `told` being the number of the last one, for as long as somebody may watch and does."""
        with self._lock:
            if self._has_left:
                line.close()
                return
            self._watchers.append(_Watcher(line, location, sees_encounters, may_watch, told))
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="live", daemon=True).start()

    def close(self) -> None:
        """Ends all answers: the process is to stop."""
        self._has_left = True
        with self._lock:
            for watcher in self._watchers:
                watcher.line.close()
            self._watchers.clear()

    def _run(self) -> None:
        bell = Bell(self._store.url, CHANNEL)
        beat = time.monotonic() + HEARTBEAT
        while not self._has_left:
            bell.wait(max(beat - time.monotonic(), 0.01))
            is_beat = time.monotonic() >= beat
            try:
                self._tell(is_beat=is_beat)
            except Exception as error:  # noqa: BLE001 - the next turn may be better
                _log.warning("boards could not be told", extra={"reason": type(error).__name__})
            if is_beat:
                beat = time.monotonic() + HEARTBEAT
            # What comes one upon the other is told together.
            time.sleep(_PAUSE)
        bell.close()

    def _tell(self, *, is_beat: bool) -> None:
        with self._lock:
            watchers = list(self._watchers)
        boards: dict[tuple[str, bool], tuple[bytes, str]] = {}
        for location in {watcher.location for watcher in watchers}:
            with self._store.database.connection() as connection:
                found = lines(connection, location, self._store.clock())
            for sees in (False, True):
                text = rendered(location, found, frozenset(each.encounter for each in found) if sees else frozenset())
                boards[location, sees] = (_event(text), _number(text))
        gone = {id(watcher) for watcher in watchers if not self._serve(watcher, boards[watcher.location, watcher.sees_encounters], is_beat=is_beat)}
        if gone:
            with self._lock:
                self._watchers = [watcher for watcher in self._watchers if id(watcher) not in gone]

    def _serve(self, watcher: _Watcher, board: tuple[bytes, str], *, is_beat: bool) -> bool:
        """Whether somebody watches still."""
        if is_beat and not watcher.may_watch():
            watcher.line.close()
            return False
        event, number = board
        if number != watcher.told:
            watcher.told = number
            return watcher.line.send(event)
        return watcher.line.send(b": \n\n") if is_beat else True


def etag(board: bytes) -> str:
    """The ETag of a board."""
    return f'W/"{_number(board)}"'


def _number(board: bytes) -> str:
    return hashlib.sha256(board).hexdigest()[:16]


def _event(board: bytes) -> bytes:
    # JSON has no line breaks but those of its own, which are escaped.
    return b"event: board\nid: " + _number(board).encode() + b"\ndata: " + board + b"\n\n"
