"""What a Coverage says: whether it is in force on a day, and what its beneficiary pays.

https://hl7.org/fhir/R4/coverage.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.outcome import Outcome
from fhir_server.search.params.date import parse_date
from fhir_server.store.ops import Resource

from .money import MOST, ZERO
from .shares import Terms

_SELF_PAY: Final = "http://terminology.hl7.org/CodeSystem/coverage-selfpay"
_KINDS: Final = {"copay": "copay", "copaypct": "fraction", "deductible": "deductible", "maxoutofpocket": "most"}
"""Terms that decide a share, by their code, as `Terms` has them. Those for one kind of visit do not: what kind it was nobody has said."""
_LAST: Final = 1_000_000
_HUNDRED: Final = Decimal(100)


def is_in_force(coverage: Mapping[str, Any], day: date, zone: ZoneInfo) -> bool:
    """Whether somebody else pays by a Coverage for what is done on a day of the clinic's zone. Not where the patient is the payer."""
    if coverage.get("status") != "active" or _is_self_pay(coverage):
        return False
    return _includes(coverage.get("period", {}), day, zone)


def rank(coverage: Mapping[str, Any]) -> tuple[int, str]:
    """By which the coverages of a patient come in their order; those without one are last."""
    return coverage.get("order", _LAST), str(coverage.get("id", ""))


def terms_of(coverage: Mapping[str, Any], day: date, zone: ZoneInfo, currency: str) -> Terms | None:
    """What the patient pays on a day, in the currency of the invoice; None for a Coverage that says nothing of it, so that nobody can tell.

    A term that has an exception on that day does not count. Raises Outcome `business-rule`, with the place, for one that cannot be.
    """
    found: dict[str, Decimal] = {}
    is_known = False
    for n, each in enumerate(coverage.get("costToBeneficiary", ())):
        kind = next((_KINDS[code] for code in _codes(each) if code in _KINDS), None)
        if kind is None:
            continue
        is_known = True
        if any(_includes(exception.get("period", {}), day, zone) for exception in each.get("exception", ())):
            continue
        if kind in found:
            raise _fault(coverage, n, "says the same twice")
        found[kind] = _percentage(coverage, n, each) if kind == "fraction" else _amount(coverage, n, each, currency)
    return Terms(**found) if is_known else None


def payer(coverage: Mapping[str, Any]) -> Resource:
    """The Reference to who pays: the first payor that is an organization, or is only named."""
    return next((each for each in coverage.get("payor", ()) if not _is_person(each)), {})


def _is_self_pay(coverage: Mapping[str, Any]) -> bool:
    if any(coding.get("system") == _SELF_PAY for coding in coverage.get("type", {}).get("coding", ())):
        return True
    return all(_is_person(each) for each in coverage.get("payor", ()))


def _is_person(reference: Mapping[str, Any]) -> bool:
    named = str(reference.get("type") or reference.get("reference", ""))
    return any(part in {"Patient", "RelatedPerson"} for part in named.split("/"))


def _includes(period: Mapping[str, Any], day: date, zone: ZoneInfo) -> bool:
    """Whether a day is in a Period; one that cannot be read includes nothing."""
    try:
        first = _read(period.get("start", "0002"), zone)[0]
        after = _read(period.get("end", "9998"), zone)[1]
    except (ValueError, OverflowError):
        return False
    return first.astimezone(zone).date() <= day <= (after - timedelta(microseconds=1)).astimezone(zone).date()


def _read(text: Any, zone: ZoneInfo) -> tuple[datetime, datetime]:
    first, after = parse_date(str(text), zone)
    return first.astimezone(UTC), after.astimezone(UTC)


def _codes(cost: Mapping[str, Any]) -> list[str]:
    return [str(coding.get("code")) for coding in cost.get("type", {}).get("coding", ())]


def _amount(coverage: Mapping[str, Any], n: int, cost: Mapping[str, Any], currency: str) -> Decimal:
    value = cost.get("valueMoney", {})
    amount = value.get("value")
    if not isinstance(amount, int | Decimal) or not 0 <= amount < MOST:
        raise _fault(coverage, n, "needs an amount of money that is not negative")
    if value.get("currency", currency) != currency:
        raise _fault(coverage, n, f"is in {value['currency']}, and the invoice in {currency}")
    return Decimal(amount)


def _percentage(coverage: Mapping[str, Any], n: int, cost: Mapping[str, Any]) -> Decimal:
    value = cost.get("valueQuantity", {})
    amount, unit = value.get("value"), value.get("code") or value.get("unit") or "%"
    if not isinstance(amount, int | Decimal) or unit not in {"%", "1"}:
        raise _fault(coverage, n, "needs a percentage, such as 20 %")
    fraction = Decimal(amount) if unit == "1" else Decimal(amount) / _HUNDRED
    if not ZERO <= fraction <= 1:
        raise _fault(coverage, n, "is from 0 to 100 %")
    return fraction


def _fault(coverage: Mapping[str, Any], n: int, said: str) -> Outcome:
    place = f"Coverage.costToBeneficiary[{n}]"
    return Outcome("business-rule", f"{place} of Coverage/{coverage.get('id')} {said}; correct it, or bill with self-pay", expression=place)
