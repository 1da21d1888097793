"""What a charge comes to: the components of a template, for a quantity. Pure, and exact.

https://hl7.org/fhir/R4/chargeitemdefinition.html, https://hl7.org/fhir/R4/valueset-invoice-priceComponentType.html

In this order, each on what the ones before have left: base, surcharge, discount, deduction, tax. Components of one kind do not build on each other.
A factor is a fraction of that; an amount is that of one piece. Each line is rounded by itself, half up, to the digits of the currency, and the totals
are sums of lines. Discounts and deductions are positive and are subtracted; they take no more than there is. What is informational is never summed.

A tax that is inclusive is within the prices: it is taken out of them first, so that the lines show what is left, and sum like all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal, cast, get_args

from fhir_server.outcome import Outcome

from .money import EXACT, ZERO, amount_of, money, rounded, shared

Kind = Literal["base", "surcharge", "discount", "deduction", "tax", "informational"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
SIGN: Final[dict[Kind, int]] = {"base": 1, "surcharge": 1, "discount": -1, "deduction": -1, "tax": 1, "informational": 0}
"""How a line counts."""
MOST_QUANTITY: Final = 1_000_000
_MOST_FACTOR: Final = 1_000
_ONE: Final = Decimal(1)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Component:
    """A component of a template: a `factor` of what is there, or an `amount` for one piece; `code` is its CodeableConcept, `place` its FHIRPath."""

    kind: Kind
    factor: Decimal | None
    amount: Decimal | None
    code: Json | None = None
    inclusive: bool = False
    place: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A component as it came out, rounded."""

    kind: Kind
    amount: Decimal
    factor: Decimal | None = None
    code: Json | None = None
    inclusive: bool = False

    @property
    def counted(self) -> Decimal:
        """What it adds to the total."""
        return SIGN[self.kind] * self.amount


@dataclass(frozen=True, slots=True)
class Price:
    """The lines of a charge in the order of their kinds."""

    currency: str
    lines: tuple[Line, ...]

    @property
    def net(self) -> Decimal:
        """All but taxes."""
        return rounded(sum((line.counted for line in self.lines if line.kind != "tax"), ZERO), self.currency)

    @property
    def tax(self) -> Decimal:
        """All taxes."""
        return rounded(sum((line.counted for line in self.lines if line.kind == "tax"), ZERO), self.currency)

    @property
    def gross(self) -> Decimal:
        """All."""
        return self.net + self.tax


def component(value: Json, place: str, currency: str | None) -> tuple[Component, str | None]:
    """A priceComponent of a template, and its currency, `currency` where it names none.

    Raises Outcome `invalid`, with the place, for one without factor and amount, with a negative one, or one that no clinic has.
    """
    kind = value.get("type")
    if kind not in KINDS:
        raise Outcome("invalid", f"A price component is one of {', '.join(KINDS)}", expression=f"{place}.type", code="value")
    factor = value.get("factor")
    if factor is not None:
        factor = Decimal(factor)
        if not 0 <= factor <= _MOST_FACTOR:
            raise Outcome("invalid", f"A factor is a fraction from 0 to {_MOST_FACTOR:,}: 0.20 is 20 %", expression=f"{place}.factor", code="value")
    amount = None
    if "amount" in value:
        amount, currency = amount_of(value["amount"], currency, f"{place}.amount")
        if amount < 0:
            said = "Amounts are positive; discounts and deductions are subtracted"
            raise Outcome("invalid", said, expression=f"{place}.amount", code="value")
    if (amount if kind == "base" else amount if factor is None else factor) is None:
        needed = "an amount" if kind == "base" else "a factor or an amount"
        raise Outcome("invalid", f"A price component of type {kind} needs {needed}", expression=place, code="required")
    return Component(cast("Kind", kind), factor, amount, value.get("code"), place=place), currency


def price(components: Iterable[Component], quantity: Decimal, currency: str) -> Price:
    """What so many pieces come to. Raises Outcome `invalid` for a quantity out of bounds, `business-rule` for an amount that is."""
    if not 0 < quantity <= MOST_QUANTITY:
        raise Outcome("invalid", f"A quantity is more than 0 and at most {MOST_QUANTITY:,}", code="value")
    listed = list(components)
    return _Pricing(listed, quantity, currency).price()


class _Pricing:
    def __init__(self, components: Sequence[Component], quantity: Decimal, currency: str) -> None:
        self._of = {kind: [each for each in components if each.kind == kind] for kind in KINDS}
        self._quantity = quantity
        self._currency = currency

    def price(self) -> Price:
        lines = [self._line(each, ZERO, _ONE) for each in self._of["base"]]
        for kind in KINDS[1:4]:
            left = sum((line.counted for line in lines), ZERO)
            made = [self._line(each, left) for each in self._of[kind]]
            lines += made if SIGN[kind] > 0 else _at_most(made, left, self._currency)
        included = [each for each in self._of["tax"] if each.inclusive]
        lines, taxes = self._taken_out(lines, included) if included else (lines, [])
        net = sum((line.counted for line in lines), ZERO)
        taxes += [self._line(each, net) for each in self._of["tax"] if not each.inclusive]
        told = [self._line(each, net) for each in self._of["informational"]]
        return Price(self._currency, (*lines, *taxes, *told))

    def _line(self, each: Component, base: Decimal, scale: Decimal | None = None) -> Line:
        """The line of a component on what is there; with a `scale`, as of the base, the factor is of its own amount."""
        if scale is not None or each.factor is None:
            assert each.amount is not None
            exact = EXACT.multiply(each.amount, self._quantity)
            exact = EXACT.multiply(exact, _ONE if each.factor is None else each.factor)
        else:
            exact = EXACT.multiply(base, each.factor)
        return self._rounded(each, exact)

    def _rounded(self, each: Component, exact: Decimal) -> Line:
        return Line(each.kind, rounded(exact, self._currency), each.factor, each.code, each.inclusive)

    def _taken_out(self, lines: list[Line], taxes: list[Component]) -> tuple[list[Line], list[Line]]:
        """The lines without the taxes that are within them, and these."""
        there = sum((line.counted for line in lines), ZERO)
        fixed = _at_most([self._line(each, ZERO) for each in taxes if each.factor is None], there, self._currency)
        rest = there - sum((line.amount for line in fixed), ZERO)
        rates = [each for each in taxes if each.factor is not None]
        whole = 1 + sum((each.factor for each in rates if each.factor is not None), ZERO)
        made = [self._rounded(each, EXACT.divide(EXACT.multiply(rest, each.factor or ZERO), whole)) for each in rates]
        found = [*fixed, *_at_most(made, rest, self._currency)]
        net = there - sum((line.amount for line in found), ZERO)
        weights = [line.counted for line in lines]
        if not any(weights) or not there:
            return lines, found
        shares = shared(net, weights, self._currency)
        return [replace(line, amount=abs(share)) for line, share in zip(lines, shares, strict=True)], found


def _at_most(lines: list[Line], left: Decimal, currency: str) -> list[Line]:
    """The lines, the last of them cut where together they are more than there is."""
    kept = []
    for line in lines:
        amount = rounded(min(line.amount, left), currency)
        left -= amount
        kept.append(replace(line, amount=amount))
    return kept


def as_component(line: Line, currency: str) -> Json:
    """A line as a priceComponent of an Invoice."""
    made: Json = {"type": line.kind}
    if line.code is not None:
        made["code"] = line.code
    if line.factor is not None:
        made["factor"] = line.factor
    return made | {"amount": money(line.amount, currency)}


def by_rate(prices: Iterable[Price], currency: str) -> list[Json]:
    """The taxes of several charges together, one for each code and rate, as an Invoice's totalPriceComponents."""
    found: dict[tuple[str, Decimal | None], Line] = {}
    for line in (line for each in prices for line in each.lines if line.kind == "tax"):
        key = (repr(line.code), line.factor)
        there = found.get(key)
        found[key] = line if there is None else replace(there, amount=there.amount + line.amount)
    return [as_component(line, currency) for line in found.values()]
