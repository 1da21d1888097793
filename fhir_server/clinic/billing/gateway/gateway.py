"""What a payment gateway is to the clinic: a few questions and orders. Each gateway is one module that answers them; `chosen` knows them by name.

Amounts are in the currency's own digits here; what the gateway counts in is its module's affair. No call is made in a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, Protocol

State = Literal["created", "requires_action", "processing", "succeeded", "failed", "cancelled", "unknown"]
"""Of a payment. `unknown`: a call was made, and nothing is known of what came of it; it is asked for, never guessed."""
RefundState = Literal["requested", "submitted", "succeeded", "failed", "unknown"]
TOLERANCE: Final = 300
"""Seconds that the time of an event's signature may be away from the clock."""


class UnreachableError(Exception):
    """The gateway has not answered, or not so that it tells: what was asked for may be done or not."""


class RefusedError(Exception):
    """The gateway has answered that it does not do this, and has not done it. The text is a code of the gateway's, without anything secret."""


@dataclass(frozen=True, slots=True)
class Order:
    """A payment to be begun. `id` is ours; with the same `key` the gateway does it once. Whoever has paid, or gives up, is led to `back`."""

    id: str
    key: str
    amount: Decimal
    currency: str
    title: str
    back: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as the gateway has it.

    Amount and currency are None where an event does not tell them. `order` is our id where the gateway tells it, `reference` its own number, by which
    its events speak of the payment, None as long as there is none; `session` that of its page, at `url`. `refunded` is all that was given back.
    """

    state: State
    amount: Decimal | None
    currency: str | None
    order: str | None = None
    reference: str | None = None
    session: str | None = None
    url: str | None = None
    refunded: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Refund:
    """Something that is given back, as the gateway has it."""

    state: RefundState
    reference: str


@dataclass(frozen=True, slots=True)
class Dispute:
    """A payer's bank wants the money back."""

    reference: str
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """What the gateway tells by itself. `payment` is None where the event is about nothing that matters here.

    `doubtful` where it does not tell enough, so that the gateway has to be asked.
    """

    id: str
    type: str
    payment: Payment | None = None
    dispute: Dispute | None = None
    doubtful: bool = False


class Gateway(Protocol):
    """A payment gateway. Each call takes half a minute at the most, and raises UnreachableError or RefusedError."""

    name: str

    def require(self, amount: Decimal, currency: str) -> None:
        """Raises Outcome `business-rule` for an amount that the gateway cannot count."""

    def begin(self, order: Order) -> Payment:
        """Begins a payment; with the key of one that was begun gives that one."""

    def find(self, order: Order) -> Payment | None:
        """The payment that was begun for an order, None where there is none."""

    def ask(self, reference: str | None, session: str | None) -> Payment:
        """A payment as it is now, by one of its numbers."""

    def cancel(self, reference: str | None, session: str | None) -> Payment:
        """Ends a payment that nobody has paid, and gives it as it is then: with another state where it could not be ended."""

    def confirm(self, reference: str, means: str) -> Payment:
        """Pays by what the payer has entered, as the script of our page has it from the gateway; where the gateway has no page of its own."""

    def refund(self, reference: str, identity: str, key: str, amount: Decimal, currency: str) -> Refund:
        """Gives back some of a payment; `identity` is ours. With the key of one that was given back gives that one."""

    def find_refund(self, reference: str, identity: str) -> Refund | None:
        """What was given back of a payment under our id, None where nothing was."""

    def listed(self, start: datetime, end: datetime) -> Iterator[Payment]:
        """All payments that were begun within a time."""

    def verify(self, raw: bytes, signature: str, now: float) -> None:
        """Raises Outcome `malformed` where the gateway has not signed a request's body, or not within TOLERANCE of now.

        `now` is in seconds since 1970. `not-found` where no secret is set.
        """

    def read(self, raw: bytes) -> Event:
        """The event of a request's body. Raises Outcome `malformed` for what is none."""

    def script(self) -> tuple[str, str]:
        """The script for our page of a gateway that has no page of its own, and the key by which that speaks to the gateway."""

    def check(self) -> None:
        """Asks something that needs a good key."""
