"""Who pays how much: two parts that sum to each line, none negative, in whatever currency and by whatever terms."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.clinic.billing.coverage import is_in_force, payer, terms_of
from fhir_server.clinic.billing.money import rounded, unit
from fhir_server.clinic.billing.shares import Terms, Used, split
from fhir_server.outcome import Outcome

Json = dict[str, Any]
D = Decimal
ZONE = ZoneInfo("Europe/Berlin")
DAY = date(2026, 11, 30)

currencies = st.sampled_from(["JPY", "EUR", "KWD"])
amounts = st.none() | st.decimals(0, 10**6, places=3)
terms = st.builds(Terms, amounts, st.none() | st.decimals(0, 1, places=4), amounts, amounts)
used = st.builds(Used, st.decimals(0, 10**5, places=3), st.decimals(0, 10**5, places=3))


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=8), terms, used, currencies)
def test_both_parts_of_a_line_sum_to_it_and_none_is_negative(lines: list[int], by: Terms, before: Used, currency: str) -> None:
    gross = [D(each) * unit(currency) for each in lines]
    before = Used(rounded(before.deductible, currency), rounded(before.paid, currency))
    found = split(gross, by, before, currency)
    assert len(found.patient) == len(gross)
    for line, part in zip(gross, found.patient, strict=True):
        assert 0 <= part <= line
        assert rounded(part, currency) == part
        assert (line - part) + part == line
    whole, patient = sum(gross), sum(found.patient)
    assert 0 <= found.deductible <= patient
    if by.most is not None:
        assert patient <= max(rounded(by.most, currency) - before.paid, D(0))
    if by == Terms(fraction=by.fraction) and by.fraction is not None:
        assert list(found.patient) == [rounded(line * by.fraction, currency) for line in gross]
    if by == Terms(copay=by.copay) and by.copay is not None:
        assert patient == min(rounded(by.copay, currency), whole)


@pytest.mark.parametrize(
    ("by", "before", "patient"),
    [
        (Terms(), Used(), ["0", "0"]),
        (Terms(fraction=D("0.2")), Used(), ["20.00", "10.01"]),
        (Terms(copay=D(15)), Used(), ["10.00", "5.00"]),
        (Terms(copay=D(500)), Used(), ["100.00", "50.03"]),
        (Terms(deductible=D(60)), Used(deductible=D(45)), ["10.00", "5.00"]),
        (Terms(deductible=D(60)), Used(deductible=D(60)), ["0", "0"]),
        (Terms(copay=D(15), fraction=D("0.1"), deductible=D(30)), Used(), ["37.00", "18.50"]),
        (Terms(fraction=D("0.2"), most=D(100)), Used(paid=D(85)), ["10.00", "5.00"]),
        (Terms(fraction=D(1), most=D(100)), Used(paid=D(101)), ["0", "0"]),
    ],
)
def test_copayment_deductible_percentage_and_maximum_come_in_this_order(by: Terms, before: Used, patient: list[str]) -> None:
    found = split([D("100.00"), D("50.03")], by, before, "EUR")
    assert [rounded(each, "EUR") for each in found.patient] == [rounded(D(each), "EUR") for each in patient]


def cover(*costs: Json, **fields: Any) -> Json:
    made: Json = {"resourceType": "Coverage", "id": "c", "status": "active", "payor": [{"reference": "Organization/i", "display": "Insurer"}]}
    return made | ({"costToBeneficiary": list(costs)} if costs else {}) | fields


def cost(code: str, **fields: Any) -> Json:
    return {"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/coverage-copay-type", "code": code}]}, **fields}


def percent(value: Any, **fields: Any) -> Json:
    return cost("copaypct", valueQuantity={"value": value, **fields})


def euros(code: str, value: Any, currency: str = "EUR") -> Json:
    return cost(code, valueMoney={"value": value, "currency": currency})


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        (cover(), None),
        (cover(cost("gpvisit", valueMoney={"value": 5, "currency": "EUR"})), None),
        (cover(percent(20, unit="%")), Terms(fraction=D("0.2"))),
        (cover(percent(D("12.5"))), Terms(fraction=D("0.125"))),
        (cover(percent(D("0.2"), code="1")), Terms(fraction=D("0.2"))),
        (
            cover(euros("copay", 10), euros("deductible", 300), euros("maxoutofpocket", D("999.99"))),
            Terms(copay=D(10), deductible=D(300), most=D("999.99")),
        ),
        (cover({**euros("copay", 10), "exception": [{"type": {"text": "retired"}}]}), Terms()),
        (cover({**euros("copay", 10), "exception": [{"type": {"text": "x"}, "period": {"end": "2026-11-29"}}]}), Terms(copay=D(10))),
    ],
)
def test_what_a_coverage_says_of_the_patients_part(coverage: Json, expected: Terms | None) -> None:
    assert terms_of(coverage, DAY, ZONE, "EUR") == expected


@pytest.mark.parametrize(
    "bad",
    [
        percent(101),
        percent(-1),
        percent(20, unit="EUR"),
        cost("copaypct", valueMoney={"value": 20}),
        euros("copay", -1),
        euros("copay", 10**12),
        euros("copay", 1, "USD"),
        cost("deductible", valueQuantity={"value": 1}),
        cost("deductible", valueMoney={"currency": "EUR"}),
    ],
)
def test_a_term_that_cannot_be_is_told_with_its_place(bad: Json) -> None:
    with pytest.raises(Outcome) as caught:
        terms_of(cover(percent(20) if "copaypct" not in str(bad) else euros("copay", 1), bad), DAY, ZONE, "EUR")
    assert (caught.value.status, caught.value.issues[0].expression) == (422, ("Coverage.costToBeneficiary[1]",))


def test_a_term_stands_once() -> None:
    with pytest.raises(Outcome, match="twice"):
        terms_of(cover(percent(20), percent(10)), DAY, ZONE, "EUR")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"status": "cancelled"}, False),
        ({"status": "draft"}, False),
        ({"period": {"start": "2026-11-30", "end": "2026-11-30"}}, True),
        ({"period": {"start": "2026-12-01"}}, False),
        ({"period": {"end": "2026-11-29"}}, False),
        ({"period": {"end": "2026-11"}}, True),
        ({"period": {"start": "2026", "end": "2026"}}, True),
        ({"period": {"end": "2026-11-30T00:30:00+01:00"}}, True),
        ({"payor": [{"reference": "Patient/p"}]}, False),
        ({"payor": [{"reference": "RelatedPerson/p"}, {"display": "Insurer"}]}, True),
        ({"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/coverage-selfpay", "code": "pay"}]}}, False),
    ],
)
def test_a_coverage_is_in_force_from_its_first_day_to_its_last(fields: Json, expected: bool) -> None:  # noqa: FBT001 - a row of the table
    assert is_in_force(cover(**fields), DAY, ZONE) is expected


def test_the_payer_is_who_is_no_person() -> None:
    assert payer(cover(payor=[{"reference": "Patient/p"}, {"display": "Insurer"}])) == {"display": "Insurer"}
