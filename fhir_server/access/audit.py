"""The face of the audit trail for what is neither read nor written over FHIR: sign-ins, accounts, apps, policies.

    record(connection, Event("account-change", type="account", resource=account.id, detail="disabled").by(grant, address=…, request_id=…))

`store.trail.Event` says what an event is made of, `store.trail.KINDS` which there are.
"""

from __future__ import annotations

from dataclasses import replace

from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.trail import Event, append

from .accounts import Account


def record(where: Connection | Store, *events: Event) -> None:
    """Adds events to the trail: in a connection's transaction, which keeps them or takes them back with all else; with a store by themselves.

    Durable with the transaction, or when this returns. Raises Outcome `unavailable` from a store.
    """
    if isinstance(where, Store):
        with where.database.connection() as connection:
            append(connection, events)
    else:
        append(where, events)


def of_account(event: Event, account: Account, *, address: str | None = None, session: str | None = None) -> Event:
    """The event as done by the owner of an account."""
    return replace(
        event,
        actor=account.login,
        account=account.id,
        fhir_user=account.fhir_user,
        roles=account.roles,
        address=address or None,
        session=session,
    )


__all__ = ["Event", "of_account", "record"]
