"""HL7 v2 by MLLP: messages per second from the socket to the committed record, what they cost, how long they take, and whether memory stays flat.

    python -m bench.hl7v2 [--seconds N] [--connections N] [--messages N] [--data DIR] [--one-core]

Each message is an ORU of a patient, a report and five results; with `--messages` so many more go in, with a look at memory at every tenth of them.
With `--one-core` all processes of the server are held to one core, and the senders to the others.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from .clients import Figures
from .server import Server, serving

_PATIENTS = 2_000
_TESTS = (("2345-7", "Glucose"), ("2160-0", "Creatinine"), ("2951-2", "Sodium"), ("2823-3", "Potassium"), ("17861-6", "Calcium"))
_PACES = (100, 200, 250, 300)
_RUN = uuid.uuid4().hex[:6]


def oru(number: int, results: int = 5, extra: str = "") -> bytes:
    """A message that no other run has sent."""
    lines = [
        f"MSH|^~\\&|BENCH{_RUN}|LAB|CLINIC|C1|20260102101500+0100||ORU^R01^ORU_R01|{_RUN}{number}|P|2.5.1",
        f"PID|1||{_RUN}{number % _PATIENTS}^^^HOSP^MR||Doe^Jane^{number % _PATIENTS}||19800101|F|||1 Street^^Town^^12345",
        f"OBR|1|P{_RUN}{number}|F{_RUN}{number}|CHEM^Chemistry^L|||20260102090000+0100|||||||||||||||20260102101500+0100||LAB|F",
    ]
    for place in range(results):
        code, name = _TESTS[place % len(_TESTS)]
        value, collected = f"{number % 90 + place}.{number % 10}", "20260102100000+0100"
        lines.append(f"OBX|{place + 1}|NM|{code}^{name}^LN|{place + 1}|{value}|mmol/L^mmol/L^UCUM|1-99|N|||F|||{collected}")
    return ("\r".join([*lines, extra]).rstrip("\r") + "\r").encode()


class Sender:
    """One connection that waits for each acknowledgement."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a connection; see `connected`."""
        self._reader, self._writer = reader, writer

    @classmethod
    async def connected(cls, port: int) -> Sender:
        """A new connection."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, message: bytes) -> float:
        """Milliseconds until the message was acknowledged. Raises SystemExit for any answer but AA: a benchmark of refusals says nothing."""
        began = time.perf_counter()
        self._writer.write(b"\x0b" + message + b"\x1c\r")
        try:
            answer = await self._reader.readuntil(b"\x1c\r")
        except asyncio.IncompleteReadError:
            raise SystemExit("the listener closed the connection") from None
        if b"MSA|AA|" not in answer:
            raise SystemExit(f"a message was not accepted: {answer!r}")
        return (time.perf_counter() - began) * 1000


async def run(server: Server, name: str, connections: int, more: Callable[[int], bool], first: int, pace: float = 0) -> tuple[Figures, int]:
    """What messages cost that are sent over so many connections for as long as `more`, given how many went, says so; and how many there were.

    With a `pace` so many a second are sent in all, evenly, and each is timed from when it was to leave, also where the one before it took longer.
    All of them are sent by one thread: with a thread for each, waiting for their turn was a third of what they measured.
    """
    taken = first
    latencies: list[float] = []

    async def work(place: int, sender: Sender) -> None:
        nonlocal taken
        turn = 0
        while True:
            due = began + (place + connections * turn) / pace if pace else 0.0
            if pace and (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            late = (time.perf_counter() - due) * 1000 if pace else 0.0
            if not more(taken - first):
                return
            number, taken, turn = taken, taken + 1, turn + 1
            latencies.append(late + await sender.send(oru(number)))

    senders = [await Sender.connected(server.mllp_port) for _ in range(connections)]
    cpu, began = server.cpu_seconds(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for place, sender in enumerate(senders):
            tasks.create_task(work(place, sender))
    seconds = time.perf_counter() - began
    count = taken - first
    return Figures(name, count, seconds, (server.cpu_seconds() - cpu) * 1000 / count, latencies), taken


def main() -> None:
    """Measures and prints rows as `bench` does."""
    asyncio.run(_measure())


async def _measure() -> None:
    arguments = argparse.ArgumentParser(prog="python -m bench.hl7v2")
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--connections", type=int, default=20)
    arguments.add_argument("--messages", type=int, default=0, help="how many more, to see memory (100,000 take some minutes)")
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--one-core", action="store_true")
    chosen = arguments.parse_args()
    print("| work | CPU-ms | messages/s | p50 ms | p99 ms | note |\n|---|--:|--:|--:|--:|---|")
    with serving(chosen.data, cores=[min(os.sched_getaffinity(0))] if chosen.one_core else ()) as server:
        sender = await Sender.connected(server.mllp_port)
        for number in range(200):
            await sender.send(oru(number))
        done = 200
        for connections in (1, chosen.connections):
            figures, done = await run(server, f"ORU of five results, {connections} connections", connections, _for(chosen.seconds), done)
            _row(figures)
        for pace in _PACES:
            figures, done = await run(server, f"the same, {pace} a second in all", chosen.connections, _for(chosen.seconds), done, pace)
            _row(figures)
        large = "ZPD|1|" + "A" * 5_000_000
        took = sorted([await sender.send(oru(done + place, extra=large)) for place in range(5)])
        done += 5
        print(f"| a message of 5 MB | | | {took[2]:.0f} | {took[-1]:.0f} | |")
        for part in range(10 if chosen.messages else 0):
            figures, done = await run(server, f"messages up to {done}", chosen.connections, lambda sent: sent < chosen.messages // 10, done)
            _row(figures, f"{part + 1}/10, {server.listener_memory():.0f} MB")


def _for(seconds: float) -> Callable[[int], bool]:
    """Says so for so many seconds."""
    until = time.perf_counter() + seconds
    return lambda _: time.perf_counter() < until


def _row(figures: Figures, note: str = "") -> None:
    p50, p99 = figures.percentile(0.5), figures.percentile(0.99)
    print(f"| {figures.name} | {figures.cpu_ms:.2f} | {figures.rate:.0f} | {p50:.1f} | {p99:.1f} | {note} |", flush=True)


if __name__ == "__main__":
    main()
