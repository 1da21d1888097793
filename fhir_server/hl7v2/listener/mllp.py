"""The listener for the Minimal Lower Layer Protocol. https://www.hl7.eu/refactored/ (transport specification: MLLP, release 1)

It has no sign-in, so who may connect is settled by address and certificate (`peers`). Every connection is served by one task of one event loop, and
blocks are processed by a few threads, each with a database session.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from prometheus_client import Gauge

from fhir_server.hl7v2.intake.intake import Intake
from fhir_server.hl7v2.landing.processing import Peer
from fhir_server.outcome import Outcome
from fhir_server.settings import SetupError

from .conversation import CHUNK, Conversation, Limits
from .grouping import Grouping
from .peers import Encryption, Peers

_HANDSHAKE: Final = 10.0  # Seconds.
_FINISHING: Final = 60.0  # Seconds between two looks for accepted messages that were left.
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_MANNERS: Final = 0.0002  # Seconds for each connection that a process has.
_MOST_MANNERS: Final = 0.005
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
_CONNECTIONS: Final = Gauge("mllp_connections", "Connections that are open by MLLP.", multiprocess_mode="livesum")
_log = logging.getLogger("fhir_server.mllp")


class Listener:
    """Serves the connections of one address, or its share of them. All of it runs in one event loop."""

    def __init__(self, intake: Intake, peers: Peers, tls: Encryption, limits: Limits | None = None) -> None:
        """`tls` encrypts connections, and asks for certificates, if it is to."""
        self._intake, self._peers, self._tls = intake, peers, tls
        self._limits = limits or Limits()
        self._large = asyncio.Semaphore(self._limits.large)
        self._pool = ThreadPoolExecutor(self._limits.workers, thread_name_prefix="mllp")
        self._grouping = Grouping(intake, self._pool, self._limits.workers)
        self._counts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._conversations: set[Conversation] = set()
        self._socket: socket.socket | None = None
        self._accepting: list[asyncio.Task[None]] = []
        self._told: dict[str, float] = {}

    def start(self, listening: socket.socket) -> None:
        """Begins to take the connections of a socket that listens, which other processes may do as well. It is closed in the end."""
        listening.setblocking(False)
        self._socket = listening
        self._accepting = [asyncio.create_task(self._accept(listening)), asyncio.create_task(self._finish())]

    async def stop(self) -> bool:
        """Takes no more connections and blocks, lets the messages in hand be answered, and closes all; whether they were in time."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        for conversation in self._conversations:
            conversation.end()
        late: set[asyncio.Task[None]] = set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._limits.stop)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._grouping.close()
        self._pool.shutdown(wait=not late, cancel_futures=True)
        return not late

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                await _readable(listening)
                # Of several processes the one with fewer connections is to have it; that is little to wait for.
                await asyncio.sleep(min(len(self._tasks) * _MANNERS, _MOST_MANNERS))
                connection, address = listening.accept()
            except OSError as error:
                # A peer that has left again is none; without descriptors the others must go first.
                if error.errno in _FULL:
                    self._grumble("connections by MLLP cannot be taken: this process has too many files open")
                    await asyncio.sleep(0.1)
                continue
            host = str(address[0])
            if len(self._tasks) >= self._limits.in_all or self._counts[host] >= self._limits.per_address:
                self._grumble("a connection by MLLP is refused: there are too many, of all or of one address")
                connection.close()
                continue
            self._counts[host] += 1
            task = asyncio.create_task(self._serve(connection, host))
            self._tasks.add(task)
            _CONNECTIONS.inc()
            task.add_done_callback(lambda done, host=host: self._leave(done, host))  # type: ignore[misc]  # The default binds this turn's host.

    def _leave(self, task: asyncio.Task[None], host: str) -> None:
        self._tasks.discard(task)
        _CONNECTIONS.dec()
        self._counts[host] -= 1
        if not self._counts[host]:
            del self._counts[host]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection by MLLP failed", exc_info=error)

    async def _serve(self, connection: socket.socket, host: str) -> None:
        _keep_alive(connection)
        reader = asyncio.StreamReader(limit=CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop, tls = asyncio.get_running_loop(), self._current()
        waits: dict[str, Any] = {"ssl_handshake_timeout": _HANDSHAKE, "ssl_shutdown_timeout": 2.0} if tls is not None else {}
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls, **waits)
        except (OSError, TimeoutError) as error:
            self._grumble(f"a connection by MLLP from {host} is refused: {_reason(error)}")
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            name = self._peers.name_of(host, writer.get_extra_info("peercert"))
            if name is None:
                self._grumble(f"a connection by MLLP from {host} is refused: it is not among MLLP_ALLOW")
                return
            conversation = Conversation(self._grouping, Peer("mllp", name, host), (reader, writer), self._limits, self._large)
            self._conversations.add(conversation)
            try:
                await conversation.run()
            finally:
                self._conversations.discard(conversation)
        finally:
            await _closed(writer)

    def _current(self) -> ssl.SSLContext | None:
        try:
            return self._tls.current()
        except SetupError as error:
            self._grumble(f"a certificate for MLLP was renewed and is not used yet: {error}")
            return self._tls.current()

    async def _finish(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                while await loop.run_in_executor(self._pool, self._intake.finish):
                    pass
            except Outcome as outcome:
                self._grumble(f"accepted messages cannot be processed now: {outcome.category}")
            except Exception as error:  # noqa: BLE001 - it is tried again
                _log.error("accepted messages could not be processed", exc_info=error)
            await asyncio.sleep(_FINISHING)

    def _grumble(self, text: str) -> None:
        """A line in the log, the same at most once in ten seconds: whoever knocks all day does not fill the disk."""
        now = time.monotonic()
        if now - self._told.get(text, -10.0) >= 10:  # noqa: PLR2004 - as said above
            if len(self._told) > 1_000:  # noqa: PLR2004 - of so many addresses none is worth to be remembered
                self._told.clear()
            self._told[text] = now
            _log.warning(text)


def run(listener: Listener, listening: socket.socket, ready: Callable[[], None]) -> bool:
    """Serves until SIGTERM or SIGINT, and calls `ready` once it does; whether all messages in hand were answered in time."""

    async def main() -> bool:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        listener.start(listening)
        ready()
        await stop.wait()
        return await listener.stop()

    return asyncio.run(main())


async def _readable(listening: socket.socket) -> None:
    """Waits until a connection is there to be taken; another process may be faster."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(listening, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(listening)


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Sends what is left and closes; a peer that does not take it is cut off."""
    writer.close()
    try:
        async with asyncio.timeout(2):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


def _reason(error: Exception) -> str:
    """Why there is no handshake, in OpenSSL's words: what is wrong with a certificate, or what came instead of TLS."""
    return getattr(error, "verify_message", None) or getattr(error, "reason", None) or type(error).__name__


def _keep_alive(connection: socket.socket) -> None:
    """A peer that has vanished is found out within two minutes, however long it may be idle."""
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


__all__ = ["Limits", "Listener", "run"]
