"""The way in: bytes become a stored message, the message becomes FHIR, and what became of it becomes the answer.

In original mode all of it is one transaction: message, resources, audit and acknowledgement are durable together before AA leaves, which costs one
commit. In enhanced mode the message is committed first, then accepted, then processed.

https://www.hl7.eu/refactored/ch02.html (2.9: message processing rules)
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Counter

from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Commit
from fhir_server.store.trail import Event

from . import stored
from .acknowledge import Code, acknowledgement, enhanced, wanted
from .batch import Batch, reply, split
from .faults import Fault
from .message import Message, read
from .origin import origin
from .processing import Hook, Peer, Process, Result, Work
from .refusals import AWAY, CUT, EMPTY, FAILED, TOO_LONG, of_outcome, unwanted
from .stored import Answers, Arrival, Change
from .unreadable import Unreadable

Answer = Callable[[bytes], None]

_MESSAGES: Final = Counter("hl7v2_messages", "Messages of HL7 v2 that came, by transport and what became of them.", ("transport", "state"))
_PATIENCE: Final = timedelta(minutes=1)
_ATTEMPTS: Final = 10
_MOST: Final = 10_000
"""Messages that are taken of one block or body."""
_log = logging.getLogger("fhir_server.hl7v2")

_Store = Callable[[Connection, Result, bytes, datetime], bool]
"""Stores what became of a message; whether it was still to be stored."""


class Settled(Exception):  # noqa: N818 - an event, not a fault: the transaction is given up
    """Another connection or process has settled the same message in the meantime."""


@dataclass(slots=True)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class Intake:
    """Takes messages for one store. Safe to share between threads; processes on one database need not know of each other."""

    def __init__(self, store: Store, process: Process) -> None:
        """`process` makes FHIR of a message; see `processing`."""
        self._store = store
        self._process = process
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    def receive(self, raw: bytes, peer: Peer, answer: Answer) -> None:
        """Takes what one block or one body holds: a message, several, or a batch; calls `answer` with each acknowledgement as soon as it is due.

        A message is durable before it is acknowledged. Where enhanced mode wants no answer there is none, but over HTTP, where each request has one,
        of the application. A batch is answered by one batch. Of more than 10,000 messages the rest is refused, by one answer to the first of it.
        The same bytes again get the answer that they got, unless nothing came of them for a reason of ours. Never raises for what is in the bytes.
        Raises Outcome `unavailable` where nothing can be stored: the sender is to send again what has not been answered.
        """
        batch = split(raw)
        if len(batch.messages) == 1 and not batch.enveloped:
            # What stands around a single message is kept with it.
            self._take(raw, batch.messages[0], peer, answer, tuple(batch.faults))
            return
        self._keep_rest(raw, batch, peer, answer)
        acks: list[bytes] = []
        for each in batch.messages[:_MOST]:
            given: list[bytes] = []
            self._take(each, each, peer, given.append if batch.enveloped else answer, ())
            acks += given[-1:] or [b""]
        if rest := batch.messages[_MOST:]:
            refused = self._too_many(rest, peer)
            acks += [refused or b"", *[b""] * (len(rest) - 1)]
            if not batch.enveloped:
                _tell(answer, refused)
        if batch.enveloped and any(acks):
            answer(reply(batch, acks, control_id=_control_id(), now=self._store.clock()))

    def answer(self, raw: bytes, *, sender: str, address: str, request_id: str) -> bytes:
        """Takes the body of a request by HTTP; all of its acknowledgements one after the other, empty where there are none. Raises as `receive`."""
        acks: list[bytes] = []
        self.receive(raw, Peer("http", sender, address, request_id), acks.append)
        return b"".join(acks)

    def receive_part(self, raw: bytes, peer: Peer, *, long: bool = False) -> bytes:
        """Stores what can be no message: a part of one, or with `long` the beginning of one that is too long; the answer that it gets.

        Raises Outcome `unavailable`.
        """
        message = _readable(raw) if long else None
        result = Result("AR", "rejected", (TOO_LONG,)) if long else Result("AR", "unreadable", (CUT,))
        return self._refuse(raw, message, peer, result) or b""

    def away(self, raw: bytes) -> bytes:
        """The answer where nothing can be stored."""
        return self._acknowledge(_readable(raw), raw, "AR", (AWAY,))

    def replay(self, key: str, by: Event, change: Change | None = None, *, revision: int | None = None) -> Result:
        """Processes a stored message once more: as it came, or as it was changed before or is now, for whoever `by` tells of.

        Its answer is from now on the one that the same bytes get; nothing is sent to whom it came from. With a `revision` only if it is still that.
        Raises Outcome `not-found`, `gone` where its bytes have been removed, `precondition`, `conflict` where others have changed it in the meantime,
        `unavailable`.
        """
        change = change or Change()
        with self._turn(key):
            with self._store.database.connection() as connection:
                found = stored.load(connection, key)
            if found is None:
                raise Outcome("not-found", "There is no message of this id")
            if revision not in {None, found.revision}:
                raise Outcome("precondition", "The message has changed since it was read; read it again")
            raw = change.corrected or found.corrected or found.raw
            if not raw:
                raise Outcome("gone", "The text of this message has been removed")
            text, noted = _parted(raw)

            def keep(connection: Connection, result: Result, ack: bytes, at: datetime) -> bool:
                return stored.keep_replay(connection, arrival, result, ack, at, revision=found.revision, changed=change, by=by)

            message = _readable(text)
            arrival = Arrival(key, found.received, found.peer, raw, message.header if message is not None else None)
            try:
                return self._settle(arrival, message, noted, keep, change.linked or found.linked)[0]
            except Settled:
                raise Outcome("conflict", "Somebody else has processed or changed the message just now; look at it again") from None

    def finish(self) -> int:
        """Processes what was accepted in enhanced mode and then left, by a crash or a fault that may have passed; how many messages.

        Raises Outcome `unavailable`.
        """
        with self._store.database.connection() as connection:
            keys = stored.left(connection, self._store.clock(), patience=_PATIENCE, attempts=_ATTEMPTS)
        for key in keys:
            with self._turn(key), self._store.database.connection() as connection:
                found = stored.load(connection, key)
            if found is not None:
                self._take(found.raw, _parted(found.raw)[0], found.peer, lambda _ack: None, ())
        return len(keys)

    def _keep_rest(self, raw: bytes, batch: Batch, peer: Peer, answer: Answer) -> None:
        """Stores what stands beside the messages of a batch where something is wrong with it, or all of it where there is no message."""
        if not batch.messages:
            refused = self._refuse(raw, None, peer, Result("AR", "unreadable", tuple(batch.faults) or (EMPTY,)))
            _tell(answer, refused)
        elif batch.faults:
            rest = b"".join(piece.raw for piece in batch.pieces if piece.kind in {"envelope", "stray"})
            self._refuse(rest, None, peer, Result("AA", "warning", tuple(batch.faults)))

    def _too_many(self, rest: list[bytes], peer: Peer) -> bytes | None:
        """Stores the messages of a batch that are beyond what is taken at once, as one; the answer to the first of them."""
        fault = Fault("199", f"{_MOST} messages are taken at once; this one and the {len(rest) - 1} after it are not: send them in another batch")
        return self._refuse(b"".join(rest), _readable(rest[0]), peer, Result("AR", "rejected", (fault,)))

    def _take(self, raw: bytes, text: bytes, peer: Peer, answer: Answer, noted: tuple[Fault, ...]) -> None:
        """One message of a block. `raw` is what is stored, `text` the part of it that is the message."""
        with self._turn(stored.identity(raw)) as key:
            message, fault = _judged(text)
            before = self._answers(key)
            if before is not None and before.settled:
                self._repeat(key, peer, message, before, answer)
            elif message is None or fault is not None:
                result = Result("AR", "unreadable" if message is None else "rejected", noted if fault is None else (*noted, fault))
                _tell(answer, self._refuse(raw, message, peer, result))
            else:
                arrival = Arrival(key, self._store.clock(), peer, raw, message.header)
                if enhanced(message) and peer.transport != "http":
                    arrival = self._accept(arrival, message, before)
                    _tell(answer, _if_wanted(peer, message, "CA", arrival.accept))
                found = self._settled(arrival, message, noted)
                _tell(answer, _if_wanted(peer, message, found.code, found.ack))

    def _repeat(self, key: str, peer: Peer, message: Message | None, before: Answers, answer: Answer) -> None:
        with self._store.database.connection() as connection:
            stored.came_again(connection, key)
        self._store.note(Event("message", peer.name, address=peer.address or None, type="hl7v2-message", resource=key, detail="came again"))
        _MESSAGES.labels(peer.transport, "repeated").inc()
        if before.accept and peer.transport != "http":
            _tell(answer, _if_wanted(peer, message, "CA", before.accept))
        _tell(answer, _if_wanted(peer, message, before.code, before.ack))

    def _refuse(self, raw: bytes, message: Message | None, peer: Peer, result: Result) -> bytes | None:
        """Stores what is not to be processed; the answer that its sender wants."""
        code: Code = result.code
        if message is not None and peer.transport != "http" and wanted(message, "CR"):
            # It is refused before it is accepted.
            code = "CR"
        arrival = Arrival(stored.identity(raw), self._store.clock(), peer, raw, message.header if message is not None else None)
        ack = self._acknowledge(message, raw, code, result.faults)
        with self._store.database.connection() as connection:
            if stored.keep(connection, arrival, result, (code, ack), arrival.received):
                _MESSAGES.labels(peer.transport, result.state).inc()
                return _if_wanted(peer, message, code, ack)
        found = self._answers(arrival.id)
        return _if_wanted(peer, message, found.code, found.ack) if found is not None else None

    def _accept(self, arrival: Arrival, message: Message, before: Answers | None) -> Arrival:
        """Stores a message of enhanced mode with its accept acknowledgement."""
        if before is not None and before.accept:
            return replace(arrival, accept=before.accept)
        arrival = replace(arrival, accept=self._acknowledge(message, arrival.raw, "CA", ()))
        with self._store.database.connection() as connection:
            stored.receive(connection, arrival)
        return arrival

    def _settled(self, arrival: Arrival, message: Message, noted: tuple[Fault, ...]) -> Answers:
        """Processes a message and stores what became of it, or finds what has been stored in the meantime."""

        def keep(connection: Connection, result: Result, ack: bytes, at: datetime) -> bool:
            return stored.keep(connection, arrival, result, (result.code, ack), at)

        try:
            return self._settle(arrival, message, noted, keep)[1]
        except Settled:
            found = self._answers(arrival.id)
            assert found is not None
            return found

    def _settle(
        self, arrival: Arrival, message: Message | None, noted: tuple[Fault, ...], store: _Store, patient: str | None = None
    ) -> tuple[Result, Answers]:
        """What became of a message, and its acknowledgement; both are durable. Raises Settled where others were faster, Outcome `unavailable`."""
        kept: list[tuple[Result, Answers]] = []

        def put(connection: Connection, made: Result, written: tuple[str, ...]) -> None:
            whole = replace(made, faults=(*noted, *made.faults), written=(*made.written, *written))
            ack = self._acknowledge(message, arrival.raw, whole.code, whole.faults)
            if not store(connection, whole, ack, self._store.clock()):
                raise Settled
            kept[:] = [(whole, Answers(whole.state, whole.code, arrival.accept, ack))]

        def keep(make: Callable[[Commit], Result]) -> Hook:
            return lambda connection, commit: put(connection, make(commit), _versions(commit))

        work = Work(arrival.id, arrival.received, arrival.peer, _grant(arrival.peer, message), keep, patient)
        result = self._processed(message, work)
        # What was kept in a transaction that has failed is not what came of the message in the end.
        if not kept or (kept[0][0].code, kept[0][0].state) != (result.code, result.state):
            with self._store.database.connection() as connection:
                put(connection, result, ())
        _MESSAGES.labels(arrival.peer.transport, kept[0][0].state).inc()
        return kept[0]

    def _processed(self, message: Message | None, work: Work) -> Result:
        if message is None:
            return Result("AR", "unreadable", (CUT,))
        fault = unwanted(message)
        if fault is not None:
            return Result("AR", "rejected", (fault,))
        try:
            return self._process(message, work)
        except Settled:
            raise
        except Outcome as outcome:
            _log.warning("message %s is refused by the store: %s", work.id, outcome.category)
            return of_outcome(outcome)
        except Exception as error:  # noqa: BLE001 - the sender is told, and the next message goes on
            _log.error("message %s could not be processed", work.id, exc_info=error)
            return FAILED

    def _answers(self, key: str) -> Answers | None:
        with self._store.database.connection() as connection:
            return stored.answers(connection, key)

    def _acknowledge(self, message: Message | None, raw: bytes, code: Code, faults: tuple[Fault, ...]) -> bytes:
        # What is kept as a notice is for who runs the server, and no fault of the message.
        told = [fault for fault in faults if fault.severity != "I"]
        return acknowledgement(message, raw, code, told, control_id=_control_id(), now=self._store.clock())

    @contextmanager
    def _turn(self, key: str) -> Iterator[str]:
        """Has threads that hold the same message take turns: the first processes it, the others find its answer."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                yield key
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    del self._turns[key]


def _control_id() -> str:
    # MSH-10 has room for 20 characters.
    return secrets.token_hex(10)


def _tell(answer: Answer, ack: bytes | None) -> None:
    if ack:
        answer(ack)


def _if_wanted(peer: Peer, message: Message | None, code: Code | None, ack: bytes | None) -> bytes | None:
    """An answer that is to be given: what cannot be read is always answered, and so is each request by HTTP."""
    return ack if message is None or peer.transport == "http" or (code is not None and wanted(message, code)) else None


def _judged(text: bytes) -> tuple[Message | None, Fault | None]:
    """The message in some bytes, and what it is refused for before anybody looks into it."""
    try:
        message = read(text)
    except Unreadable as unreadable:
        return None, unreadable.fault
    return message, unwanted(message)


def _readable(raw: bytes) -> Message | None:
    try:
        return read(raw)
    except Unreadable:
        return None


def _parted(raw: bytes) -> tuple[bytes, tuple[Fault, ...]]:
    """The message in what was stored, and what is said of bytes that stand around it."""
    batch = split(raw)
    return (batch.messages[0], tuple(batch.faults)) if len(batch.messages) == 1 else (raw, ())


def _grant(peer: Peer, message: Message | None) -> Grant:
    header = message.header if message is not None else None
    sender = origin(header.sending_application, header.sending_facility) if header is not None else origin("", "")
    return Grant(peer.name, SYSTEM.roles, SYSTEM.scopes, client=sender)


def _versions(commit: Commit) -> tuple[str, ...]:
    written = (each.version for each in commit.written if each.outcome in {"created", "updated", "deleted"} and each.version is not None)
    return tuple(f"{version.type}/{version.id}/_history/{version.version}" for version in written)
