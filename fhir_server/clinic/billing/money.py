"""Amounts of money: exact, and with as many digits as the currency has. https://hl7.org/fhir/R4/datatypes.html#Money"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

from fhir_server.outcome import Outcome

EXACT: Final = Context(prec=80)
"""Room for every product of an amount, a quantity and a factor that are let in."""
MOST: Final = Decimal(10) ** 12
"""What an amount stays below."""
ZERO: Final = Decimal(0)

# Digits of the minor unit where these are not two. https://www.iso.org/iso-4217-currency-codes.html
_OTHER_DIGITS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_DIGITS: Final = {code: digits for digits, codes in _OTHER_DIGITS.items() for code in codes.split()}
_CODE: Final = 3


def digits(currency: str) -> int:
    """How many digits follow the point of an amount in a currency, by ISO 4217. Raises Outcome `invalid` for what cannot be a currency."""
    if not (len(currency) == _CODE and currency.isascii() and currency.isupper() and currency.isalpha()):
        raise Outcome("invalid", f"'{currency[:10]}' is no currency of ISO 4217, such as EUR", code="value")
    return _DIGITS.get(currency, 2)


def unit(currency: str) -> Decimal:
    """The smallest amount of a currency."""
    return Decimal(1).scaleb(-digits(currency))


def rounded(amount: Decimal, currency: str) -> Decimal:
    """The amount in the digits of the currency, halves away from zero."""
    return amount.quantize(unit(currency), ROUND_HALF_UP, EXACT)


def to_step(amount: Decimal, step: Decimal) -> Decimal:
    """The amount as a multiple of a step, such as the smallest coin; halves away from zero."""
    return EXACT.multiply(EXACT.divide(amount, step).quantize(Decimal(1), ROUND_HALF_UP, EXACT), step)


def money(amount: Decimal, currency: str) -> dict[str, Any]:
    """An amount as FHIR has it, with all digits of its currency."""
    return {"value": rounded(amount, currency), "currency": currency}


def amount_of(value: Any, currency: str | None, place: str) -> tuple[Decimal, str | None]:
    """The amount and the currency of a Money; where that names none, `currency`.

    Raises Outcome `invalid` for an amount that is missing, or not below MOST.
    """
    number = value.get("value") if isinstance(value, dict) else None
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        raise Outcome("invalid", "An amount needs a value", expression=place, code="required")
    amount = Decimal(number)
    if abs(amount) >= MOST:
        raise Outcome("invalid", f"An amount stays below {MOST:,}", expression=place, code="value")
    return amount, value.get("currency", currency)


def shared(total: Decimal, weights: Sequence[Decimal], currency: str) -> list[Decimal]:
    """The total divided by weights, in the currency's digits, so that the shares sum to it: what is left over goes to the largest remainders.

    Weights are not all zero, and the total has the currency's digits.
    """
    whole, smallest = sum(weights, ZERO), unit(currency)
    exact = [EXACT.divide(EXACT.multiply(total, weight), whole) for weight in weights]
    shares = [each.quantize(smallest, ROUND_FLOOR, EXACT) for each in exact]
    left = int(EXACT.divide(EXACT.subtract(total, sum(shares, ZERO)), smallest))
    by_remainder = sorted((n for n, weight in enumerate(weights) if weight), key=lambda n: (shares[n] - exact[n], n))
    for n in (by_remainder * (left // len(by_remainder) + 1))[:left]:
        shares[n] += smallest
    return shares
