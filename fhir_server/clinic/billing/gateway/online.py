"""Payments online, from what somebody wants to pay to what the gateway says of it.

A payment is written down before the gateway is called, which happens outside of any transaction, and what it answers after. Who dies in between, or
waits in vain, leaves a payment of which nothing is known: that is found out by asking, never guessed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from fhir_server.clinic.acting import Act, carry_out, resource_of
from fhir_server.clinic.billing import ledger
from fhir_server.clinic.billing.money import ZERO, digits, rounded
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Op, Resource
from fhir_server.store.rules.billing.bills import NUMBER

from . import events, news, rows
from .chosen import gateway_of
from .gateway import Gateway, Order, Payment, RefusedError, UnreachableError
from .rows import OPEN, Intent

PATH: Final = "/pay/"
"""The path of our page, before the token."""
MOST: Final = 20
"""Payments of one invoice that may be begun within an hour."""
LONGEST: Final = timedelta(hours=24)
"""How long a payment may wait for somebody to pay it: as long as a page of Stripe's is open."""
AT_IT: Final = timedelta(seconds=60)
"""Who is at a call is done within this time, or dead."""
_STALE: Final = timedelta(minutes=5)
_GIVEN_UP: Final = timedelta(hours=1)
_ROUNDS: Final = 12
_PAUSE: Final = 0.25  # Seconds. With ROUNDS it is the time that a call takes which goes well.
_AT_A_TIME: Final = 50
_AGAIN: Final = {"Retry-After": "3"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What our page shows: a payment, and the number of its invoice."""

    intent: Intent
    number: str


class Online:
    """Payments by the gateway that is set up. Safe to share between threads; keeps nothing."""

    def __init__(self, store: Store, settings: Settings) -> None:
        """Cheap."""
        self._store = store
        self._public = settings.public_url
        self._gateway = gateway_of(settings)

    @property
    def gateway(self) -> Gateway:
        """The gateway. Raises Outcome `not-implemented` where none is set up."""
        if self._gateway is None:
            raise Outcome("not-implemented", "This clinic takes no payments online: pay in cash, by card or by transfer")
        return self._gateway

    @property
    def is_set_up(self) -> bool:
        """Whether there is a gateway."""
        return self._gateway is not None

    def begin(self, act: Act, identity: str, amount: Decimal | None, currency: str | None, base: str) -> Intent:
        """A payment of an invoice, by id, that waits to be paid at its `place`: of all that is due, or of an amount; one at a time.

        `base` is the server's address where no setting names it. Raises Outcome as `payments.pay`, `unavailable` where the gateway does not answer,
        `conflict` where another payment is on its way, `throttled` beyond MOST, `not-implemented` without a gateway.
        """
        act.require("Invoice", "u")
        if not act.is_desk and act.patient is None:
            raise Outcome("forbidden", "Payments online are begun by the desk, or by the patient")
        gateway = self.gateway
        root = self._public or next((each.removesuffix("/fhir") for each in self._store.bases), base.removesuffix("/fhir"))
        for _ in range(_ROUNDS):
            mine, is_new, others = self._proposed(gateway, act, identity, (amount, currency), root)
            for other in others:
                self._end(gateway, other)
            if others:
                continue
            if is_new or not (mine.reference or mine.session):
                if is_new or self._take(mine):
                    return self._reached(gateway, mine, is_new=is_new)
                # Somebody is just beginning the same.
                time.sleep(_PAUSE)
                continue
            try:
                found = self.refreshed(mine)
            except UnreachableError:
                found = mine
            if found.state in OPEN and found.state != "failed":
                return found
        raise Outcome("conflict", "Another payment of this invoice is on its way; try again", headers=_AGAIN)

    def refreshed(self, known: Intent) -> Intent:
        """A payment that has a number, after the gateway was asked. Raises UnreachableError, RefusedError."""
        return self.settled(known, self.gateway.ask(known.reference, known.session))

    def settled(self, known: Intent, payment: Payment) -> Intent:
        """A payment after an answer of the gateway's. What does not fit is parked."""

        def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
            return news.apply(self._store, connection, db, (known.id, known.invoice), payment, asked=True)

        try:
            carry_out(self._store, news.ACT, prepare)
        except news.ParkedError as parked:
            events.park_answer(self._store, known, str(parked))
        return self._read(known.id)

    def shown(self, token: str) -> Shown:
        """What the page of a token shows, after asking the gateway. Raises Outcome `not-found`."""
        known = self._of_token(token)
        if known.state in OPEN and (known.reference or known.session) and self.is_set_up:
            with suppress(UnreachableError, RefusedError):
                known = self.refreshed(known)
        with self._store.latest(news.ACT.grant) as db:
            invoice = resource_of(db.read("Invoice", known.invoice))
        if invoice is None:
            raise Outcome("not-found", "The invoice of this payment is not there any more")
        return Shown(known, _number(invoice))

    def confirm(self, token: str, means: str) -> Intent:
        """Pays by what the payer has entered on our page. Raises Outcome `not-found`, `business-rule` where it is refused, `unavailable`."""
        known = self._of_token(token)
        if known.reference is None or known.state not in OPEN:
            return known
        try:
            return self.settled(known, self.gateway.confirm(known.reference, means))
        except RefusedError:
            self.refreshed(known)
            raise Outcome("business-rule", "The payment was refused. Nothing was taken; try again, or with another card") from None
        except UnreachableError:
            raise _no_answer() from None

    def settle(self) -> int:
        """Asks for what is not known or has not ended, and ends what is not wanted any more; how many were asked for.

        Stops where the gateway does not answer.
        """
        if self._gateway is None:
            return 0
        now, count = self._store.clock(), 0
        with self._store.database.connection() as connection:
            without = rows.without_answer(connection, now - AT_IT, _AT_A_TIME)
            waiting = rows.waiting(connection, now - _STALE, _AT_A_TIME)
        for look, identities in ((self._find, without), (self._look_after, waiting)):
            for identity in identities:
                try:
                    look(self._gateway, self._read(identity))
                except UnreachableError:
                    return count
                except Outcome as outcome:
                    # Somebody is at it: it is looked at again in a minute.
                    if outcome.category != "conflict":
                        raise
                count += 1
        return count

    def _proposed(
        self, gateway: Gateway, act: Act, identity: str, asked: tuple[Decimal | None, str | None], root: str
    ) -> tuple[Intent, bool, list[Intent]]:
        """The open payment of the same amount, or a new one, and whether it is new; or those of other amounts, that have to end first."""
        found: list[tuple[Intent, bool, list[Intent]]] = []

        def prepare(connection: Connection, db: Snapshot) -> Sequence[Op]:
            invoice = ledger.locked(self._store, connection, db, act, identity)
            ledger.opened(invoice)
            amount, currency = _amount(ledger.balance(connection, invoice), *asked)
            gateway.require(amount, currency)
            found[:] = [self._chosen(connection, act, invoice, (amount, currency), root)]
            return ()

        carry_out(self._store, act, prepare)
        return found[0]

    def _chosen(
        self, connection: Connection, act: Act, invoice: Resource, price: tuple[Decimal, str], root: str
    ) -> tuple[Intent, bool, list[Intent]]:
        now, identity = self._store.clock(), invoice["id"]
        there = [each for each in rows.of_invoice(connection, identity, OPEN) if each.state != "failed" or each.reference or each.session]
        fitting = (each for each in there if (each.amount, each.currency) == price and each.state != "failed")
        same = next((each for each in fitting if now - each.asked < LONGEST), None)
        if there:
            return same or there[0], False, [each for each in there if each is not same]
        if rows.asked_since(connection, identity, now - timedelta(hours=1)) >= MOST:
            raise Outcome("throttled", "Too many payments of this invoice were begun; try again in an hour", headers={"Retry-After": "3600"})
        token = secrets.token_urlsafe(24)
        title = f"Invoice {_number(invoice)}".strip()
        made = rows.new(identity, self.gateway.name, price, now, token=token, back=f"{root}{PATH}{token}", title=title)
        rows.add(connection, made, act.grant.actor)
        return made, True, []

    def _reached(self, gateway: Gateway, known: Intent, *, is_new: bool) -> Intent:
        """The payment, begun at the gateway; one that somebody may have begun before is looked for first."""
        order = _order(known)
        try:
            payment = (None if is_new else gateway.find(order)) or gateway.begin(order)
        except UnreachableError:
            self._lost(known, "unknown")
            raise _no_answer() from None
        except RefusedError as refused:
            self._lost(known, "failed", str(refused))
            if str(refused) == "key_not_accepted":
                raise Outcome("unavailable", "The payment gateway does not accept the clinic's key; see `fhir-server check`") from None
            raise Outcome("business-rule", f"The payment gateway does not take this payment ({refused})") from None
        except Outcome as outcome:
            self._lost(known, "failed", outcome.category)
            raise
        return self.settled(known, payment)

    def _find(self, gateway: Gateway, known: Intent) -> None:
        """Finds out what came of a call that nobody knows the answer of."""
        if known.reference or known.session or not self._take(known):
            return
        try:
            payment = gateway.find(_order(known))
        except UnreachableError:
            self._lost(known, "unknown")
            raise
        except RefusedError as refused:
            self._lost(known, "unknown", str(refused))
            return
        if payment is not None:
            self.settled(known, payment)
            return
        # A call that is not there after an hour has never arrived. Until then somebody may go on with it.
        self._lost(known, "cancelled" if self._store.clock() - known.asked > _GIVEN_UP else "unknown")

    def _look_after(self, gateway: Gateway, known: Intent) -> None:
        try:
            known = self.refreshed(known)
        except RefusedError:
            with self._store.database.connection() as connection:
                rows.told(connection, known.id, known.state, self._store.clock(), fault="not_found")
            return
        if known.state in {"requires_action", "failed"} and (self._store.clock() - known.asked > LONGEST or not self._is_due(known)):
            self._end(gateway, known)

    def _is_due(self, known: Intent) -> bool:
        """Whether as much is still due of its invoice; it may have been paid at the desk."""
        with self._store.latest(news.ACT.grant) as db:
            invoice = resource_of(db.read("Invoice", known.invoice))
        if invoice is None:
            return False
        with self._store.database.connection() as connection:
            return ledger.balance(connection, invoice).due >= known.amount

    def _end(self, gateway: Gateway, known: Intent) -> None:
        """Ends an open payment, so that nobody pays it any more. Raises Outcome `conflict` where somebody is just paying it."""
        try:
            if not (known.reference or known.session):
                self._find(gateway, known)
                known = self._read(known.id)
                if not (known.reference or known.session):
                    if known.state == "created":
                        raise Outcome("conflict", "Another payment of this invoice is just being begun; try again", headers=_AGAIN)
                    # It may yet arrive; but nobody was given the address where it could be paid.
                    with self._store.database.connection() as connection:
                        rows.told(connection, known.id, "cancelled", self._store.clock())
                    return
            after = self.settled(known, gateway.cancel(known.reference, known.session))
        except UnreachableError:
            raise _no_answer() from None
        except RefusedError:
            raise Outcome("conflict", "Another payment of this invoice cannot be ended at the gateway; try again later", headers=_AGAIN) from None
        if after.state in OPEN:
            raise Outcome("conflict", "Another payment of this invoice is on its way; wait for its end", headers=_AGAIN)

    def _take(self, known: Intent) -> bool:
        now = self._store.clock()
        with self._store.database.connection() as connection:
            return rows.take(connection, known.id, now, now - AT_IT)

    def _lost(self, known: Intent, state: Any, fault: str | None = None) -> None:
        with self._store.database.connection() as connection:
            rows.lost(connection, known.id, state, fault)

    def _of_token(self, token: str) -> Intent:
        with self._store.database.connection() as connection:
            identity = rows.by_token(connection, token)
        if identity is None:
            raise Outcome("not-found", "This link is not complete, or not one of ours. Copy the whole link")
        return self._read(identity)

    def _read(self, identity: str) -> Intent:
        with self._store.database.connection() as connection:
            found = rows.intent(connection, identity)
        if found is None:
            raise Outcome("not-found", "There is no such payment")
        return found


def _amount(found: ledger.Balance, amount: Decimal | None, currency: str | None) -> tuple[Decimal, str]:
    if found.due <= ZERO:
        raise Outcome("business-rule", "Nothing is due of this invoice", expression="Invoice.status")
    if currency not in (None, found.currency):
        raise Outcome("business-rule", f"The invoice is in {found.currency}, not in {currency}")
    wanted = found.due if amount is None else amount
    if wanted <= ZERO or wanted != rounded(wanted, found.currency):
        raise Outcome("business-rule", f"An amount in {found.currency} is more than 0 and has {digits(found.currency)} digits", code="value")
    if wanted > found.due:
        raise Outcome("business-rule", f"{found.due} {found.currency} are due, and no more is taken", expression="Invoice")
    return rounded(wanted, found.currency), found.currency


def _number(invoice: Resource) -> str:
    return next((str(each["value"]) for each in invoice.get("identifier", ()) if each.get("system") == NUMBER), "")


def _order(known: Intent) -> Order:
    return Order(known.id, known.key, known.amount, known.currency, known.title, known.back, known.asked)


def _no_answer() -> Outcome:
    said = "The payment gateway does not answer; whether it has begun the payment is found out. Try again"
    return Outcome("unavailable", said, headers={"Retry-After": "5"})
