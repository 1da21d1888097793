"""From the outbox to those who listen: threads of a worker, woken by the commit, that hand changes over and ask for the tasks that follow."""

from __future__ import annotations

import logging
import threading
import time
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
_GATHER_BUSY_SECONDS: Final = 0.5
"""What comes within these seconds goes along. Where changes come all the time they are gathered for longer: each round of all consumers costs some
30 CPU-ms, with the tasks that follow it."""

_log = logging.getLogger("fhir_server.jobs")


class Relay:
    """A thread that is woken, and one for each consumer, which so goes at its own pace: none waits for another.

    Of the workers of one database each has these; a consumer's changes go through one worker at a time.
    """

    def __init__(self, store: Store, consumers: Mapping[str, Consumer], ask: Callable[[str, str], None]) -> None:
        """`consumers` by the names under which they listen; `ask` asks for a task, and may be called by several threads at once.

        A consumer holds a connection while it works.
        """
        self._store = store
        self._ask = ask
        self._leaving = threading.Event()
        self._rung = {name: threading.Event() for name in consumers}
        self._listener = threading.Thread(target=self._listen, name="relay", daemon=True)
        self._threads = [threading.Thread(target=self._run, args=pair, name=f"relay {pair[0]}", daemon=True) for pair in consumers.items()]

    def start(self) -> None:
        """Begins."""
        for thread in (self._listener, *self._threads):
            thread.start()

    def stop(self) -> None:
        """Ends after what is at work, for which it waits two seconds; who only listens has nothing at work, and ends with the process."""
        self._leaving.set()
        self._wake()
        deadline = time.monotonic() + 2
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _listen(self) -> None:
        bell = Bell(self._store.url)
        while not self._leaving.is_set():
            began = time.monotonic()
            if bell.wait(LOOK_SECONDS):
                is_busy = time.monotonic() - began < _GATHER_SECONDS
                self._leaving.wait(_GATHER_BUSY_SECONDS if is_busy else _GATHER_SECONDS)
                self._wake()
        bell.close()

    def _wake(self) -> None:
        for rung in self._rung.values():
            rung.set()

    def _run(self, name: str, consumer: Consumer) -> None:
        rung, wait = self._rung[name], 0.0
        while not self._leaving.is_set():
            rung.wait(wait)
            # Before it looks: what rings from now on is looked for once more.
            rung.clear()
            if not self._leaving.is_set():
                wait = _BUSY_SECONDS if self._serve(name, consumer) else LOOK_SECONDS

    def _serve(self, name: str, consumer: Consumer) -> bool:
        """Hands over what there is; whether another worker is at it, who may have looked before the last change.

        A task is asked for after the first changes that call for it, and once more after the last, however many there were between.
        """
        tasks: set[Task] = set()
        asked: set[Task] = set()
        again: set[Task] = set()

        def work(connection: Connection, changes: Sequence[Change]) -> None:
            tasks.clear()
            tasks.update(consumer(connection, changes))

        def ask(those: set[Task]) -> None:
            for task, identity in sorted(those):
                self._ask(task, identity)

        try:
            while (found := drain(self._store.database, name, work)) == "some" and not self._leaving.is_set():
                again |= tasks & asked
                ask(tasks - asked)
                asked |= tasks
            ask(again)
        except Exception as error:  # noqa: BLE001 - the changes are still there, and the next turn may be better
            _log.warning("changes could not be handed over; they wait", extra={"consumer": name, "reason": type(error).__name__}, exc_info=error)
            return False
        return found == "busy"
