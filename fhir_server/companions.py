"""Processes of one program beside those that answer HTTP: each is started anew when it dies, and ends with its parent.

https://docs.python.org/3/library/multiprocessing.html
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from typing import Any, Final

import structlog

from fhir_server import telemetry
from fhir_server.settings import NAMES, Settings

_PAUSES: Final = (0.5, 1.0, 2.0, 5.0)  # Seconds before a process that died is started again; the last one from then on.
_STEADY: Final = 60.0  # Seconds after which a process counts as sound again.


class Companion:
    """One process that runs `work(settings, ready)` for as long as it is wanted; `ready`, to be called with a text, tells that it has begun."""

    def __init__(self, name: str, work: Callable[[Settings, Callable[[str], None]], None], settings: Settings, *, seconds: float) -> None:
        """`work` is a function that can be pickled, which ends in order on SIGTERM; it has so many `seconds` for that before it is killed."""
        self.name: Final = name
        self._work, self._settings, self._seconds = work, settings, seconds
        # Spawned, not forked: a fork would carry locks of this process along.
        self._context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        self._said: list[str] = []
        self._first = threading.Event()

    def start(self) -> None:
        """Starts the process, and a thread that watches over it; not once it was told to end."""
        with self._lock:
            if not self._stopping.is_set():
                self._thread.start()

    def wait(self, seconds: float) -> str | None:
        """What the process said when it was ready; None where it has not been for so long, or died before."""
        self._first.wait(seconds)
        return self._said[0] if self._said else None

    def end(self) -> None:
        """Tells the process to end, and does not wait for that."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.terminate()

    def stop(self) -> None:
        """Ends the process; returns when it is gone."""
        self.end()
        process = self._process
        if process is not None:
            process.join(self._seconds)
            if process.exitcode is None:
                process.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run()
            if self._stopping.is_set():
                return
            self._first.set()
            failures = 0 if time.monotonic() - began > _STEADY else failures + 1
            structlog.get_logger().error("a process ended and is started again", process=self.name, code=code)
            self._stopping.wait(_PAUSES[min(failures, len(_PAUSES)) - 1])

    def _run(self) -> int | None:
        """One life of the process; its exit code."""
        here, there = self._context.Pipe(duplex=False)
        with self._lock:
            if self._stopping.is_set():
                return None
            process = self._process = self._context.Process(target=_begin, args=(self._work, self._settings, there), name=self.name)
            process.start()
        there.close()
        try:
            said = here.recv()
        except EOFError:
            said = None
        here.close()
        if said is not None and not self._said:
            self._said.append(said)
            self._first.set()
        process.join()
        return process.exitcode


def _begin(work: Callable[[Settings, Callable[[str], None]], None], settings: Settings, said: Any) -> None:
    """The life of a companion. It keeps no secrets in its environment."""
    telemetry.configure(settings.log_level)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    # Until the work has its own handlers; a terminal sends SIGINT to all, and the parent settles when each ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in NAMES:
        os.environ.pop(name, None)

    def ready(text: str) -> None:
        said.send(text)
        said.close()

    try:
        work(settings, ready)
    except Exception as error:  # noqa: BLE001 - told in one line; the parent starts it again
        structlog.get_logger().error("a process does not go on", process=multiprocessing.current_process().name, reason=str(error), exc_info=error)
        raise SystemExit(1) from None


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
