"""What a worker does about messages, and an administrator asks for: hearing of changes, planning, sending, and writing down what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from fhir_server.access.accounts.notifications import Choices
from fhir_server.access.vault import Vault
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.outbox import Change, drain

from . import rows
from .planning import CONSUMER, Planner
from .recording import AT_A_TIME, record
from .rows import New
from .sending import BECAME, Sender

SEND: Final = "messages.send"
"""The name of the task that sends."""
RUN_SECONDS: Final = 20.0
"""So long `run_due` sends at the most."""
_SOON: Final = timedelta(minutes=10)  # So long it is of use that somebody is called.
_PAUSE: Final = 0.05


class Messages:
    """Messages to people. Safe to share between threads."""

    def __init__(self, store: Store, settings: Settings, leaving: threading.Event | None = None) -> None:
        """`leaving` is set when the process is to end: then no further message is begun."""
        self._store = store
        choices = Choices(store, Vault.of(settings))
        self._planner = Planner(store, choices, settings.clinic_timezone)
        self._sender = Sender(store, settings, choices, leaving or threading.Event())

    def hear(self, connection: Connection, changes: Sequence[Change]) -> set[tuple[str, str]]:
        """Turns changes into planned messages; the tasks that are to follow."""
        return {(SEND, "due")} if self._planner.hear(connection, changes) else set()

    def send(self) -> None:
        """Sends what is due, and brings the record to what became of it. Raises Outcome `unavailable`."""
        self._sender.pump()
        self.record()

    def record(self) -> None:
        """Brings the record to what has become of messages."""
        while record(self._store) == AT_A_TIME:
            pass

    def is_due(self) -> bool:
        """Whether there is something to send, or to write down; what a dead worker had at hand is due again."""
        self._sender.recover()
        with self._store.database.connection() as connection:
            return rows.is_due(connection, self._store.clock())

    def forget(self) -> None:
        """Takes out what was over long ago."""
        with self._store.database.connection() as connection:
            rows.forget(connection, self._store.clock())

    def run_due(self) -> dict[str, int]:
        """Hears of all changes until now and sends what is due: what became of how many, and how many are `left`, as after RUN_SECONDS.

        Waits for what others are sending meanwhile, so that when it returns all that was due has left. Raises Outcome `unavailable`.
        """
        end = time.monotonic() + RUN_SECONDS

        def in_time(_: int = 0) -> bool:
            return time.monotonic() < end

        while in_time() and (found := drain(self._store.database, CONSUMER, self._planner.hear)) != "none":
            if found == "busy":
                time.sleep(_PAUSE)
        self._sender.recover()
        done = self._sender.pump(in_time)
        while in_time() and self._others_are_at_it():
            time.sleep(_PAUSE)
        self.record()
        with self._store.database.connection() as connection:
            left = rows.waiting(connection, self._store.clock())
        return {name: done[name] for name in BECAME} | {"left": left}

    def _others_are_at_it(self) -> bool:
        with self._store.database.connection() as connection:
            return rows.sending(connection)


def announce(connection: Connection, those: Sequence[New], at: datetime) -> None:
    """Plans what `nearly` and `called` have made, in the caller's transaction. A worker sends it within seconds of the commit. One statement."""
    rows.plan(connection, those, at)


def nearly(encounter: str, patient: str, occurrence: str, at: datetime, *, token: str = "") -> New:
    """That only a few wait before a patient; of one `occurrence` of an Encounter, by its id, they are told once.

    What is about people in the clinic is of use for ten minutes, and knows no quiet hours.
    """
    return _soon("nearly-your-turn", encounter, patient, occurrence, at, {"token": token})


def called(encounter: str, patient: str, occurrence: str, at: datetime, *, token: str = "", room: str = "") -> New:
    """That a patient is called, to a `room`; see `nearly`. Each call is an occurrence of its own."""
    return _soon("called", encounter, patient, occurrence, at, {"token": token, "room": room})


def _soon(event: str, encounter: str, patient: str, occurrence: str, at: datetime, details: dict[str, str]) -> New:
    # SMS where it is welcome; the sender falls back to mail where it is not.
    focus = f"Encounter/{encounter}"
    return New(event, focus, focus, occurrence, "sms", patient, at, at + _SOON, None, {name: value for name, value in details.items() if value})
