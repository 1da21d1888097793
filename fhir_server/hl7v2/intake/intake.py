"""The way in: bytes become a stored message, the message becomes FHIR, and what became of it becomes the answer.

In original mode all of it is one transaction: message, resources, audit and acknowledgement are durable together before AA leaves, which costs one
commit, and messages that are taken at the same moment share it. In enhanced mode the message is committed first, then accepted, then processed.

https://www.hl7.eu/refactored/ch02.html (2.9: message processing rules)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from prometheus_client import Counter

from fhir_server.hl7v2.landing.processing import Peer, Process, Result
from fhir_server.hl7v2.landing.refusals import AWAY, CUT, EMPTY, TOO_LONG, unwanted
from fhir_server.hl7v2.landing.together import Settled
from fhir_server.hl7v2.text.acknowledge import enhanced, wanted
from fhir_server.hl7v2.text.batch import Batch, reply, split
from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Message, read
from fhir_server.hl7v2.text.unreadable import Unreadable
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.trail import Event

from . import stored
from .settling import Letter, Settling, acknowledge, control_id
from .stored import Answers, Arrival, Change

Answer = Callable[[bytes], None]

_MESSAGES: Final = Counter("hl7v2_messages", "Messages of HL7 v2 that came, by transport and what became of them.", ("transport", "state"))
_PATIENCE: Final = timedelta(minutes=1)
_ATTEMPTS: Final = 10
_MOST: Final = 10_000
"""Messages that are taken of one block or body."""
TOGETHER: Final = 16
"""Messages that are processed together at the most."""
_ROOM: Final = 1024 * 1024
"""Bytes of messages that are processed together, unless it is a single one."""


@dataclass(slots=True)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A block or a body that came, and what takes the acknowledgements to it."""

    raw: bytes
    peer: Peer
    answer: Answer


@dataclass(slots=True)
class _Piece:
    """One message of a delivery: `raw` is what is stored, `text` the part of it that is the message, `noted` what is said of the rest."""

    raw: bytes
    text: bytes
    peer: Peer
    answer: Answer
    noted: tuple[Fault, ...] = ()
    given: list[bytes] = field(default_factory=list)
    error: Exception | None = None


class Intake:
    """Takes messages for one store. Safe to share between threads; processes on one database need not know of each other."""

    def __init__(self, store: Store, process: Process) -> None:
        """`process` makes FHIR of a message; see `processing`."""
        self._store = store
        self._settling = Settling(store, process)
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    def receive(self, raw: bytes, peer: Peer, answer: Answer) -> None:
        """Takes what one block or one body holds: a message, several, or a batch; calls `answer` with each acknowledgement as soon as it is due.

        A message is durable before it is acknowledged. Where enhanced mode wants no answer there is none, but over HTTP, where each request has one,
        of the application. A batch is answered by one batch. Of more than 10,000 messages the rest is refused, by one answer to the first of it.
        The same bytes again get the answer that they got, unless nothing came of them for a reason of ours. Never raises for what is in the bytes.
        Raises Outcome `unavailable` where nothing can be stored: the sender is to send again what has not been answered.
        """
        (error,) = self.receive_all([Delivery(raw, peer, answer)])
        if error is not None:
            raise error

    def receive_all(self, deliveries: Sequence[Delivery]) -> list[Exception | None]:
        """Takes several as `receive` does each, single messages together; for each what `receive` would raise.

        Answers to batches come after those to single messages. Costs two statements, a transaction of five and its commit for each sixteen messages,
        where none is refused and none minds another.
        """
        batches = [split(each.raw) for each in deliveries]
        pieces = {
            # What stands around a single message is kept with it.
            place: _Piece(each.raw, batch.messages[0], each.peer, each.answer, tuple(batch.faults))
            for place, (each, batch) in enumerate(zip(deliveries, batches, strict=True))
            if len(batch.messages) == 1 and not batch.enveloped
        }
        self._take(list(pieces.values()))
        errors: list[Exception | None] = []
        for place, (each, batch) in enumerate(zip(deliveries, batches, strict=True)):
            errors.append(pieces[place].error if place in pieces else self._take_batch(each, batch))
        return errors

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
        return acknowledge(_readable(raw), raw, "AR", (AWAY,), self._store.clock())

    def replay(self, key: str, by: Event, change: Change | None = None, *, revision: int | None = None) -> Result:
        """Processes a stored message once more: as it came, or as it was changed before or is now, for whoever `by` tells of.

        Its answer is from now on the one that the same bytes get; nothing is sent to whom it came from. With a `revision` only if it is still that.
        Raises Outcome `not-found`, `gone` where its bytes have been removed, `precondition`, `conflict` where others have changed it in the meantime,
        `unavailable`.
        """
        change = change or Change()
        with self._turn([key]):
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
            message = _readable(text)
            arrival = Arrival(key, found.received, found.peer, raw, message.header if message is not None else None)
            letter = Letter(arrival, message, noted, change.linked or found.linked)
            try:
                return self._settling.replay(letter, found.revision, change, by)
            except Settled:
                raise Outcome("conflict", "Somebody else has processed or changed the message just now; look at it again") from None
            finally:
                if letter.settled is not None:
                    _MESSAGES.labels(found.peer.transport, letter.settled.state).inc()

    def finish(self) -> int:
        """Processes what was accepted in enhanced mode and then left, by a crash or a fault that may have passed; how many messages.

        Raises Outcome `unavailable`.
        """
        with self._store.database.connection() as connection:
            keys = stored.left(connection, self._store.clock(), patience=_PATIENCE, attempts=_ATTEMPTS)
        for key in keys:
            with self._turn([key]), self._store.database.connection() as connection:
                found = stored.load(connection, key)
            if found is not None:
                self._take_or_raise([_Piece(found.raw, _parted(found.raw)[0], found.peer, lambda _ack: None)])
        return len(keys)

    def _take_batch(self, delivery: Delivery, batch: Batch) -> Exception | None:
        """Takes several messages of one delivery, in their order, and what stands beside them; what went wrong on our side, if anything did."""
        try:
            self._keep_rest(delivery, batch)
            pieces = [_member(raw, delivery.peer) for raw in batch.messages[:_MOST]]
            for group in _groups(pieces):
                self._take_or_raise(group)
                for ack in () if batch.enveloped else [ack for piece in group for ack in piece.given]:
                    delivery.answer(ack)
            answers = [piece.given[-1] if piece.given else b"" for piece in pieces]
            if rest := batch.messages[_MOST:]:
                refused = self._too_many(rest, delivery.peer)
                answers += [refused or b"", *[b""] * (len(rest) - 1)]
                if not batch.enveloped:
                    _tell(delivery.answer, refused)
            if batch.enveloped and any(answers):
                delivery.answer(reply(batch, answers, control_id=control_id(), now=self._store.clock()))
        except Exception as error:  # noqa: BLE001 - whoever called is told, and other deliveries go on
            return error
        return None

    def _keep_rest(self, delivery: Delivery, batch: Batch) -> None:
        """Stores what stands beside the messages of a batch where something is wrong with it, or all of it where there is no message."""
        if not batch.messages:
            refused = self._refuse(delivery.raw, None, delivery.peer, Result("AR", "unreadable", tuple(batch.faults) or (EMPTY,)))
            _tell(delivery.answer, refused)
        elif batch.faults:
            rest = b"".join(piece.raw for piece in batch.pieces if piece.kind in {"envelope", "stray"})
            self._refuse(rest, None, delivery.peer, Result("AA", "warning", tuple(batch.faults)))

    def _too_many(self, rest: list[bytes], peer: Peer) -> bytes | None:
        """Stores the messages of a batch that are beyond what is taken at once, as one; the answer to the first of them."""
        fault = Fault("199", f"{_MOST} messages are taken at once; this one and the {len(rest) - 1} after it are not: send them in another batch")
        return self._refuse(b"".join(rest), _readable(rest[0]), peer, Result("AR", "rejected", (fault,)))

    def _take_or_raise(self, pieces: Sequence[_Piece]) -> None:
        self._take(pieces)
        for piece in pieces:
            if piece.error is not None:
                raise piece.error

    def _take(self, pieces: Sequence[_Piece]) -> None:
        """Takes messages, those of a group together; each is answered, or has its `error`."""
        for group in _groups(pieces):
            with self._turn([stored.identity(piece.raw) for piece in group]) as keys:
                try:
                    self._take_group(group, keys)
                except Exception as error:  # noqa: BLE001 - each of their senders is told
                    for piece in group:
                        piece.error = piece.error or error

    def _take_group(self, group: Sequence[_Piece], keys: Sequence[str]) -> None:
        with self._store.database.connection() as connection:
            known = stored.answers(connection, keys)
        pieces: dict[str, _Piece] = {}
        letters: list[Letter] = []
        for piece, key in zip(group, keys, strict=True):
            try:
                letter = self._judged(piece, key, known.get(key))
            except Exception as error:  # noqa: BLE001 - its sender is told
                piece.error = error
            else:
                if letter is not None:
                    letters.append(letter)
                    pieces[key] = piece

        def done(letter: Letter) -> None:
            assert letter.settled is not None
            piece = pieces[letter.arrival.id]
            _MESSAGES.labels(piece.peer.transport, letter.settled.state).inc()
            _tell(piece.answer, _if_wanted(piece.peer, letter.message, letter.settled))

        self._settling.settle(letters, done)
        for letter in letters:
            pieces[letter.arrival.id].error = letter.error

    def _judged(self, piece: _Piece, key: str, before: Answers | None) -> Letter | None:
        """What is to be processed of a message; None for one that is answered, as it was before, or is refused."""
        message, fault = _judged(piece.text)
        if before is not None and before.settled:
            self._repeat(key, piece, message, before)
            return None
        if message is None or fault is not None:
            result = Result("AR", "unreadable" if message is None else "rejected", piece.noted if fault is None else (*piece.noted, fault))
            _tell(piece.answer, self._refuse(piece.raw, message, piece.peer, result))
            return None
        arrival = Arrival(key, self._store.clock(), piece.peer, piece.raw, message.header)
        if enhanced(message) and piece.peer.transport != "http":
            arrival = self._accept(arrival, message, before)
            _tell(piece.answer, arrival.accept if wanted(message, "CA") else None)
        return Letter(arrival, message, piece.noted)

    def _repeat(self, key: str, piece: _Piece, message: Message | None, before: Answers) -> None:
        peer = piece.peer
        with self._store.database.connection() as connection:
            stored.came_again(connection, key)
        self._store.note(Event("message", peer.name, address=peer.address or None, type="hl7v2-message", resource=key, detail="came again"))
        _MESSAGES.labels(peer.transport, "repeated").inc()
        if before.accept and peer.transport != "http":
            _tell(piece.answer, _if_wanted(peer, message, replace(before, code="CA", ack=before.accept)))
        _tell(piece.answer, _if_wanted(peer, message, before))

    def _refuse(self, raw: bytes, message: Message | None, peer: Peer, result: Result) -> bytes | None:
        """Stores what is not to be processed; the answer that its sender wants."""
        arrival = Arrival(stored.identity(raw), self._store.clock(), peer, raw, message.header if message is not None else None)
        answers, is_new = self._settling.refuse(arrival, message, result)
        if is_new:
            _MESSAGES.labels(peer.transport, result.state).inc()
        return _if_wanted(peer, message, answers) if answers is not None else None

    def _accept(self, arrival: Arrival, message: Message, before: Answers | None) -> Arrival:
        """Stores a message of enhanced mode with its accept acknowledgement."""
        if before is not None and before.accept:
            return replace(arrival, accept=before.accept)
        arrival = replace(arrival, accept=acknowledge(message, arrival.raw, "CA", (), self._store.clock()))
        with self._store.database.connection() as connection:
            stored.receive(connection, arrival)
        return arrival

    @contextmanager
    def _turn(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """Has threads that hold the same messages take turns: the first processes each, the others find its answer."""
        with ExitStack() as turns:
            # In one order for all threads, or two would wait for each other.
            for key in sorted(keys):
                turns.enter_context(self._turn_of(key))
            yield keys

    @contextmanager
    def _turn_of(self, key: str) -> Iterator[None]:
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    del self._turns[key]


def _groups(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    """Messages in their order, by so many and so much as are processed together, and none twice in a group."""
    group: list[_Piece] = []
    held = 0
    for piece in pieces:
        if group and (len(group) == TOGETHER or held + len(piece.raw) > _ROOM or any(piece.raw == other.raw for other in group)):
            yield group
            group, held = [], 0
        group.append(piece)
        held += len(piece.raw)
    if group:
        yield group


def _member(raw: bytes, peer: Peer) -> _Piece:
    """A message of several, whose answers are gathered."""
    given: list[bytes] = []
    return _Piece(raw, raw, peer, given.append, given=given)


def _tell(answer: Answer, ack: bytes | None) -> None:
    if ack:
        answer(ack)


def _if_wanted(peer: Peer, message: Message | None, found: Answers) -> bytes | None:
    """An answer that is to be given: what cannot be read is always answered, and so is each request by HTTP."""
    if message is None or peer.transport == "http":
        return found.ack
    return found.ack if found.code is not None and wanted(message, found.code) else None


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
