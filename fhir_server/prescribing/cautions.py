"""What speaks against a medicine: an allergy, the same twice, two that do not go together.

`data/interactions.csv` has pairs of groups of the ATC with what happens where both are taken; `crossed.csv` pairs of which one may harm those who are
allergic to the other, or to another of the same group; `alike.csv` groups that do the same together. It is a list of what does most harm, and no
substitute for a service that knows all medicines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

from .substances import Substance, read_rows

Kind = Literal["allergy", "duplicate", "interaction"]
Severity = Literal["high", "moderate"]

_SAME_GROUP: Final = 5
"""Characters of an ATC code that two medicines for the same share, as C10AA."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A medicine that somebody takes, or what they are allergic to: a reference to where that is said, and what it is."""

    reference: str
    substance: Substance


class Caution(NamedTuple):
    """One thing that speaks against a medicine, because of what `reference` says."""

    kind: Kind
    severity: Severity
    text: str
    reference: str


class _Pair(NamedTuple):
    one: str
    other: str
    severity: Severity
    effect: str


def cautions(prescribed: Substance, allergies: Iterable[Taken], others: Iterable[Taken]) -> list[Caution]:
    """All that speaks against a medicine, allergies first."""
    return [*_allergic(prescribed, allergies), *_together(prescribed, list(others))]


def _allergic(prescribed: Substance, allergies: Iterable[Taken]) -> Iterator[Caution]:
    for allergy in allergies:
        if prescribed.shares(allergy.substance):
            text = f"{prescribed.text}: an allergy to {allergy.substance.text} is recorded"
            yield Caution("allergy", "high", text, allergy.reference)
        elif crossed := _crossed(prescribed, allergy.substance):
            text = f"{prescribed.text}: may harm those who are allergic to {allergy.substance.text}, as is recorded"
            yield Caution("allergy", crossed, text, allergy.reference)


def _crossed(prescribed: Substance, allergy: Substance) -> Severity | None:
    found = {pair.severity for pair in _pairs("crossed.csv") if _is_pair(prescribed, allergy, pair)}
    return "high" if "high" in found else "moderate" if found else None


def _together(prescribed: Substance, others: Iterable[Taken]) -> Iterator[Caution]:
    # Of some three hundred pairs few are about it: looked for once, not for each other medicine.
    pairs = _pairs("interactions.csv")
    against = [(pair.other, pair) for pair in pairs if prescribed.is_of(pair.one)] + [
        (pair.one, pair) for pair in pairs if prescribed.is_of(pair.other)
    ]
    for other in others:
        if prescribed.shares(other.substance):
            yield Caution("duplicate", "high", f"{prescribed.text}: {other.substance.text} is prescribed already", other.reference)
        elif _do_the_same(prescribed, other.substance):
            text = f"{prescribed.text}: {other.substance.text}, which does the same, is prescribed already"
            yield Caution("duplicate", "moderate", text, other.reference)
        met = [pair for group, pair in against if other.substance.is_of(group)]
        # The worst of them; there may be one for the group and one for the substance.
        for pair in sorted(met, key=lambda each: each.severity != "high")[:1]:
            text = f"{prescribed.text} with {other.substance.text}: {pair.effect}"
            yield Caution("interaction", pair.severity, text, other.reference)


def _do_the_same(one: Substance, other: Substance) -> bool:
    if {group[:_SAME_GROUP] for group in _exact(one)} & {group[:_SAME_GROUP] for group in _exact(other)}:
        return True
    return any(any(map(one.is_of, groups)) and any(map(other.is_of, groups)) for groups in _alike())


def _exact(of: Substance) -> Iterator[str]:
    return (group for group in of.groups if len(group) >= _SAME_GROUP)


def _is_pair(one: Substance, other: Substance, pair: _Pair) -> bool:
    return (one.is_of(pair.one) and other.is_of(pair.other)) or (one.is_of(pair.other) and other.is_of(pair.one))


@cache
def _pairs(name: str) -> tuple[_Pair, ...]:
    rows = read_rows(name)
    return tuple(_Pair(row["one"], row["other"], "high" if row["severity"] == "high" else "moderate", row.get("effect", "")) for row in rows)


@cache
def _alike() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row["groups"].split()) for row in read_rows("alike.csv"))
