"""A lab's side of the line: messages in, acknowledgements back, and a look at the record."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.hl7v2.intake.intake import Intake
from fhir_server.hl7v2.landing.landing import landing
from fhir_server.hl7v2.landing.processing import Peer, Process
from fhir_server.hl7v2.mapping import Converter
from fhir_server.interactions import Engine, Exchange, dispatch
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.spec import r4
from fhir_server.store import Store

Json = dict[str, Any]
DATA = Path(__file__).with_name("data")
_NUMBERS = itertools.count(1)


@dataclass
class Lab:
    """Sends messages to an intake and looks at what has come of them."""

    engine: Engine
    process: Process
    intake: Intake

    @property
    def store(self) -> Store:
        """The store of the intake."""
        return self.engine.store

    def stored(self, where: str, *arguments: object) -> list[Json]:
        """The stored messages that a condition finds, oldest first."""
        with self.store.database.connection() as connection:
            cursor = connection.cursor().execute(f"SELECT * FROM hl7v2_message WHERE {where} ORDER BY received, id", arguments)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def send(self, message: str | bytes) -> list[str]:
        """The acknowledgements, in the order in which they came; `{id}` in a message is a control id of its own."""
        text = message.decode() if isinstance(message, bytes) else message
        raw = text.strip().replace("\n", "\r").replace("{id}", f"C{next(_NUMBERS)}").encode()
        acks: list[bytes] = []
        self.intake.receive(raw, Peer("mllp", "a test"), acks.append)
        return [ack.decode() for ack in acks]

    def ok(self, message: str) -> None:
        """Sends a message that is accepted."""
        acks = self.send(message)
        assert [ack.split("\rMSA|")[1][:2] for ack in acks] == ["AA"], acks

    def ask(self, path: str) -> list[Json]:
        """What a search finds, newest version first where it is a history."""
        name, _, query = path.partition("?")
        parts = [tuple(part.split("=", 1)) for part in query.split("&") if part]
        reply = dispatch(self.engine, Exchange("search", SYSTEM, "http://localhost/fhir", type=name, params=tuple(parts)))  # type: ignore[arg-type]  # pairs
        return [entry["resource"] for entry in json.loads(reply.body or b"{}").get("entry", ())]

    def one(self, path: str) -> Json:
        """The only match of a search."""
        (found,) = self.ask(path)
        return found


@pytest.fixture(scope="session")
def converter() -> Converter:
    return Converter(r4())


@pytest.fixture(scope="module")
def lab(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, converter: Converter) -> Iterator[Lab]:
    store = Store(fresh_database(), zone=ZoneInfo("Europe/Berlin"), connections=8)
    engine = Engine.build(store, Settings(data=tmp_path_factory.mktemp("lab"), jwt_secret="x" * 32))
    process = landing(engine, converter)
    yield Lab(engine, process, Intake(store, process))
    store.close()
