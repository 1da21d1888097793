"""Amounts as the gateway counts them: exact there and back, or not taken at all."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.clinic.billing.gateway.stripe import _major, minor
from fhir_server.clinic.billing.money import digits, unit
from fhir_server.outcome import Outcome

CURRENCIES = ("EUR", "USD", "CHF", "JPY", "KRW", "ISK", "UGX", "MGA", "KWD", "BHD", "TND", "IQD", "CLF", "UYW", "HUF", "XOF")


@given(currency=st.sampled_from(CURRENCIES), count=st.integers(1, 10**12))
def test_what_is_taken_comes_back_as_it_was(currency: str, count: int) -> None:
    amount = count * unit(currency)
    try:
        counted = minor(amount, currency)
    except Outcome:
        assert currency in {"ISK", "UGX", "MGA", "KWD", "BHD", "TND", "IQD", "CLF", "UYW"}
        return
    back = _major(counted, currency)
    assert (back, -int(back.as_tuple().exponent)) == (amount, digits(currency))


@pytest.mark.parametrize(("amount", "currency", "counted"), [("12.34", "EUR", 1234), ("500", "JPY", 500), ("1.230", "KWD", 1230), ("5", "ISK", 500)])
def test_units_are_those_of_the_gateway(amount: str, currency: str, counted: int) -> None:
    assert minor(Decimal(amount), currency) == counted
