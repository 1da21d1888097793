"""The face of the audit trail for what is neither read nor written over FHIR: sign-ins, accounts, apps, policies.

    record(connection, Event("client-change", type="client", resource=client.id, detail="registered").by(grant, address=…, request_id=…))

`store.trail.Event` says what an event is made of, `store.trail.KINDS` which there are. Rows of `session` and `account` leave their events by
themselves, by triggers, whoever writes them: `acting` tells these who that is.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.trail import Event, append, clean, who

from .accounts.accounts import Account

OF_AN_ADDRESS: Final = 10
ADDRESSES: Final = 30
"""Events of bad tokens in a minute: so many of one address, and addresses."""


def record(where: Connection | Store, *events: Event) -> None:
    """Adds events to the trail: in a connection's transaction, which keeps them or takes them back with all else; with a store by themselves.

    Durable with the transaction, or when this returns. Raises Outcome `unavailable` from a store.
    """
    if isinstance(where, Store):
        with where.database.connection() as connection:
            append(connection, events)
    else:
        append(where, events)


def acting(connection: Connection, caller: Grant | str, *, address: str = "", request_id: str = "", detail: str = "") -> None:
    """Tells who changes accounts and ends sessions in the transaction that the connection is in, until its end: a caller, or the name of one.

    Without it these events are the `system`'s.
    """
    fields = {"actor": caller} if isinstance(caller, str) else who(caller)
    told = {**fields, "address": address or None, "request_id": request_id or None, "detail": detail or None}
    text = json.dumps({name: clean(value) if isinstance(value, str) else value for name, value in told.items()})
    connection.execute("SELECT set_config('audit.who', %s, true)", (text,))


def refused(store: Store, account: Account | None, detail: str, *, address: str = "") -> None:
    """Records a failed sign-in. Of a login that there is none of the text is not kept: it may be a password."""
    event = Event("sign-in-failed", outcome=4, address=address or None, detail=detail)
    if account is not None:
        event = Event(
            "sign-in-failed",
            account.login,
            4,
            account=account.id,
            fhir_user=account.fhir_user,
            roles=account.roles,
            address=address or None,
            type="account",
            resource=account.id,
            detail=detail,
        )
    record(store, event)


class BadTokens:
    """Records tokens that are none of this server's, so many per minute that a flood cannot fill the disk; each process counts for itself."""

    def __init__(self, store: Store) -> None:
        """Takes the store whose trail it is."""
        self._store = store
        self._minute = 0
        self._counts: dict[str, int] = {}

    def note(self, reason: str, now: float, *, address: str, request_id: str) -> None:
        """Hands the event over, unless there were enough of the address, or of all, in this minute of `now` (seconds since 1970). Never raises."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        count = self._counts.get(address, 0)
        if count >= OF_AN_ADDRESS or (count == 0 and len(self._counts) >= ADDRESSES):
            return
        self._counts[address] = count + 1
        with suppress(Outcome):
            self._store.note(Event("bad-token", outcome=4, address=address or None, request_id=request_id or None, detail=reason))


__all__ = ["BadTokens", "Event", "acting", "record", "refused"]
