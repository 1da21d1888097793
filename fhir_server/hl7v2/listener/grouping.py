"""Messages of several connections that wait at the same moment, processed together by one thread, or by more where it is held up.

A message that comes while the thread is free begins at once, and those that come meanwhile go along with the next. The busier it is, the more
messages share the cost of a commit. Those who were answered together send again at the same moment: behind a group of four or more the next one waits
2 ms for them, or the first of them would go alone. Figures: docs/decisions/0023-one-transaction-per-message.md
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Final

from fhir_server.hl7v2.intake.intake import TOGETHER, Delivery, Intake
from fhir_server.outcome import Outcome

_SMALL: Final = 64 * 1024
"""Bytes up to which a message goes with others, which have to wait for it."""
_USUAL: Final = 1
"""Groups at a time. With two, one would be in Python while the other is in the database; but groups are half as large then, and two threads hand the
interpreter's lock around: 18 % more CPU for a message, and fewer of them a second on two cores."""
_BUSY: Final = 4
"""Messages of a group behind which it is waited for those that their senders send next, for `_GATHER` seconds."""
_GATHER: Final = 0.002
_PATIENCE: Final = 0.25
"""Seconds after which a group is taken for held up, so that another thread helps out."""
_log = logging.getLogger("fhir_server.mllp")


class Grouping:
    """Has deliveries processed by an intake, in threads of a pool that has so many. All of it runs in one event loop."""

    def __init__(self, intake: Intake, pool: Executor, threads: int) -> None:
        """Up to `threads` groups are processed at once, if some take long."""
        self._intake, self._pool, self._threads = intake, pool, threads
        self._waiting: deque[tuple[Delivery, asyncio.Future[None]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._running = 0
        self._slow = 0

    async def take(self, delivery: Delivery) -> None:
        """Returns when a block is processed and its answers given, one of them if need be that it cannot be stored now."""
        if len(delivery.raw) > _SMALL or delivery.raw.count(b"MSH") > 1:
            await self._run(lambda: self._receive([delivery]))
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, done))
        self._start()
        await done

    async def take_part(self, delivery: Delivery, *, long: bool) -> None:
        """The same for what is no message; see `Intake.receive_part`."""

        def work() -> None:
            if ack := self._intake.receive_part(delivery.raw, delivery.peer, long=long):
                delivery.answer(ack)

        await self._run(lambda: self._guarded(delivery, work))

    async def close(self) -> None:
        """Lets go of what is not done; a thread that is at work goes on."""
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _run(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _start(self) -> None:
        if self._waiting and self._running < min(_USUAL + self._slow, self._threads):
            self._running += 1
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        """Processes groups until nobody waits, or others can do so by themselves."""
        try:
            while self._waiting and self._running <= _USUAL + self._slow:
                group = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
                try:
                    with self._watched():
                        await self._run(lambda group=group: self._receive([delivery for delivery, _ in group]))  # type: ignore[misc]  # This turn's.
                finally:
                    for _, done in group:
                        if not done.done():
                            done.set_result(None)
                if len(group) >= _BUSY:
                    await asyncio.sleep(_GATHER)
        finally:
            # Before anybody else has a turn: whoever comes now is to start another.
            self._running -= 1

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Lets another thread in for as long as a group takes longer than is usual."""
        slow: list[None] = []

        def help_out() -> None:
            slow.append(None)
            self._slow += 1
            self._start()

        timer = asyncio.get_running_loop().call_later(_PATIENCE, help_out)
        try:
            yield
        finally:
            timer.cancel()
            self._slow -= len(slow)

    def _receive(self, deliveries: Sequence[Delivery]) -> None:
        """Runs in a thread of the pool, as `_guarded` does."""
        for delivery, error in zip(deliveries, self._intake.receive_all(deliveries), strict=True):
            if error is not None:
                self._refuse(delivery, error)

    def _guarded(self, delivery: Delivery, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the connection goes on
            self._refuse(delivery, error)

    def _refuse(self, delivery: Delivery, error: Exception) -> None:
        if isinstance(error, Outcome):
            _log.warning("a message cannot be stored now: %s", error.category)
        else:
            _log.error("a message could not be taken", exc_info=error)
        delivery.answer(self._intake.away(delivery.raw))
