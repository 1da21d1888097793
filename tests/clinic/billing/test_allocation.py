"""How a payment is divided over invoices, and what is rounded where there are no coins: to the last cent, for any amounts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.clinic.billing.ledger import Balance
from fhir_server.clinic.billing.payments.allocation import Offer, Share, allocate
from fhir_server.outcome import Outcome

D = Decimal
ZERO = D("0.00")


def due(*amounts: str | Decimal) -> list[Balance]:
    return [Balance("CHF", D(each), ZERO, ZERO, ZERO, ZERO) for each in amounts]


def shares(offer: Offer, balances: list[Balance], *wanted: str | None) -> list[str]:
    found = allocate(offer, balances, [D(each) if each is not None else None for each in wanted] or [None] * len(balances))
    return [f"{share.amount:.2f}{share.rounding:+.2f}" if share.rounding else f"{share.amount:.2f}" for share in found]


def refusal(offer: Offer, balances: list[Balance], *wanted: str | None) -> str:
    with pytest.raises(Outcome) as caught:
        shares(offer, balances, *wanted)
    assert caught.value.status == 422
    return str(caught.value)


def test_the_oldest_is_paid_first_and_what_is_named_before_all() -> None:
    three = due("10.00", "20.00", "30.00")
    assert shares(Offer(), three) == ["10.00", "20.00", "30.00"]
    assert shares(Offer(D(25)), three) == ["10.00", "15.00", "0.00"]
    assert shares(Offer(D(25)), three, None, None, "20") == ["5.00", "0.00", "20.00"]
    assert shares(Offer(), three, None, "5", None) == ["10.00", "5.00", "30.00"]
    assert shares(Offer(D(70), beyond=True), three) == ["10.00", "20.00", "40.00"]


def test_what_cannot_be_divided_is_refused() -> None:
    two = due("10", "20")
    assert "30.00 CHF are due" in refusal(Offer(D(31)), two)
    assert "more than the amount" in refusal(Offer(D(5)), two, "6", None)
    assert "10.00 CHF are due" in refusal(Offer(), two, "11", None)
    assert "digits" in refusal(Offer(), two, "0.001", None)
    assert shares(Offer(), due("10", "0")) == ["10.00", "0.00"]
    assert "Nothing is due" in refusal(Offer(), due("0", "-1"))
    assert "Less was tendered" in refusal(Offer(D(20), tendered=D(15)), two)


@pytest.mark.parametrize(
    ("amount", "tendered", "expected"),
    [
        (None, None, "12.32-0.02"),
        ("12.32", None, "12.32-0.02"),
        ("12.30", None, "12.32-0.02"),
        (None, "20", "12.32-0.02"),
        (None, "12.30", "12.32-0.02"),
        (None, "12.00", "12.00"),
        ("5.00", None, "5.00"),
        ("5.03", None, "5.03"),
    ],
)
def test_cash_is_rounded_where_it_settles_what_is_due(amount: str | None, tendered: str | None, expected: str) -> None:
    offer = Offer(D(amount) if amount else None, D(tendered) if tendered else None, D("0.05"))
    assert shares(offer, due("12.32")) == [expected]


def test_cash_is_rounded_once_for_all_invoices_and_never_to_nothing() -> None:
    assert shares(Offer(step=D("0.05")), due("10.01", "10.02")) == ["10.01", "10.02+0.02"]
    assert shares(Offer(step=D("0.05")), due("10.01", "10.02"), "5.01", None) == ["5.01", "10.02"]
    assert "no coins" in refusal(Offer(step=D("0.05")), due("0.02"))
    assert "12.35 CHF are due" in refusal(Offer(D("12.40"), step=D("0.05")), due("12.33"))


amounts = st.lists(st.decimals("0.01", 500, places=2), min_size=1, max_size=6)


@settings(max_examples=200)
@given(amounts, st.none() | st.decimals("0.01", 3000, places=2), st.sampled_from([None, D("0.05"), D("0.5"), D(1), D(5)]))
def test_the_shares_are_the_amount_and_no_invoice_gets_more_than_is_due(parts: list[Decimal], amount: Decimal | None, step: Decimal | None) -> None:
    balances = due(*parts)
    try:
        found = allocate(Offer(amount, step=step), balances, [None] * len(parts))
    except Outcome:
        # More than is due, or less than there are coins for.
        assert amount is not None or step is not None
        return
    paid = sum((share.paid for share in found), ZERO)
    rounding = sum((share.rounding for share in found), ZERO)
    whole = sum(parts, ZERO)
    assert all(0 <= share.amount <= balance.due for share, balance in zip(found, balances, strict=True))
    assert abs(rounding) <= (step or ZERO) / 2
    assert rounding == 0 or sum((share.amount for share in found), ZERO) == whole
    if amount is not None:
        assert paid == amount or (amount == whole and step is not None)
    else:
        assert paid == whole + rounding
    assert step is None or amount is not None or paid % step == 0
    # A later invoice gets something only when those before are settled.
    assert not any(later.amount > 0 and share != Share(balance.due) for share, later, balance in zip(found, found[1:-1], balances, strict=False))
