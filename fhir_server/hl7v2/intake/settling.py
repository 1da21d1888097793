"""What becomes of messages, stored with the answer: in the transaction of the resources, or in one of its own where nothing is written."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fhir_server.hl7v2.landing.processing import Peer, Process, Result, Steps, Work
from fhir_server.hl7v2.landing.refusals import CUT, unwanted
from fhir_server.hl7v2.landing.together import Settled, Task, run
from fhir_server.hl7v2.origin import origin
from fhir_server.hl7v2.text.acknowledge import Code, acknowledgement, wanted
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Message
from fhir_server.search import SYSTEM, Grant
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit
from fhir_server.store.trail import Event

from . import stored
from .stored import Answers, Arrival, Change, Settlement


@dataclass(slots=True)
class Letter:
    """A message to be processed, `noted` what was said of it before, `linked` the patient chosen for it; `settled` is what it is answered in the end.

    Where nothing could be stored there is an `error` instead.
    """

    arrival: Arrival
    message: Message | None
    noted: tuple[Fault, ...] = ()
    linked: str | None = None
    settled: Answers | None = None
    error: Exception | None = None


class Settling:
    """Processes messages for one store, and stores what becomes of them."""

    def __init__(self, store: Store, process: Process) -> None:
        """`process` makes FHIR of a message."""
        self._store, self._process = store, process

    def settle(self, letters: Sequence[Letter], done: Callable[[Letter], None]) -> None:
        """Processes messages together; calls `done` with each as soon as what it is answered is durable. Others have their `error`.

        Those that others have settled meanwhile get the answer of that.
        """
        if not letters:
            return
        tasks = {self._task(letter): letter for letter in letters}

        def keep(connection: Connection, made: Sequence[tuple[Task, Result, Commit]]) -> None:
            settlements = [self._settlement(tasks[task], result, _versions(commit)) for task, result, commit in made]
            if len(stored.keep(connection, settlements)) < len(made):
                raise Settled
            for (task, _, _), settlement in zip(made, settlements, strict=True):
                tasks[task].settled = _answers(settlement)

        run(self._store, list(tasks), keep, lambda task: done(tasks[task]))
        for task, letter in tasks.items():
            if not task.is_kept:
                try:
                    letter.settled = self._settle_alone(letter, task.result)
                except Exception as error:  # noqa: BLE001 - its sender is told
                    letter.settled, letter.error = None, error
                else:
                    done(letter)

    def replay(self, letter: Letter, revision: int, change: Change, by: Event) -> Result:
        """Processes a stored message once more, unless it is of another revision by then; what came of it.

        Raises Settled where it is, Outcome `unavailable`.
        """
        kept: list[Settlement] = []

        def put(connection: Connection, result: Result, written: tuple[str, ...]) -> None:
            settlement = self._settlement(letter, result, written)
            if not stored.keep_replay(connection, settlement, revision=revision, changed=change, by=by):
                raise Settled
            kept[:] = [settlement]

        task = self._task(letter)
        run(self._store, [task], lambda connection, made: put(connection, made[0][1], _versions(made[0][2])), lambda _task: None)
        if task.result is None:
            raise Settled
        if not task.is_kept:
            with self._store.database.connection() as connection:
                put(connection, task.result, ())
        letter.settled = _answers(kept[0])
        return kept[0].result

    def refuse(self, arrival: Arrival, message: Message | None, result: Result) -> tuple[Answers | None, bool]:
        """Stores a message that is not to be processed; what it is answered, and whether it was not there before. Raises Outcome `unavailable`."""
        # It is refused before it is accepted.
        early = message is not None and arrival.peer.transport != "http" and wanted(message, "CR")
        code: Code = "CR" if early else result.code
        ack = acknowledge(message, arrival.raw, code, result.faults, self._store.clock())
        settlement = Settlement(arrival, result, code, ack, arrival.received)
        with self._store.database.connection() as connection:
            if stored.keep(connection, [settlement]):
                return _answers(settlement), True
            return stored.answers(connection, [arrival.id]).get(arrival.id), False

    def _settle_alone(self, letter: Letter, result: Result | None) -> Answers:
        """Stores what nothing was written for, or finds what others have stored."""
        with self._store.database.connection() as connection:
            if result is not None:
                settlement = self._settlement(letter, result, ())
                if stored.keep(connection, [settlement]):
                    return _answers(settlement)
            return stored.answers(connection, [letter.arrival.id])[letter.arrival.id]

    def _settlement(self, letter: Letter, made: Result, written: tuple[str, ...]) -> Settlement:
        result = replace(made, faults=(*letter.noted, *made.faults), written=(*made.written, *written))
        now = self._store.clock()
        ack = acknowledge(letter.message, letter.arrival.raw, result.code, result.faults, now)
        return Settlement(letter.arrival, result, result.code, ack, now)

    def _task(self, letter: Letter) -> Task:
        message, arrival = letter.message, letter.arrival
        header = message.header if message is not None else None
        name = (header.sending_application, header.sending_facility, header.control_id) if header is not None else (arrival.id,)
        work = Work(arrival.id, arrival.received, arrival.peer, _grant(arrival.peer, message), letter.linked)
        return Task(work, self._steps(message, work), name)

    def _steps(self, message: Message | None, work: Work) -> Steps:
        if message is None:
            return Result("AR", "unreadable", (CUT,))
        fault = unwanted(message)
        if fault is not None:
            return Result("AR", "rejected", (fault,))
        return (yield from self._process(message, work))


def acknowledge(message: Message | None, raw: bytes, code: Code, faults: Sequence[Fault], now: datetime) -> bytes:
    """The acknowledgement of a message, with a control id of its own."""
    # What is kept as a notice is for who runs the server, and no fault of the message.
    told = [fault for fault in faults if fault.severity != "I"]
    return acknowledgement(message, raw, code, told, control_id=control_id(), now=now)


def control_id() -> str:
    """A control id that nothing else has."""
    # MSH-10 has room for 20 characters.
    return secrets.token_hex(10)


def _answers(settlement: Settlement) -> Answers:
    return Answers(settlement.result.state, settlement.code, settlement.arrival.accept, settlement.ack)


def _grant(peer: Peer, message: Message | None) -> Grant:
    header = message.header if message is not None else None
    sender = origin(header.sending_application, header.sending_facility) if header is not None else origin("", "")
    return Grant(peer.name, SYSTEM.roles, SYSTEM.scopes, client=sender)


def _versions(commit: Commit) -> tuple[str, ...]:
    written = (each.version for each in commit.written if each.outcome in {"created", "updated", "deleted"} and each.version is not None)
    return tuple(f"{version.type}/{version.id}/_history/{version.version}" for version in written)
