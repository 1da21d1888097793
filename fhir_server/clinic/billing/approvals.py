"""What a second person decides about: discounts and write-offs over a limit, and refunds.

Whoever asks is not who decides. A request is settled in the transaction that does what was asked for.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from fhir_server.clinic.acting import Act
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection, scalar

Kind = Literal["discount", "write-off", "refund"]
MOST: Final = 500
"""Requests that are listed at a time."""
_COLUMNS: Final = "id, kind, invoice, amount, currency, reason, state, asked_by"
_ADD: Final = """
INSERT INTO billing_request (id, kind, invoice, amount, currency, reason, state, asked, asked_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_WAITING: Final = (
    f"SELECT {_COLUMNS} FROM billing_request WHERE invoice = %s AND state = 'waiting' AND (%s::text IS NULL OR id = %s) ORDER BY asked, id FOR UPDATE"  # noqa: S608 - our own columns
)
_ALL: Final = f"SELECT {_COLUMNS} FROM billing_request WHERE state = 'waiting' ORDER BY asked, id LIMIT %s"  # noqa: S608 - our own columns
_SETTLE: Final = "UPDATE billing_request SET state = %s, decided = %s, decided_by = %s WHERE id = %s"
_GIVEN: Final = "SELECT coalesce(sum(amount), 0) FROM billing_request WHERE invoice = %s AND kind = %s AND state = 'approved'"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for an invoice, by id: an amount to be taken off, written off, or given back."""

    id: str
    kind: Kind
    invoice: str
    amount: Decimal
    currency: str
    reason: str
    state: Literal["waiting", "approved", "rejected"]
    asked_by: str


def ask(store: Store, connection: Connection, act: Act, kind: Kind, invoice: str, amount: Decimal, currency: str, limit: Decimal) -> Request:
    """Keeps a request, for the reason of the act: approved where with all of its kind before it stays within the limit, waiting else.

    In a transaction that has locked the invoice. Raises Outcome `business-rule` without a reason, or where one of the kind waits already.
    """
    if not act.reason.strip():
        raise Outcome("parameter", "The parameter 'reason' is needed", code="required")
    if any(each.kind == kind for each in waiting(connection, invoice)):
        raise Outcome("business-rule", f"A {kind} of this invoice waits for approval already")
    before: Decimal = scalar(connection, _GIVEN, invoice, kind)
    state: Literal["approved", "waiting"] = "approved" if before + amount <= limit else "waiting"
    request = Request(uuid.uuid4().hex, kind, invoice, amount, currency, act.reason, state, who(act))
    connection.execute(_ADD, (request.id, kind, invoice, amount, currency, request.reason, state, store.clock(), request.asked_by))
    return request


def waiting(connection: Connection, invoice: str, identity: str | None = None) -> list[Request]:
    """The requests of an invoice that wait, or the one of these with an id; locked."""
    return [Request(*row) for row in connection.execute(_WAITING, (invoice, identity, identity)).fetchall()]


def listed(connection: Connection) -> list[Request]:
    """All requests that wait, the oldest first, up to MOST."""
    return [Request(*row) for row in connection.execute(_ALL, (MOST,)).fetchall()]


def settled(connection: Connection, invoice: str) -> None:
    """Raises Outcome `business-rule` where a discount still waits for approval."""
    if any(each.kind == "discount" for each in waiting(connection, invoice)):
        raise Outcome("business-rule", "A discount waits for the approval of a second person: $approve or $reject it first")


def decide(store: Store, connection: Connection, act: Act, invoice: str, identity: str | None, *, approved: bool) -> Request:
    """Settles a request of an invoice, by id, or the first that waits; what it asked for is the caller's to do.

    Raises Outcome `not-found` where there is none, `forbidden` for whoever has asked.
    """
    found = next(iter(waiting(connection, invoice, identity)), None)
    if found is None:
        raise Outcome("not-found", "Nothing of this invoice waits for approval")
    if found.asked_by == who(act):
        raise Outcome("forbidden", "Whoever asks does not decide: a second person has to")
    connection.execute(_SETTLE, ("approved" if approved else "rejected", store.clock(), who(act), found.id))
    return found


def who(act: Act) -> str:
    """The person of an act, by whatever app they work."""
    return f"account {act.grant.account}" if act.grant.account is not None else f"token {act.grant.actor}"
