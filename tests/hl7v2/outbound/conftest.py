"""A store whose changes are told to peers, and peers that listen by MLLP and answer as the test has it."""

from __future__ import annotations

import asyncio
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.hl7v2.outbound import Outbound, peers
from fhir_server.hl7v2.outbound.peers import CONSUMER, NewPeer, Peer
from fhir_server.hl7v2.text.message import Message, read
from fhir_server.search import SYSTEM, Grant
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.ops import Create, Delete, Put
from fhir_server.store.outbox import drain
from tests.hl7v2.outbound.world import ALL, NOW, Json

Answering = Callable[[Message, int], bytes | float | None]
"""What a message is answered with, given how often this peer was sent its control id: bytes, after so many seconds, or by hanging up."""


def ack(message: Message, code: str = "AA", control_id: str | None = None, more: str = "") -> bytes:
    told = f"MSH|^~\\&|LAB|HILL|||20260301||ACK|A{uuid.uuid4().hex[:8]}|P|2.5.1\rMSA|{code}|{control_id or message.header.control_id}\r{more}"
    return f"\x0b{told}\x1c\r".encode()


def accept(message: Message, _: int) -> bytes:
    return ack(message)


class Listener:
    """A peer in a thread of its own. `got` has each message as it came, `texts` their bytes."""

    def __init__(self, answering: Answering = accept, context: ssl.SSLContext | None = None) -> None:
        self.answering = answering
        self.got: list[Message] = []
        self.raw: list[bytes] = []
        self.open = 0
        self.most_open = 0
        self._loop = asyncio.new_event_loop()
        started = threading.Event()

        async def main() -> None:
            self._done = asyncio.Event()
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self._done.wait()
            server.close()
            serving = asyncio.all_tasks() - {asyncio.current_task()}
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(main()))
        self._thread.start()
        assert started.wait(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while True:
                frame = await reader.readuntil(b"\x1c\r")
                content = frame.strip(b"\x0b\x1c\r") + b"\r"
                message = read(content)
                self.got.append(message)
                self.raw.append(content)
                answer = self.answering(message, self.ids().count(message.header.control_id))
                if isinstance(answer, float):
                    await asyncio.sleep(answer)
                    answer = ack(message)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def ids(self) -> list[str]:
        return [message.header.control_id for message in self.got]

    def events(self) -> list[str]:
        return [f"{message.header.type}^{message.header.event}" for message in self.got]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(*arguments: Any, **options: Any) -> Listener:
        made.append(Listener(*arguments, **options))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


class House:
    """A clinic with its worker: the test says when it works."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self.store = Store(url, zone=ZoneInfo("UTC"), connections=6)
        self.settings = Settings(data=data, jwt_secret="x" * 32, clinic_timezone=ZoneInfo("Europe/Berlin"))
        self.leaving = threading.Event()
        self.outbound = Outbound(self.store, self.settings, self.leaving)

    def peer(self, port: int, *events: str, **fields: Any) -> Peer:
        given: Json = {"name": "Laboratory", "host": "127.0.0.1", "port": port, "application": "LAB", "facility": "HILL", "seconds": 3}
        with self.store.database.connection() as connection, connection.transaction():
            return peers.add(connection, NewPeer(**given | fields, events=events or tuple(peers.EVENTS)), "tests", NOW)

    def fill(self) -> None:
        """The clinic's resources, before any peer is there; tests book the time of the appointment themselves."""
        self.store.transact([Put(each, each["id"]) for each in ALL if each["resourceType"] != "Appointment"], SYSTEM)

    def put(self, resource: Json, grant: Grant = SYSTEM) -> None:
        self.store.transact([Put(resource, resource["id"])], grant)

    def create(self, resource: Json) -> None:
        self.store.transact([Create(resource)], SYSTEM)

    def delete(self, kind: str, identity: str) -> None:
        self.store.transact([Delete(kind, identity)], SYSTEM)

    def hear(self) -> None:
        while drain(self.store.database, CONSUMER, self.outbound.hear) == "some":
            pass

    def work(self) -> None:
        """All that is to be done now."""
        self.hear()
        for peer in self.outbound.due():
            self.outbound.deliver(peer)

    def rows(self, what: str = "event, state, fault") -> list[Any]:
        with self.store.database.connection() as connection:
            return connection.execute(f"SELECT {what} FROM hl7v2_delivery ORDER BY id").fetchall()

    def run(self, statement: str) -> None:
        with self.store.database.connection() as connection:
            connection.execute(statement)


@pytest.fixture(scope="module")
def filled(fresh_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the clinic's resources, to be cloned."""
    made = House(fresh_database(), tmp_path_factory.mktemp("filled"))
    made.fill()
    made.store.close()
    return made.url


@pytest.fixture
def house(fresh_database: Callable[..., str], filled: str, tmp_path: Path) -> Iterator[House]:
    made = House(fresh_database(like=filled), tmp_path)
    yield made
    made.store.close()
