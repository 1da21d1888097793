"""Subscriptions and their notifications as rows: each subscriber gets what waits for it in order, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection, scalar

STATES: Final = ("new", "active", "error", "off")
DELIVERIES: Final = ("waiting", "delivered", "dead")
KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What is kept of a Subscription: whose rights it has, as JSON, and how it goes."""

    id: str
    holder: str
    state: str
    type: str | None
    secret: bytes | None
    failures: int
    fault: str | None
    due: datetime | None
    ends: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification: of `version` of `type`/`resource`."""

    id: int
    subscription: str
    type: str
    resource: str
    version: int
    state: str
    attempts: int
    created: datetime
    ended: datetime | None
    fault: str | None


_SUBSCRIBED: Final = ", ".join(each.name for each in fields(Subscribed))
_DELIVERY: Final = ", ".join(each.name for each in fields(Delivery))


def get(connection: Connection, identity: str, *, lock: bool = False) -> Subscribed | None:
    """What is kept of a Subscription, by its id."""
    statement = f"SELECT {_SUBSCRIBED} FROM subscription WHERE id = %s{' FOR UPDATE' if lock else ''}"  # noqa: S608 - our names
    row = connection.execute(statement, (identity,)).fetchone()
    return None if row is None else Subscribed(*row)


def page(connection: Connection, after: str | None, limit: int) -> list[Subscribed]:
    """So many, by id, after one."""
    statement = f"SELECT {_SUBSCRIBED} FROM subscription WHERE id > %s ORDER BY id LIMIT %s"  # noqa: S608 - our names
    return [Subscribed(*row) for row in connection.execute(statement, (after or "", limit)).fetchall()]


def of_types(connection: Connection, types: Iterable[str]) -> list[Subscribed]:
    """The active ones about some types."""
    statement = f"SELECT {_SUBSCRIBED} FROM subscription WHERE state = 'active' AND type = ANY(%s) ORDER BY id"  # noqa: S608 - our names
    return [Subscribed(*row) for row in connection.execute(statement, (sorted(set(types)),)).fetchall()]


def types(connection: Connection) -> set[str]:
    """What the active ones are about."""
    return {name for (name,) in connection.execute("SELECT DISTINCT type FROM subscription WHERE state = 'active' AND type IS NOT NULL").fetchall()}


def unsettled(connection: Connection, now: datetime) -> list[str]:
    """The ids of those that have still to be checked, as those whose end has come."""
    connection.execute("UPDATE subscription SET state = 'new' WHERE state = 'active' AND ends <= %s", (now,))
    return [identity for (identity,) in connection.execute("SELECT id FROM subscription WHERE state = 'new' ORDER BY id LIMIT 100").fetchall()]


def become(
    connection: Connection, identity: str, state: str, resource_type: str | None = None, fault: str | None = None, ends: datetime | None = None
) -> None:
    """Notes what a Subscription is now. What waits for one that was turned off is dead."""
    statement = "UPDATE subscription SET state = %s, type = coalesce(%s, type), fault = %s, ends = %s, failures = 0, due = NULL WHERE id = %s"
    connection.execute(statement, (state, resource_type, fault, ends, identity))
    if state == "off":
        connection.execute(
            "UPDATE subscription_delivery SET state = 'dead', ended = now(), fault = 'turned off' WHERE subscription = %s AND state = 'waiting'",
            (identity,),
        )


def keep_secret(connection: Connection, identity: str, sealed: bytes) -> None:
    """Keeps what notifications are signed with."""
    connection.execute("UPDATE subscription SET secret = %s WHERE id = %s", (sealed, identity))


def add(connection: Connection, subscription: str, told: tuple[str, str, int], now: datetime) -> None:
    """Adds a notification of a version (type, id, number) behind all that wait."""
    connection.execute(
        "INSERT INTO subscription_delivery (subscription, type, resource, version, state, created) VALUES (%s, %s, %s, %s, 'waiting', %s)"
        " ON CONFLICT DO NOTHING",
        (subscription, *told, now),
    )


def first(connection: Connection, subscription: str) -> Delivery | None:
    """What a subscriber gets next."""
    statement = f"SELECT {_DELIVERY} FROM subscription_delivery WHERE subscription = %s AND state = 'waiting' ORDER BY id LIMIT 1"  # noqa: S608 - our names
    row = connection.execute(statement, (subscription,)).fetchone()
    return None if row is None else Delivery(*row)


def tried(connection: Connection, delivery: Delivery) -> None:
    """Notes that a notification is about to be sent."""
    connection.execute("UPDATE subscription_delivery SET attempts = attempts + 1 WHERE id = %s", (delivery.id,))


def settle(connection: Connection, delivery: Delivery, state: str, now: datetime, fault: str | None = None) -> None:
    """Ends a notification."""
    statement = "UPDATE subscription_delivery SET state = %s, ended = %s, fault = %s WHERE id = %s AND state = 'waiting'"
    connection.execute(statement, (state, now, fault, delivery.id))


def served(connection: Connection, subscription: str) -> None:
    """Notes that a subscriber has answered."""
    statement = "UPDATE subscription SET failures = 0, fault = NULL, due = NULL WHERE id = %s AND (failures <> 0 OR due IS NOT NULL)"
    connection.execute(statement, (subscription,))


def postpone(connection: Connection, subscription: str, fault: str, due: datetime) -> int:
    """Notes that a subscriber could not be served, and when it is tried again; how often in a row by now."""
    statement = "UPDATE subscription SET failures = failures + 1, fault = %s, due = %s WHERE id = %s RETURNING failures"
    return int(scalar(connection, statement, fault, due, subscription) or 0)


def due(connection: Connection, now: datetime) -> list[str]:
    """The ids of active ones that something waits for, and whose time has come."""
    rows = connection.execute(
        "SELECT s.id FROM subscription s WHERE s.state = 'active' AND (s.due IS NULL OR s.due <= %s)"
        " AND EXISTS (SELECT FROM subscription_delivery d WHERE d.subscription = s.id AND d.state = 'waiting') ORDER BY s.id",
        (now,),
    ).fetchall()
    return [identity for (identity,) in rows]


def counts(connection: Connection, identities: list[str]) -> dict[str, tuple[int, int]]:
    """How many notifications wait for some Subscriptions, and how many are dead."""
    rows = connection.execute(
        "SELECT subscription, count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'dead') FROM subscription_delivery"
        " WHERE subscription = ANY(%s) GROUP BY subscription",
        (identities,),
    ).fetchall()
    return {identity: (waiting, dead) for identity, waiting, dead in rows}


def deliveries(connection: Connection, wanted: Mapping[str, str], after: int | None, limit: int) -> list[Delivery]:
    """So many notifications, the newest first, before that of a number; `wanted` as the columns are called."""
    conditions = [f"{name} = %({name})s" for name in ("subscription", "state", "type", "resource") if name in wanted]
    conditions += ["id < %(after)s"] if after is not None else []
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT {_DELIVERY} FROM subscription_delivery {where} ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608 - our names
    return [Delivery(*row) for row in connection.execute(statement, {**wanted, "after": after, "limit": limit}).fetchall()]


def replay(connection: Connection, identity: int) -> Delivery:
    """A notification that is over and waits again, in its old place. Raises Outcome `not-found`, `conflict` for one that waits."""
    row = connection.execute(f"SELECT {_DELIVERY} FROM subscription_delivery WHERE id = %s FOR UPDATE", (identity,)).fetchone()  # noqa: S608 - our names
    if row is None:
        raise Outcome("not-found", "There is no such notification")
    if Delivery(*row).state == "waiting":
        raise Outcome("conflict", "The notification waits already")
    statement = f"UPDATE subscription_delivery SET state = 'waiting', ended = NULL, fault = NULL WHERE id = %s RETURNING {_DELIVERY}"  # noqa: S608 - our names
    return Delivery(*connection.execute(statement, (identity,)).fetchall()[0])


def forget(connection: Connection, now: datetime) -> None:
    """Takes out what was over longer ago than KEPT."""
    connection.execute("DELETE FROM subscription_delivery WHERE ended < %s", (now - KEPT,))
