"""The parts of `serve` that are processes of their own: commands of this program that run as long as it does, and are started again when they end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import structlog

STOP_SECONDS: Final = 4
"""What a stop leaves a part to end by itself."""

_FIRST: Final = 1.0  # Seconds until a part that has ended is started again; then twice as long each time,
_LONGEST: Final = 60.0  # and no longer than this,
_STEADY: Final = 60.0  # until it has run for so long.


class Companion:
    """One part: `fhir-server NAME --data DIR …`, with the environment of this process and `environ` over it."""

    def __init__(self, name: str, data: Path, arguments: Sequence[str] = (), environ: Mapping[str, str] = MappingProxyType({})) -> None:
        """Does not start it yet."""
        self._name = name
        self._environ = dict(environ)
        self._command = [sys.executable, "-c", "from fhir_server.cli import main; main()", name, "--data", str(data), "--companion", *arguments]
        self._leaving = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        """Starts it, and from now on again whenever it ends."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Tells it to end; `wait` waits for that."""
        self._leaving.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Returns when it has ended; at the deadline (of the monotonic clock) it is killed, which none of its work minds."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _keep(self) -> None:
        wait = _FIRST
        while not self._leaving.is_set():
            begun = time.monotonic()
            with self._begun() as process:
                self._process = process
                if self._leaving.is_set():
                    process.terminate()
                code = process.wait()
            if self._leaving.is_set():
                return
            wait = _FIRST if time.monotonic() - begun > _STEADY else min(_LONGEST, wait * 2)
            structlog.get_logger().error("a part of the server ended; it is started again", part=self._name, code=code, seconds=wait)
            self._leaving.wait(wait)

    def _begun(self) -> subprocess.Popen[bytes]:
        # Its standard input ends when this process does, however it does.
        return subprocess.Popen(  # noqa: S603 - our own program
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, env=os.environ | self._environ
        )


class Companions:
    """All parts. They end within STOP_SECONDS after the `with` block, or as soon as they are told to before."""

    def __init__(self, *companions: Companion) -> None:
        """Does not start them yet: that is for when the rest answers, whose start they would slow."""
        self._all = companions

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for companion in self._all:
            companion.wait(deadline)

    def start(self) -> None:
        """Starts them."""
        for companion in self._all:
            companion.start()

    def ask_to_stop(self) -> None:
        """Tells them to end, and waits for none."""
        for companion in self._all:
            companion.ask_to_stop()


def end_with_parent() -> None:
    """In a part: ends this process at once when its parent has ended, which the end of standard input tells."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
