"""Who pays how much of what is covered: the patient by the terms of a Coverage, the payer the rest. Pure, and exact.

https://hl7.org/fhir/R4/coverage-definitions.html#Coverage.costToBeneficiary, https://hl7.org/fhir/R4/valueset-coverage-copay-type.html

In this order, each of what the ones before have left: the copayment, once for an invoice; what is missing of the year's deductible; a percentage. All
of it is at most what is missing of the year's out-of-pocket maximum. Each line's percentage is rounded by itself, half up; what is of the whole is
divided over the lines by largest remainder. So each line is divided into two parts of which none is negative, and which sum to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from .money import EXACT, ZERO, rounded, shared


@dataclass(frozen=True, slots=True)
class Terms:
    """What a patient pays: amounts in the currency of the invoice, and a fraction of what is left; None where there is no such term."""

    copay: Decimal | None = None
    fraction: Decimal | None = None
    deductible: Decimal | None = None
    most: Decimal | None = None

    @property
    def are_of_the_year(self) -> bool:
        """Whether it matters what was paid before in the year."""
        return self.deductible is not None or self.most is not None


@dataclass(frozen=True, slots=True)
class Used:
    """What the patient has paid in the year before: of the deductible, and in all."""

    deductible: Decimal = ZERO
    paid: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Split:
    """What the patient pays of each line, and how much of it all is deductible."""

    patient: tuple[Decimal, ...]
    deductible: Decimal


def split(lines: Sequence[Decimal], terms: Terms, used: Used, currency: str) -> Split:
    """Divides lines, none of them negative and all in the digits of the currency, by terms."""
    copay = _spread(rounded(terms.copay or ZERO, currency), lines, currency)
    left = _without(lines, copay)
    missing = max(rounded(terms.deductible or ZERO, currency) - used.deductible, ZERO)
    deductible = _spread(missing, left, currency)
    left = _without(left, deductible)
    percentage = [rounded(EXACT.multiply(line, terms.fraction or ZERO), currency) for line in left]
    patient = [sum(parts, ZERO) for parts in zip(copay, deductible, percentage, strict=True)]
    if terms.most is not None:
        patient = _spread(max(rounded(terms.most, currency) - used.paid, ZERO), patient, currency)
    return Split(tuple(patient), min(sum(deductible, ZERO), sum(patient, ZERO)))


def _spread(amount: Decimal, lines: Sequence[Decimal], currency: str) -> list[Decimal]:
    """An amount, or all there is, divided over lines by what they are: none gets more than it has."""
    whole = sum(lines, ZERO)
    if amount >= whole:
        return list(lines)
    return shared(amount, lines, currency)


def _without(lines: Sequence[Decimal], taken: Sequence[Decimal]) -> list[Decimal]:
    return [line - part for line, part in zip(lines, taken, strict=True)]
