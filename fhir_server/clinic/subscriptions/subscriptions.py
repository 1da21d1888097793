"""From a Subscription to notifications: its check, the changes that meet its criteria, and their delivery, in order and one at a time.

requested → active → error | off. `hear` runs in the transaction that strikes changes off the outbox, so a change becomes its notifications once;
`deliver` posts them until the subscriber has taken them: at least once, each under the same number.

https://hl7.org/fhir/R4/subscription.html
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.access.policy import Policy
from fhir_server.clinic.acting import content, resource_of
from fhir_server.interactions import Engine
from fhir_server.interactions.subscriptions import headers_of, secret_of
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.search.compartment import compartment_of
from fhir_server.search.params.date import parse_date
from fhir_server.settings import Settings
from fhir_server.store import Snapshot
from fhir_server.store.database import Connection, exclusive
from fhir_server.store.ops import Commit, Patch, Version
from fhir_server.store.outbox import Change, listen
from fhir_server.store.rules.subscribers import SERVER
from fhir_server.store.trail import Event, append

from . import rows
from .criteria import meets, parsed
from .endpoint import SIGNATURE, Unreachable, fault_of, post, signature
from .holders import Holders
from .rows import Delivery, Subscribed

Json = dict[str, Any]
Task = tuple[str, str]

CONSUMER: Final = "subscriptions"
CHECK: Final = "subscriptions.check"
DELIVER: Final = "subscriptions.deliver"
FAILURES: Final = 10
"""Tries in a row that come to nothing until a Subscription is in error: over about half an hour."""
AT_ONCE: Final = 3
"""Deliveries of one process at the same time, so that slow subscribers do not hold up its other work."""

_LOCK: Final = 0x46484962
_FIRST: Final = 2.0  # Seconds until the second try; then twice as long each time,
_LONGEST: Final = 600.0  # and no longer than this.
_TURN: Final = 20.0  # Seconds that one subscriber has before others have theirs.
_AGAIN: Final = 1.0
_PAYLOADS: Final = frozenset({"application/fhir+json", "application/json"})
_UNWANTED: Final = frozenset({400, 413, 415, 422})  # The notification itself is not taken; others may be.

_log = logging.getLogger("fhir_server.subscriptions")


class Subscriptions:
    """What a worker does about Subscriptions, and an administrator asks for. Safe to share between threads."""

    def __init__(self, engine: Engine, settings: Settings, leaving: threading.Event | None = None) -> None:
        """`leaving` is set when the process is to end: then no further notification is begun."""
        self._engine = engine
        self._store = engine.store
        self._settings = settings
        self._leaving = leaving or threading.Event()
        self._holders = Holders(engine.store, settings.jwt_secret)
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def hear(self, connection: Connection, changes: Sequence[Change]) -> set[Task]:
        """Turns changes into notifications that wait; the tasks that are to follow."""
        tasks = {(CHECK, each.resource) for each in changes if each.type == "Subscription" and each.kind != "delete"}
        told = [each for each in changes if each.type != "Subscription" and each.kind != "delete"]
        known = rows.of_types(connection, (each.type for each in told)) if told else []
        if not known:
            return tasks
        with self._store.latest(SYSTEM) as db:
            found = db.versions([(each.type, each.resource, each.version) for each in told])
            contents = {each.id: resource_of(each) for each in db.read_many([("Subscription", each.id) for each in known])}
            for each in known:
                content = contents.get(each.id)
                if content is not None:
                    tasks |= self._hear(connection, db, each, content, [one for one in found.values() if one.type == each.type])
        return tasks

    def _hear(self, connection: Connection, db: Snapshot, subscribed: Subscribed, content: Json, versions: Sequence[Version]) -> set[Task]:
        now = self._store.clock()
        grant = self._holders.grant(connection, subscribed.holder)
        try:
            if grant is None or self._is_over(content):
                raise Outcome("forbidden", "")
            met = [each for each in versions if meets(self._engine, db, content["criteria"], each, grant)]
        except Outcome as outcome:
            if outcome.category == "unavailable":
                raise
            # Looked at anew, which says what is wrong.
            rows.become(connection, subscribed.id, "new")
            return {(CHECK, subscribed.id)}
        for each in met:
            rows.add(connection, subscribed.id, (each.type, each.id, each.version), now)
        return {(DELIVER, subscribed.id)} if met else set()

    def check(self, identity: str) -> None:
        """Makes a Subscription active, or says in it what is wrong. Raises Outcome `unavailable`."""
        with self._store.database.connection() as connection:
            subscribed = rows.get(connection, identity)
            grant = self._holders.grant(connection, subscribed.holder) if subscribed is not None else None
        with self._store.latest(SYSTEM) as db:
            version = db.read("Subscription", identity)
        content = resource_of(version)
        if subscribed is None or subscribed.state != "new" or content is None or version is None:
            return
        status = content.get("status")
        fault = self._fault(content, grant) if status in ("requested", "active") else None
        state = "error" if fault is not None or status == "error" else "off" if status == "off" or self._is_over(content) else "active"
        kind = parsed(self._engine, content["criteria"])[0] if state == "active" else None

        def beside(connection: Connection, _: Commit) -> None:
            rows.become(connection, identity, state, kind, fault, self._end(content))
            if state == "active" and subscribed.secret is None:
                rows.keep_secret(connection, identity, self._engine.vault.seal(secrets.token_urlsafe(32), _place(identity)))
            listen(connection, CONSUMER, {"Subscription", *rows.types(connection)})

        try:
            told = Patch("Subscription", lambda old: _standing(old, state, fault), identity, if_match=str(version.version))
            self._store.transact([told], SERVER, beside=beside)
        except Outcome as outcome:
            # It has changed meanwhile: that change is heard of, too.
            if outcome.category not in ("precondition", "gone", "not-found"):
                raise

    def deliver(self, identity: str) -> float | None:
        """Posts to a subscriber what waits for it, for some seconds; the seconds until it is due again, if so. Raises Outcome `unavailable`."""
        if not self._room.acquire(blocking=False):
            return _AGAIN
        try:
            return self._deliver(identity)
        finally:
            self._room.release()

    def due(self) -> list[Task]:
        """The tasks that are to be done now, whoever has forgotten them."""
        with self._store.database.connection() as connection:
            now = self._store.clock()
            checks = [(CHECK, each) for each in rows.unsettled(connection, now)]
            return [*checks, *((DELIVER, each) for each in rows.due(connection, now))]

    def forget(self) -> None:
        """Takes out what was delivered long ago."""
        with self._store.database.connection() as connection:
            rows.forget(connection, self._store.clock())

    def rotate_secret(self, connection: Connection, identity: str) -> str:
        """Another secret to sign with, within the caller's transaction; the one before is void. Raises Outcome `not-found`."""
        if rows.get(connection, identity, lock=True) is None:
            raise Outcome("not-found", "There is no such Subscription")
        secret = secrets.token_urlsafe(32)
        rows.keep_secret(connection, identity, self._engine.vault.seal(secret, _place(identity)))
        return secret

    def _deliver(self, identity: str) -> float | None:
        end = time.monotonic() + _TURN
        with self._store.database.connection() as connection, exclusive(connection, _LOCK, identity) as mine:
            while mine and not self._leaving.is_set():
                subscribed, now = rows.get(connection, identity), self._store.clock()
                if subscribed is None or subscribed.state != "active":
                    return None
                if subscribed.due is not None and subscribed.due > now:
                    return (subscribed.due - now).total_seconds()
                delivery = rows.first(connection, identity)
                if delivery is None:
                    return None
                if time.monotonic() > end:
                    return _AGAIN
                self._hand_over(connection, subscribed, delivery)
        return None

    def _hand_over(self, connection: Connection, subscribed: Subscribed, delivery: Delivery) -> None:
        grant = self._holders.grant(connection, subscribed.holder)
        with self._store.latest(SYSTEM) as db:
            content = resource_of(db.read("Subscription", subscribed.id))
            shown = _seen(db, grant, delivery)
        if content is None or grant is None or self._is_over(content):
            rows.become(connection, subscribed.id, "new")
            return
        if shown is None or shown.body is None:
            rows.settle(connection, delivery, "dead", self._store.clock(), "it is not open to the subscriber any more")
            return
        channel = content["channel"]
        body = shown.body if channel.get("payload") else _pointer(subscribed, delivery)
        rows.tried(connection, delivery)
        try:
            status = self._post(channel, subscribed, delivery, body)
        except Unreachable as error:
            self._postponed(connection, subscribed, str(error))
            return
        now = self._store.clock()
        if status in _UNWANTED:
            rows.settle(connection, delivery, "dead", now, f"the subscriber answered {status}")
            rows.served(connection, subscribed.id)
        elif not 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls success
            self._postponed(connection, subscribed, f"the subscriber answered {status}")
        else:
            with connection.transaction():
                rows.settle(connection, delivery, "delivered", now)
                rows.served(connection, subscribed.id)
                append(connection, [self._told(grant, subscribed, delivery, shown)])

    def _post(self, channel: Json, subscribed: Subscribed, delivery: Delivery, body: bytes) -> int:
        vault = self._engine.vault
        secret = secret_of(channel, vault) or vault.open(subscribed.secret, _place(subscribed.id)) or ""
        headers = {
            **headers_of(channel, vault),
            "Content-Type": "application/fhir+json; charset=utf-8",
            "X-Delivery-Id": str(delivery.id),
            SIGNATURE: signature(secret, int(time.time()), body),
        }
        return post(channel["endpoint"], headers, body, anywhere=Policy(self._store).subscriptions() == "any")

    def _postponed(self, connection: Connection, subscribed: Subscribed, fault: str) -> None:
        wait = min(_LONGEST, _FIRST * 2**subscribed.failures) * random.uniform(0.75, 1.0)  # noqa: S311 - no secret
        failures = rows.postpone(connection, subscribed.id, fault, self._store.clock() + timedelta(seconds=wait))
        if failures < FAILURES:
            return
        _log.error("a subscription is in error", extra={"subscription": subscribed.id, "reason": fault})
        said = f"{failures} tries in a row came to nothing: {fault}. Set the status to requested when it is mended"

        def beside(inside: Connection, _: Commit) -> None:
            rows.become(inside, subscribed.id, "error", fault=said)

        self._store.transact([Patch("Subscription", lambda old: _standing(old, "error", said), subscribed.id)], SERVER, beside=beside)

    def _fault(self, content: Json, grant: Grant | None) -> str | None:
        """What keeps a Subscription from being active; None where nothing does."""
        channel = content.get("channel", {})
        if grant is None:
            return "whoever has written it has no access any more"
        if channel.get("type") != "rest-hook":
            return "only the channel rest-hook is there"
        if channel.get("payload") not in (None, *_PAYLOADS):
            return f"the payload is one of {', '.join(sorted(_PAYLOADS))}, or none"
        try:
            name, _ = parsed(self._engine, content.get("criteria", ""))
        except Outcome as outcome:
            return outcome.issues[0].diagnostics
        if not grant.allows(name, "r"):
            return f"whoever has written it may not read {name}"
        return fault_of(channel.get("endpoint", ""))

    def _is_over(self, content: Json) -> bool:
        end = self._end(content)
        return end is not None and end <= self._store.clock()

    def _end(self, content: Json) -> datetime | None:
        return parse_date(content["end"], self._store.registry.zone)[0] if "end" in content else None

    def _told(self, grant: Grant, subscribed: Subscribed, delivery: Delivery, shown: Version) -> Event:
        registry = self._store.registry
        patients = compartment_of(registry, shown.type, registry.rows(content(shown))) | ({shown.id} if shown.type == "Patient" else set())
        event = Event("export", type=delivery.type, resource=delivery.resource, version=delivery.version, patients=tuple(sorted(patients)))
        return replace(event.by(grant), detail=f"told to Subscription/{subscribed.id}")


def _seen(db: Snapshot, grant: Grant | None, delivery: Delivery) -> Version | None:
    """The version as the subscriber may see it now; None where they may not."""
    if grant is None or not grant.allows(delivery.type, "r"):
        return None
    return db.seen_by(grant).version(delivery.type, delivery.resource, delivery.version)


def _standing(old: Json, state: str, fault: str | None) -> Json:
    kept = {name: value for name, value in old.items() if name != "error"}
    return kept | {"status": state} | ({"error": fault} if fault is not None else {})


def _pointer(subscribed: Subscribed, delivery: Delivery) -> bytes:
    """What is told where no payload is asked for: which resource it is about, and nothing of it."""
    focus = f"{delivery.type}/{delivery.resource}"
    parameters = [
        {"name": "subscription", "valueReference": {"reference": f"Subscription/{subscribed.id}"}},
        {"name": "focus", "valueReference": {"reference": focus}},
        {"name": "version", "valueId": str(delivery.version)},
    ]
    return fhirjson.dumps({"resourceType": "Parameters", "parameter": parameters})


def _place(identity: str) -> str:
    return f"subscription secret {identity}"
