"""What a CodeableConcept of a medicine or of an allergy means: its codes, its groups in the ATC, and its names.

https://www.whocc.no/atc/structure_and_principles/, https://www.nlm.nih.gov/research/umls/rxnorm/

The table `data/substances.csv` knows some 260 substances by their names and by RxNorm and ATC. What is not in it is known by its own codes alone,
and an ATC code by its groups.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

ATC: Final = "http://www.whocc.no/atc"
RXNORM: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
_WORDS: Final = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+)*")
_LONGEST: Final = 400
"""Characters of a text that are looked at."""


@dataclass(frozen=True, slots=True)
class Substance:
    """`codes` are (system, code), `groups` codes of the ATC at any level, `names` those of the table, `text` what people call it."""

    codes: frozenset[tuple[str, str]]
    groups: frozenset[str]
    names: frozenset[str]
    text: str

    def shares(self, other: Substance) -> bool:
        """Whether both are the same, or one is of the group that the other is."""
        if self.codes & other.codes or self.names & other.names:
            return True
        return any(one.startswith(two) or two.startswith(one) for one in self.groups for two in other.groups)

    def is_of(self, group: str) -> bool:
        """Whether it is of a group of the ATC."""
        return any(each.startswith(group) for each in self.groups)


@dataclass(frozen=True, slots=True)
class _Known:
    names: tuple[str, ...]
    groups: tuple[str, ...]
    rxnorm: str


def substance(concepts: Iterable[Mapping[str, Any]]) -> Substance:
    """What some CodeableConcepts of one thing mean together. Costs some 10 µs."""
    codes: set[tuple[str, str]] = set()
    groups: set[str] = set()
    texts: list[str] = []
    for concept in concepts:
        for coding in concept.get("coding", ()):
            system, code = coding.get("system"), coding.get("code")
            if isinstance(system, str) and isinstance(code, str):
                codes.add((system, code))
                if system == ATC:
                    groups.add(code)
            texts.append(str(coding.get("display") or ""))
        texts.append(str(concept.get("text") or ""))
    known = {*_coded(codes), *_named(texts)}
    groups.update(group for each in known for group in each.groups)
    shown = next((text for text in reversed(texts) if text), next((code for _, code in sorted(codes)), "an unnamed medicine"))
    return Substance(frozenset(codes), frozenset(groups), frozenset(each.names[0] for each in known), shown[:_LONGEST])


def _coded(codes: Iterable[tuple[str, str]]) -> set[_Known]:
    _, by_rxnorm, by_atc = _table()
    found: set[_Known] = set()
    for system, code in codes:
        table = by_rxnorm if system == RXNORM else by_atc if system == ATC else {}
        if code in table:
            found.add(table[code])
    return found


def _named(texts: Sequence[str]) -> set[_Known]:
    by_name, _, _ = _table()
    found: set[_Known] = set()
    for text in texts:
        for run in _WORDS.findall(text[:_LONGEST].casefold()):
            words = re.split("[ -]", run)
            spans = {" ".join(words[first:last]) for first in range(len(words)) for last in range(first + 1, min(first + 3, len(words)) + 1)}
            found.update(by_name[name] for name in spans & by_name.keys())
    return found


@cache
def _table() -> tuple[dict[str, _Known], dict[str, _Known], dict[str, _Known]]:
    rows = read_rows("substances.csv")
    known = [_Known(tuple(row["names"].split("|")), tuple(row["atc"].split()), row["rxnorm"]) for row in rows]
    by_name = {name: each for each in known for name in each.names}
    by_atc = {group: each for each in known for group in each.groups}
    return by_name, {each.rxnorm: each for each in known if each.rxnorm}, by_atc


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of one of this package's tables."""
    text = files("fhir_server.prescribing").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
