"""One connection by MLLP: its blocks one after the other, each answered before the next is looked at."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from fhir_server.hl7v2.intake.intake import Delivery
from fhir_server.hl7v2.landing.processing import Peer
from fhir_server.hl7v2.text.message import LIMIT

from .framing import Framer, Piece, block, is_header
from .grouping import Grouping

CHUNK: Final = 64 * 1024
_SMALL: Final = 256 * 1024
_WAIT: Final = 4
"""Times `grace` that a large message waits for others to be done with."""
_STRAYS: Final = 100
"""Pieces that are no message, one after the other, after which a peer is taken for none: each costs a line in the log."""
_log = logging.getLogger("fhir_server.mllp")


@dataclass(frozen=True, slots=True)
class Limits:
    """What peers may use of this process.

    `message` is in bytes. A message may take `grace` seconds, and a second more for each `rate` bytes that have come. A connection may be idle for
    `idle` seconds, and leave its answers unread for `unread`. `per_address` and `in_all` count connections; `workers` threads process messages;
    of messages beyond 256 kB so many as `large` are held at once, the others wait. `stop` seconds are left to messages in hand at the end.
    """

    message: int = LIMIT
    grace: float = 30
    rate: int = 32 * 1024
    idle: float = 3600
    unread: float = 30
    per_address: int = 64
    in_all: int = 256
    workers: int = 8
    large: int = 8
    stop: float = 8
    pause: float = 1
    """Seconds after which an FS that nothing follows is the end of its block."""


class Conversation:
    """Reads blocks, has them processed with those of others, writes the answers. A peer holds up nobody but itself."""

    def __init__(
        self, grouping: Grouping, peer: Peer, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], limits: Limits, large: asyncio.Semaphore
    ) -> None:
        """Takes a connection that was let in."""
        self._grouping, self._peer, self._limits, self._large = grouping, peer, limits, large
        self._reader, self._writer = streams
        self._framer = Framer(limits.message)
        self._is_large = False
        self._began = 0.0
        self._came = 0
        self._reading: asyncio.Task[None] | None = None
        self._ending = False
        self._strays = 0

    def end(self) -> None:
        """Has `run` come to its end once the block in hand is answered."""
        self._ending = True
        if self._reading is not None:
            self._reading.cancel()

    async def run(self) -> None:
        """Goes on until the peer leaves, breaks a limit, or `end` is called. Never raises but for being cancelled."""
        try:
            while not self._ending and await self._step():
                pass
        except (ConnectionError, TimeoutError) as error:
            _log.warning("a connection by MLLP broke off: %s", type(error).__name__)
        except asyncio.CancelledError:
            if not self._ending:
                raise
        finally:
            self._let_go()

    async def _step(self) -> bool:
        """Answers one block, or reads some bytes; whether there may be more."""
        piece = self._framer.take()
        if piece is not None:
            await self._handle(piece, answered=piece.kind in {"block", "long"})
            self._count_anew()
            return self._is_sane(piece)
        try:
            data = await self._read()
        except TimeoutError:
            if self._framer.ends:
                self._framer.conclude()
                return True
            await self._give_up()
            return False
        if data:
            self._framer.feed(data)
            if not self._came and self._framer.inside:
                self._began = time.monotonic()
            self._came += len(data)
            return await self._find_room()
        self._framer.conclude()
        while (piece := self._framer.take() or self._framer.close()) is not None:
            await self._handle(piece, answered=piece.kind == "block")
        return False

    def _is_sane(self, piece: Piece) -> bool:
        """Whether to go on with a peer that has sent this."""
        self._strays = self._strays + 1 if piece.kind == "stray" else 0
        if self._strays < _STRAYS:
            return True
        _log.warning("a connection by MLLP is closed: it has sent %d pieces that are no message, one after the other", self._strays)
        return False

    async def _read(self) -> bytes:
        limits = self._limits
        if self._framer.ends:
            seconds = limits.pause
        elif self._framer.inside:
            seconds = self._began + limits.grace + self._came / limits.rate - time.monotonic()
        else:
            seconds = limits.idle
        self._reading = asyncio.current_task()
        try:
            async with asyncio.timeout(max(seconds, 0)):
                return await self._reader.read(CHUNK)
        finally:
            self._reading = None

    async def _find_room(self) -> bool:
        """Waits its turn with a message that turns out to be large; whether it came. Whoever has a turn needs nothing more to come to an end."""
        if self._is_large or self._framer.held <= _SMALL:
            return True
        began = time.monotonic()
        try:
            async with asyncio.timeout(_WAIT * self._limits.grace):
                await self._large.acquire()
        except TimeoutError:
            _log.warning("too many large messages are on their way by MLLP; a connection is closed")
            return False
        self._is_large = True
        # The peer was not read meanwhile.
        self._began += time.monotonic() - began
        return True

    def _let_go(self) -> None:
        if self._is_large:
            self._large.release()
            self._is_large = False

    def _count_anew(self) -> None:
        self._let_go()
        self._came, self._began = self._framer.held, time.monotonic()

    async def _give_up(self) -> None:
        """The end of a peer that stopped in the middle, or has been idle for too long."""
        piece = self._framer.close()
        if piece is not None:
            await self._handle(piece, answered=True)

    async def _handle(self, piece: Piece, *, answered: bool) -> None:
        loop = asyncio.get_running_loop()

        def answer(ack: bytes) -> None:
            loop.call_soon_threadsafe(self._send, ack)

        delivery = Delivery(piece.raw, self._peer, answer if answered else _unanswered)
        if piece.kind == "block" and piece.raw.strip():
            await self._grouping.take(delivery)
        elif piece.kind != "block" and (is_header(piece.raw) or b"MSH" in piece.raw or piece.kind != "stray"):
            _log.warning("%d bytes by MLLP are no whole message (%s); they are stored", len(piece.raw), piece.kind)
            await self._grouping.take_part(delivery, long=piece.kind == "long")
        else:
            _log.warning("%d bytes by MLLP are no message and were passed over", len(piece.raw))
        # What a peer does not read waits in its own buffers, and then it waits itself.
        async with asyncio.timeout(self._limits.unread):
            await self._writer.drain()

    def _send(self, ack: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(block(ack))


def _unanswered(_ack: bytes) -> None:
    """For what breaks off: whoever sent it has gone on, and would take the answer for that of the next message."""
