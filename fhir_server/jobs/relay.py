"""From the outbox to those who listen: one thread of a worker, woken by the commit, that hands changes over and asks for the tasks that follow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.outbox import Bell, Change, drain

Task = tuple[str, str]
"""The name of a task, and the id that it is about."""
Consumer = Callable[[Connection, Sequence[Change]], set[Task]]
"""Takes changes within the transaction that strikes them off; the tasks that are to follow it. See `outbox.drain`."""

LOOK_SECONDS: Final = 5.0
"""How often changes are looked for where nothing has woken the thread."""
_BUSY_SECONDS: Final = 0.2
_GATHER_SECONDS: Final = 0.1

_log = logging.getLogger("fhir_server.jobs")


class Relay:
    """The thread. Of the workers of one database each has one; a consumer's changes go through one of them at a time."""

    def __init__(self, store: Store, consumers: Mapping[str, Consumer], ask: Callable[[str, str], None]) -> None:
        """`consumers` by the names under which they listen; `ask` asks for a task."""
        self._store = store
        self._consumers = consumers
        self._ask = ask
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after what is at work; waits for a second or two."""
        self._leaving.set()
        self._thread.join(2)

    def _run(self) -> None:
        bell = Bell(self._store.url)
        wait = 0.0
        while not self._leaving.is_set():
            if wait and bell.wait(wait):
                # What comes in the meantime goes along: a laboratory sends hundreds of results a second.
                self._leaving.wait(_GATHER_SECONDS)
            # A list: each of them has its turn, whatever became of the one before.
            busy = [self._serve(name, consumer) for name, consumer in self._consumers.items() if not self._leaving.is_set()]
            wait = _BUSY_SECONDS if any(busy) else LOOK_SECONDS
        bell.close()

    def _serve(self, name: str, consumer: Consumer) -> bool:
        """Hands over what there is; whether another worker is at it, who may have looked before the last change."""
        tasks: set[Task] = set()

        def work(connection: Connection, changes: Sequence[Change]) -> None:
            tasks.clear()
            tasks.update(consumer(connection, changes))

        try:
            while (found := drain(self._store.database, name, work)) == "some" and not self._leaving.is_set():
                for task, identity in sorted(tasks):
                    self._ask(task, identity)
        except Exception as error:  # noqa: BLE001 - the changes are still there, and the next turn may be better
            _log.warning("changes could not be handed over; they wait", extra={"consumer": name, "reason": type(error).__name__}, exc_info=error)
            return False
        return found == "busy"
