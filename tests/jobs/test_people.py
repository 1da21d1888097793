"""Messages to people through real workers: how soon, how often, and after a death."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from email import message_from_bytes
from email.message import Message as Mail
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fhir_server.search import SYSTEM, Grant
from fhir_server.store import Store
from fhir_server.store.ops import Put
from tests.conftest import until
from tests.jobs.conftest import Start, are_up, starting
from tests.listening import MailServer

DESK = Grant("staff@clinic", SYSTEM.roles, SYSTEM.scopes)


class Sink:
    """A mail server; `held` holds its answers back, `farewell` its last words."""

    def __init__(self) -> None:
        self.got: list[Mail] = []
        self.held = threading.Event()
        self.held.set()
        self.farewell = threading.Event()
        self.farewell.set()
        self.controller = MailServer(self)
        self.port = self.controller.port
        self.controller.start()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - the library's name
        self.got.append(message_from_bytes(envelope.content))
        await asyncio.to_thread(self.held.wait)
        return "250 taken"

    async def handle_QUIT(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802 - the library's name
        await asyncio.to_thread(self.farewell.wait)
        return "221 bye"


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.held.set()
    made.farewell.set()
    until(lambda: not asyncio.all_tasks(made.controller.loop))
    made.controller.stop()


@pytest.fixture
def store(fresh_database: Callable[[], str]) -> Iterator[Store]:
    made = Store(fresh_database(), zone=ZoneInfo("UTC"), connections=3)
    yield made
    made.close()


@pytest.fixture
def start(store: Store, sink: Sink, tmp_path: Path) -> Iterator[Start]:
    with starting(store.url, tmp_path, SMTP_URL=f"smtp://127.0.0.1:{sink.port}") as begin:
        yield begin


def states(store: Store) -> list[str]:
    with psycopg.connect(store.url) as connection:
        rows = connection.execute("SELECT state FROM message WHERE event = 'booked' ORDER BY id").fetchall()
    return [state for (state,) in rows]


def book(store: Store, count: int = 1) -> None:
    for _ in range(count):
        patient, start = uuid.uuid4().hex, store.clock() + timedelta(days=4)
        person = {"resourceType": "Patient", "id": patient, "telecom": [{"system": "email", "value": f"{patient}@example.org"}]}
        appointment = {
            "resourceType": "Appointment",
            "id": patient,
            "status": "booked",
            "start": start.isoformat(),
            "end": (start + timedelta(minutes=20)).isoformat(),
            "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
        }
        store.transact([Put(person, patient), Put(appointment, patient)], DESK)


def test_a_booking_is_in_the_letter_box_within_seconds_and_in_the_record_after(store: Store, sink: Sink, start: Start) -> None:
    worker = start()
    until(lambda: are_up(store.url, 1))
    book(store)
    begun = time.monotonic()
    until(lambda: len(sink.got) == 1)
    assert time.monotonic() - begun < 10
    until(lambda: states(store) == ["sent"])
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0


def test_a_worker_that_is_killed_while_it_sends_loses_nothing_and_the_mail_can_be_told(
    store: Store, sink: Sink, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    sink.held.clear()
    first = start()
    until(lambda: are_up(store.url, 1))
    book(store)
    until(lambda: len(sink.got) == 1)
    assert states(store) == ["sending"]
    first.kill()
    first.wait()
    sink.held.set()
    start("scheduler")
    start()
    until(lambda: states(store) == ["sent"])
    assert len(sink.got) == 2
    assert len({mail["Message-ID"] for mail in sink.got}) == 1


def test_a_worker_that_is_killed_after_the_mail_is_taken_has_it_sent_once(
    store: Store, sink: Sink, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    sink.farewell.clear()
    first = start()
    until(lambda: are_up(store.url, 1))
    book(store)
    # It waits for the farewell now, and has noted already that the mail is taken.
    until(lambda: states(store) == ["sent"])
    first.kill()
    first.wait()
    sink.farewell.set()
    start("scheduler")
    start()
    book(store)
    until(lambda: states(store) == ["sent", "sent"])
    assert len(sink.got) == len({mail["Message-ID"] for mail in sink.got}) == 2


def test_two_workers_send_each_message_once(store: Store, sink: Sink, start: Start) -> None:
    start()
    start()
    until(lambda: are_up(store.url, 2))
    book(store, 30)
    until(lambda: states(store) == ["sent"] * 30)
    assert len(sink.got) == len({mail["To"] for mail in sink.got}) == 30
