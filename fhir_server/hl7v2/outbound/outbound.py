"""From changes to delivered messages: what a change means for each peer, and the sending, in order and one at a time.

Neither is done in the request that made the change. `hear` runs in the transaction that strikes the change off the outbox, so a change becomes its
messages once; `deliver` sends them until the peer has taken them.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

from fhir_server.fhirjson import loads
from fhir_server.hl7v2.mapping import MappingFault
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import Settings
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection, exclusive
from fhir_server.store.outbox import Change
from fhir_server.store.trail import Event, append

from . import deliveries, peers
from .answer import Answer, control_id_of, read_answer
from .compose import Composer, Unsendable
from .deliveries import Delivery, NewDelivery
from .events import event_of
from .line import Line, Unanswered, Unreachable
from .peers import Peer

UNANSWERED: Final = 20
"""So often a message is sent and not answered until it is dead, lest it hold up for ever what is behind it. A peer that is away costs nothing."""

REFUSED: Final = 5
"""So often a message is sent that the peer refuses for a fault of its own, which takes a minute: many call any fault so, and those behind it wait."""

DOUBTFUL: Final = 4
"""Peers that have failed and are tried at the same time in one process: half of a worker's threads are always left to those that answer."""
_LATER: Final = 5.0  # Seconds until one more is tried.

_LOCK: Final = 0x46484959
_FIRST: Final = 2.0  # Seconds until the second try; then twice as long each time,
_LONGEST: Final = 300.0  # and no longer than this.
_DELIVER: Final = "hl7v2.deliver"

Contents = tuple[dict[str, Any] | None, dict[str, Any] | None]
"""Of a version and of the one before it; None where there is none, as of a deletion."""

_log = logging.getLogger("fhir_server.hl7v2")


class _Passing(Exception):  # noqa: N818 - an event: it is tried again
    """The peer refuses a message for a fault of its own."""

    def __init__(self, answer: Answer, raw: bytes) -> None:
        super().__init__(answer.told)
        self.answer, self.raw = answer, raw


class Outbound:
    """What a worker does for HL7 v2, and an administrator asks for. Safe to share between threads."""

    def __init__(self, store: Store, settings: Settings, leaving: threading.Event | None = None) -> None:
        """`leaving` is set when the process is to end: then what waits for an answer stops within seconds."""
        self._store = store
        self._settings = settings
        self._leaving = leaving or threading.Event()
        self._doubtful = threading.Semaphore(DOUBTFUL)

    @cached_property
    def _composer(self) -> Composer:
        # Made when first needed: who only asks what waits needs no maps.
        return Composer(self._settings.clinic_timezone, self._settings.hl7v2_mappings)

    def hear(self, connection: Connection, changes: Sequence[Change]) -> set[tuple[str, str]]:
        """Turns changes into messages that wait; the tasks that are to follow. A change that no message can be made of becomes a dead one."""
        known = peers.enabled(connection)
        told: set[tuple[str, str]] = set()
        for change in changes:
            wanting = [peer for peer in known if peer.origin != change.client and change.type in peers.types_of(peer.events)]
            if not wanting:
                continue
            with self._store.latest(SYSTEM) as db:
                now, before = self._versions(db, change.type, change.resource, change.version)
                event = event_of(change.type, now, before)
                for peer in wanting:
                    if event is not None and event in peer.events:
                        new = self._made(db, peer, event, change.type, change.resource, change.version, (now, before))
                        deliveries.add(connection, new, self._store.clock())
                        told.add((_DELIVER, peer.id))
        return told

    def deliver(self, identity: str) -> float | None:
        """Sends a peer what waits for it, until nothing does, something fails, or the process is to end; the seconds until it is due again, if so.

        One at a time in all processes: who finds another at it leaves it to that one. Raises Outcome `unavailable` where the database is away.
        """
        with self._store.database.connection() as connection, exclusive(connection, _LOCK, identity) as mine, ExitStack() as stack:
            line: Line | None = None
            while mine and not self._leaving.is_set():
                peer, now = peers.get(connection, identity), self._store.clock()
                if peer is not None and peer.due is not None and peer.due > now:
                    return (peer.due - now).total_seconds()
                delivery = deliveries.first(connection, identity)
                if peer is None or peer.disabled is not None or delivery is None:
                    break
                if line is None and peer.failures and not self._is_tried(stack):
                    return _LATER
                try:
                    line = line or stack.enter_context(Line(peer, self._settings, self._leaving.is_set))
                    self._exchange(connection, line, delivery)
                except Unreachable as error:
                    return self._postponed(connection, peer, str(error))
                except Unanswered as error:
                    # Who leaves has not waited for long: that tells nothing of the peer.
                    return None if self._leaving.is_set() else self._in_vain(connection, peer, delivery, str(error))
                except _Passing as refusal:
                    return self._refused(connection, peer, delivery, refusal)
        return None

    def _is_tried(self, stack: ExitStack) -> bool:
        """Whether a peer that has failed may be tried now: each that hangs takes a thread for as long as its answer may take."""
        if not self._doubtful.acquire(blocking=False):
            return False
        stack.callback(self._doubtful.release)
        return True

    def due(self) -> list[str]:
        """The ids of peers that something waits for that can be sent now."""
        with self._store.database.connection() as connection:
            return deliveries.due(connection, self._store.clock())

    def forget(self) -> None:
        """Takes out what was delivered long ago."""
        with self._store.database.connection() as connection:
            deliveries.forget(connection, self._store.clock())

    def _exchange(self, connection: Connection, line: Line, delivery: Delivery) -> None:
        assert delivery.message is not None
        deliveries.leave(connection, delivery, self._store.clock())
        raw = line.send(delivery.message, lambda answer: control_id_of(answer) == delivery.control_id)
        answer = read_answer(raw)
        if answer.passing and not answer.accepted:
            raise _Passing(answer, raw)
        now = self._store.clock()
        with connection.transaction():
            deliveries.served(connection, delivery.peer)
            if answer.accepted:
                deliveries.settle(connection, delivery, "delivered", now, answer=raw)
                append(connection, [_told(delivery)])
            else:
                deliveries.settle(connection, delivery, "dead", now, fault=answer.told, answer=raw)
        if not answer.accepted:
            self._lost(delivery, answer)

    def _in_vain(self, connection: Connection, peer: Peer, delivery: Delivery, fault: str) -> float:
        with connection.transaction():
            if deliveries.unanswered(connection, delivery, fault) >= UNANSWERED:
                deliveries.settle(connection, delivery, "dead", self._store.clock(), fault=f"sent {UNANSWERED} times without an answer: {fault}")
                self._lost(delivery, None)
            return self._postponed(connection, peer, fault)

    def _refused(self, connection: Connection, peer: Peer, delivery: Delivery, refusal: _Passing) -> float:
        with connection.transaction():
            if deliveries.unanswered(connection, delivery, refusal.answer.told) >= REFUSED:
                deliveries.settle(connection, delivery, "dead", self._store.clock(), fault=refusal.answer.told, answer=refusal.raw)
                self._lost(delivery, refusal.answer)
            return self._postponed(connection, peer, f"refused for now: {refusal.answer.code}")

    def _postponed(self, connection: Connection, peer: Peer, fault: str) -> float:
        wait: float = min(_LONGEST, _FIRST * 2 ** min(peer.failures, 20)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        if peer.failures == 0:
            _log.warning("a peer of HL7 v2 is not served; it is tried again", extra={"peer": peer.id, "reason": fault})
        deliveries.postpone(connection, peer.id, fault, self._store.clock() + timedelta(seconds=wait))
        return wait

    @staticmethod
    def _lost(delivery: Delivery, answer: Answer | None) -> None:
        code = answer.code if answer is not None else "none"
        _log.error(
            "a message of HL7 v2 is dead", extra={"delivery": delivery.id, "peer": delivery.peer, "event_name": delivery.event, "answer": code}
        )

    @staticmethod
    def _versions(db: Snapshot, type_: str, identity: str, version: int) -> Contents:
        found = [db.version(type_, identity, number) for number in (version, version - 1)]
        now, before = (loads(each.body) if each is not None and each.body is not None else None for each in found)
        return now, before

    def _made(self, db: Snapshot, peer: Peer, event: str, type_: str, identity: str, version: int, contents: Contents) -> NewDelivery:
        control_id = deliveries.new_control_id()
        patient, message, fault = None, None, None
        try:
            made = self._composer.compose(peer, event, *contents, db.read_many, control_id, self._store.clock())
            patient, message, event = made.patient, made.message, made.event
        except (Unsendable, Outcome, MappingFault) as error:
            fault = str(error)
        except Exception as error:  # noqa: BLE001 - the change must not hold up those behind it
            _log.exception("a message of HL7 v2 could not be made", extra={"peer": peer.id, "event_name": event})
            fault = f"the message could not be made ({type(error).__name__})"
        return NewDelivery(
            peer=peer.id,
            control_id=control_id,
            event=event,
            type=type_,
            resource=identity,
            version=version,
            patient=patient,
            message=message,
            fault=fault,
        )

    def replay(self, connection: Connection, delivery: Delivery) -> Delivery:
        """A dead message that waits again, within the caller's transaction.

        One that the peer has refused is made anew, under another control id, or the peer would take it for the one that it has refused; one that was
        not answered goes out as it is. Raises Outcome `conflict` for one that is not dead, `business-rule` for one that still cannot be made.
        """
        if delivery.state == "dead" and delivery.message is not None and delivery.answer is None:
            return deliveries.replay(connection, delivery, delivery.control_id, delivery.message)
        peer = peers.get(connection, delivery.peer)
        assert peer is not None
        with self._store.latest(SYSTEM) as db:
            now, before = self._versions(db, delivery.type, delivery.resource, delivery.version)
            event = event_of(delivery.type, now, before) or delivery.event
            new = self._made(db, peer, event, delivery.type, delivery.resource, delivery.version, (now, before))
        if new.message is None:
            raise Outcome("business-rule", f"The message still cannot be made: {new.fault}")
        return deliveries.replay(connection, delivery, new.control_id, new.message)


def _told(delivery: Delivery) -> Event:
    """What the audit trail has of a message that left."""
    patients = (delivery.patient,) if delivery.patient is not None else ()
    detail = f"sent as {delivery.event} {delivery.control_id} to the HL7 v2 peer {delivery.peer}"
    return Event("export", "HL7 v2", type=delivery.type, resource=delivery.resource, version=delivery.version, patients=patients, detail=detail)
