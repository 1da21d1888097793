"""Prices: lines that sum to totals, for whatever a template says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.clinic.billing.applicability import Applicability
from fhir_server.clinic.billing.money import digits, rounded, shared, unit
from fhir_server.clinic.billing.pricing import KINDS, Component, Price, as_component, by_rate, price
from fhir_server.clinic.billing.templates import INCLUSIVE, priced
from fhir_server.outcome import Outcome

Json = dict[str, Any]
D = Decimal
NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
currencies = st.sampled_from(["EUR", "JPY", "KWD"])
factors = st.decimals(0, 2, places=3)
amounts = st.decimals(0, 9999, places=4)


@st.composite
def components(draw: st.DrawFn) -> Component:
    kind = draw(st.sampled_from(KINDS))
    relative = kind != "base" and draw(st.booleans())
    factor, amount = (draw(factors), None) if relative else (None, draw(amounts))
    return Component(kind, factor, amount, inclusive=kind == "tax" and draw(st.booleans()))


def part(kind: str, amount: str | None = None, factor: str | None = None, currency: str | None = "EUR", *, inclusive: bool = False) -> Json:
    made: Json = {"type": kind}
    if amount is not None:
        made["amount"] = {"value": D(amount), **({"currency": currency} if currency else {})}
    if factor is not None:
        made["factor"] = D(factor)
    return made | ({"extension": [{"url": INCLUSIVE, "valueBoolean": True}]} if inclusive else {})


def template(*parts: Json, conditions: list[str] | None = None) -> Json:
    group: Json = {"priceComponent": list(parts)}
    if conditions is not None:
        group["applicability"] = [{"language": "text/fhirpath", "expression": each} for each in conditions]
    return {"resourceType": "ChargeItemDefinition", "url": "urn:t", "version": "1", "status": "active", "propertyGroup": [group]}


def cost(made: Json, quantity: str = "1", **variables: Any) -> Price:
    found = priced(made, D(quantity), "EUR", Applicability({"resourceType": "ChargeItem"}, variables, NOW))
    assert found is not None
    return found


def shown(found: Price) -> tuple[str, str, str]:
    return str(found.net), str(found.tax), str(found.gross)


@given(st.lists(components(), max_size=12), st.decimals("0.01", 1000, places=2), currencies)
def test_lines_sum_to_totals_and_have_the_digits_of_their_currency(parts: list[Component], quantity: Decimal, currency: str) -> None:
    found = price(parts, quantity, currency)
    signs = {"base": 1, "surcharge": 1, "discount": -1, "deduction": -1}
    assert found.net == sum(signs[line.kind] * line.amount for line in found.lines if line.kind in signs)
    assert found.tax == sum(line.amount for line in found.lines if line.kind == "tax")
    assert found.gross == found.net + found.tax
    assert found.net >= 0
    assert len(found.lines) == len(parts)
    for line in found.lines:
        assert line.amount >= 0
        assert -line.amount.as_tuple().exponent == digits(currency)  # type: ignore[operator]  # of a number it is one
    assert sum(each["amount"]["value"] for each in by_rate([found], currency)) == found.tax


@given(st.lists(components().filter(lambda each: each.kind != "tax"), max_size=8), factors, currencies)
def test_a_tax_within_the_price_leaves_the_gross_as_it_is(parts: list[Component], rate: Decimal, currency: str) -> None:
    without = price(parts, D(1), currency)
    with_it = price([*parts, Component("tax", rate, None, inclusive=True)], D(1), currency)
    assert with_it.gross == without.gross
    assert abs(with_it.net - without.gross / (1 + rate)) <= unit(currency) / 2


@given(st.lists(st.decimals(0, 500, places=2), min_size=1, max_size=9).filter(any), st.decimals(0, 9999, places=2), currencies)
def test_shares_sum_to_the_whole_and_are_at_most_one_unit_off(weights: list[Decimal], total: Decimal, currency: str) -> None:
    whole = rounded(total, currency)
    shares = shared(whole, weights, currency)
    assert sum(shares) == whole
    for weight, share in zip(weights, shares, strict=True):
        assert abs(share - whole * weight / sum(weights)) < unit(currency)


def test_the_order_is_base_surcharge_discount_deduction_and_tax_on_what_is_left() -> None:
    parts = (
        part("tax", factor="0.20"),
        part("deduction", "5"),
        part("discount", factor="0.10"),
        part("surcharge", factor="0.50"),
        part("base", "100"),
        part("informational", "7"),
    )
    found = cost(template(*parts))
    # 100 + 50 - 15 - 5 = 130, and 26 on that.
    assert [(line.kind, str(line.amount)) for line in found.lines] == [
        ("base", "100.00"),
        ("surcharge", "50.00"),
        ("discount", "15.00"),
        ("deduction", "5.00"),
        ("tax", "26.00"),
        ("informational", "7.00"),
    ]
    assert shown(found) == ("130.00", "26.00", "156.00")


@pytest.mark.parametrize(
    ("amount", "quantity", "currency", "gross"),
    [
        ("0.125", "1", "EUR", "0.13"),
        ("0.335", "3", "EUR", "1.01"),
        ("100.5", "1", "JPY", "101"),
        ("1.0005", "1", "KWD", "1.001"),
        ("33.33", "0.5", "EUR", "16.67"),
    ],
)
def test_each_line_is_rounded_half_up(amount: str, quantity: str, currency: str, gross: str) -> None:
    assert str(cost(template(part("base", amount, currency=currency)), quantity).gross) == gross


def test_amounts_are_of_one_piece() -> None:
    assert shown(cost(template(part("base", "10"), part("discount", "1"), part("tax", factor="0.1")), "3")) == ("27.00", "2.70", "29.70")


def test_two_taxes_are_on_the_same_and_told_apart() -> None:
    found = cost(template(part("base", "100"), part("tax", factor="0.05"), part("tax", factor="0.09975")))
    assert [str(line.amount) for line in found.lines[1:]] == ["5.00", "9.98"]
    assert [str(each["factor"]) for each in by_rate([found, found], "EUR")] == ["0.05", "0.09975"]
    assert [str(each["amount"]["value"]) for each in by_rate([found, found], "EUR")] == ["10.00", "19.96"]


def test_an_inclusive_tax_is_taken_out_of_the_price() -> None:
    found = cost(template(part("base", "119"), part("tax", factor="0.19", inclusive=True)))
    assert shown(found) == ("100.00", "19.00", "119.00")
    assert [str(line.amount) for line in found.lines] == ["100.00", "19.00"]


def test_no_discount_takes_more_than_there_is() -> None:
    assert shown(cost(template(part("base", "10"), part("discount", "8"), part("discount", "8"), part("tax", factor="0.2")))) == (
        "0.00",
        "0.00",
        "0.00",
    )


def test_a_line_becomes_a_component_with_all_digits() -> None:
    found = cost(template(part("base", "10")))
    assert as_component(found.lines[0], "EUR") == {"type": "base", "amount": {"value": D("10.00"), "currency": "EUR"}}
    assert str(as_component(found.lines[0], "EUR")["amount"]["value"]) == "10.00"


def test_a_group_applies_where_all_its_conditions_hold() -> None:
    made = template(part("base", "10"))
    child = template(part("discount", factor="0.5"), conditions=["%patient.birthDate > @2010-01-01", "%now.exists()"])
    made["propertyGroup"] += child["propertyGroup"]
    assert str(cost(made, patient={"resourceType": "Patient", "birthDate": "2015-01-01"}).gross) == "5.00"
    assert str(cost(made, patient={"resourceType": "Patient", "birthDate": "2001-01-01"}).gross) == "10.00"
    assert str(cost(made).gross) == "10.00"


@pytest.mark.parametrize(
    ("condition", "gross"),
    [
        ("%coverage.exists()", "10.00"),
        ("%coverage.payor.display = 'Insurer'", "0.00"),
        ("%encounter.class.code = 'AMB'", "0.00"),
        ("%now < @2026-03-02T12:00:00Z", "10.00"),
        ("%daysSincePaidVisit <= 14", "0.00"),
        ("%context.quantity.empty()", "10.00"),
    ],
)
def test_conditions_know_what_the_contract_names(condition: str, gross: str) -> None:
    variables: Json = {"coverage": [{"resourceType": "Coverage", "payor": [{"display": "State"}]}]} if "coverage" in condition else {}
    assert str(cost(template(part("base", "10"), conditions=[condition]), **variables).gross) == gross


@pytest.mark.parametrize(
    ("conditions", "place", "said"),
    [
        (["true", "%patient.("], "applicability[1].expression", "FHIRPath"),
        (["%stranger.exists()"], "applicability[0].expression", "not defined"),
        (["%now"], "applicability[0].expression", "no condition"),
        (["(1|2)"], "applicability[0].expression", "no condition"),
        (["'a'.repeat($this & 'a').exists()"], "applicability[0].expression", "too many"),
    ],
)
def test_a_fault_in_a_condition_is_told_with_its_place(conditions: list[str], place: str, said: str) -> None:
    with pytest.raises(Outcome, match=said) as caught:
        cost(template(part("base", "10"), conditions=conditions))
    assert caught.value.status == 422
    assert caught.value.issues[0].expression == (f"ChargeItemDefinition.propertyGroup[0].{place}",)


@pytest.mark.parametrize(
    "bad",
    [
        part("base"),
        part("base", factor="0.5"),
        part("base", "-1"),
        part("tax", factor="-0.1"),
        part("tax", factor="20000"),
        part("discount"),
        part("base", "1" + "0" * 13),
        part("base", "1", currency="euro"),
    ],
)
def test_a_component_that_cannot_be_is_refused(bad: Json) -> None:
    with pytest.raises(Outcome) as caught:
        cost(template(bad))
    assert caught.value.status == 422


def test_one_price_has_one_currency() -> None:
    with pytest.raises(Outcome, match="in EUR and in USD"):
        cost(template(part("base", "1"), part("surcharge", "1", currency="USD")))


@pytest.mark.parametrize("quantity", ["0", "-1", "1000001"])
def test_a_quantity_has_bounds(quantity: str) -> None:
    with pytest.raises(Outcome) as caught:
        cost(template(part("base", "1")), quantity)
    assert caught.value.status == 422


def test_a_template_that_does_not_apply_has_no_price() -> None:
    made = template(part("base", "1")) | {"applicability": [{"expression": "false"}]}
    assert priced(made, D(1), "EUR", Applicability({"resourceType": "ChargeItem"}, {}, NOW)) is None
