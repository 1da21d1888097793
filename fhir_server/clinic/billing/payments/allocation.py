"""How much of a payment goes to which invoice, and what is rounded where there are no coins for it. Pure.

Cash rounding never changes a price: it is booked beside the payment, where that settles all that it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from fhir_server.clinic.billing.ledger import Balance
from fhir_server.clinic.billing.money import ZERO, digits, rounded, to_step
from fhir_server.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody hands over: an amount, or without one all that is due, or as much of it as was `tendered`.

    `step` is the smallest amount that can be handed over, None where any can. Only with `beyond` it may be more than is due.
    """

    amount: Decimal | None = None
    tendered: Decimal | None = None
    step: Decimal | None = None
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """What an invoice gets: `amount` counts against what is due of it, and `rounding` was handed over besides, negative where it was less."""

    amount: Decimal
    rounding: Decimal = ZERO

    @property
    def paid(self) -> Decimal:
        """What was handed over for it."""
        return self.amount + self.rounding


def allocate(offer: Offer, balances: Sequence[Balance], wanted: Sequence[Decimal | None]) -> list[Share]:
    """The share of each invoice, in the order of the balances, which are in one currency: first what is `wanted`, then by the order.

    An invoice for which nothing is due, or left, gets a share of zero; what is beyond all that is due goes to the last.
    Raises Outcome `business-rule` where nothing is due, more is offered than is due, or less was tendered than is paid.
    """
    currency = balances[0].currency
    zero = rounded(ZERO, currency)
    for each, part in zip(balances, wanted, strict=True):
        if part is not None:
            _check(each, part)
    asked = [max(each.due, zero) if part is None else part for each, part in zip(balances, wanted, strict=True)]
    whole = sum(asked, zero)
    if not whole:
        raise Outcome("business-rule", "Nothing is due of this invoice", expression="Invoice.status")
    settles = all(part >= each.due for each, part in zip(balances, asked, strict=True))
    payable = to_step(whole, offer.step) if settles and offer.step is not None else whole
    if payable <= 0:
        raise Outcome("business-rule", f"There are no coins for {whole} {currency}; take it otherwise, or write it off", expression="Invoice")
    amount = _amount(offer, whole, payable, currency)
    rounding = payable - whole if amount == payable else ZERO
    shares = _shared(amount - rounding, asked, wanted)
    shares[-1] = Share(shares[-1].amount, rounding)
    return shares


def fits(amount: Decimal, currency: str) -> None:
    """Raises Outcome `business-rule` for what is no amount that can be paid in a currency."""
    if amount <= ZERO or amount != rounded(amount, currency):
        raise Outcome("business-rule", f"An amount in {currency} is more than 0 and has {digits(currency)} digits", code="value")


def _check(balance: Balance, wanted: Decimal) -> None:
    fits(wanted, balance.currency)
    if wanted > balance.due:
        raise _too_much(max(balance.due, rounded(ZERO, balance.currency)), balance.currency)


def _amount(offer: Offer, whole: Decimal, payable: Decimal, currency: str) -> Decimal:
    if offer.tendered is not None:
        fits(offer.tendered, currency)
    if offer.amount is None:
        amount = payable if offer.tendered is None else min(payable, offer.tendered)
    else:
        # Whoever names what is due to the cent means to settle it.
        amount = payable if offer.amount == whole else offer.amount
    fits(amount, currency)
    if amount > payable and not offer.beyond:
        raise _too_much(payable, currency)
    if offer.tendered is not None and offer.tendered < amount:
        raise Outcome("business-rule", f"Less was tendered than the {amount} {currency} that are paid")
    return amount


def _shared(amount: Decimal, asked: Sequence[Decimal], wanted: Sequence[Decimal | None]) -> list[Share]:
    left = amount - sum((part for part in wanted if part is not None), ZERO)
    if left < 0:
        raise Outcome("business-rule", "The parts come to more than the amount")
    found = []
    for most, part in zip(asked, wanted, strict=True):
        taken = part if part is not None else min(most, left)
        left -= ZERO if part is not None else taken
        found.append(taken)
    found[-1] += left
    return [Share(each) for each in found]


def _too_much(due: Decimal, currency: str) -> Outcome:
    return Outcome("business-rule", f"{due} {currency} are due, and no more is taken", expression="Invoice")
