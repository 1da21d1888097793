"""Sets of codes of many systems. All of a system but some codes is a set too, so that LOINC need not be here to be a part of one.

Closed under union, intersection and difference, as https://hl7.org/fhir/R4/valueset.html#compositions asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Part(NamedTuple):
    """Codes of one system: those listed, or all `but` those listed."""

    codes: frozenset[str]
    but: bool = False


NOTHING: Final = Part(frozenset())


@dataclass(frozen=True, slots=True)
class Codes:
    """A set of (system, code) pairs. Each operation takes time with the codes listed on both sides of the systems that both have."""

    parts: Mapping[str, Part] = field(default_factory=dict)

    @classmethod
    def of(cls, system: str, codes: Iterable[str]) -> Codes:
        """Some codes of a system."""
        return cls({system: Part(frozenset(codes))})

    @classmethod
    def all_of(cls, system: str) -> Codes:
        """Every code of a system, whatever they are."""
        return cls({system: Part(frozenset(), but=True)})

    @property
    def size(self) -> int:
        """How many codes are listed, be they inside or excepted, and systems."""
        return len(self.parts) + sum(len(part.codes) for part in self.parts.values())

    def __contains__(self, pair: tuple[str, str]) -> bool:
        system, code = pair
        part = self.parts.get(system, NOTHING)
        return (code in part.codes) is not part.but

    def anywhere(self) -> Part:
        """The codes of all systems together, whichever they are of."""
        every = self.parts.values()
        listed = frozenset[str]().union(*(part.codes for part in every if not part.but))
        without = [part.codes for part in every if part.but]
        return Part(without[0].intersection(*without[1:]) - listed, but=True) if without else Part(listed)

    def __or__(self, other: Codes) -> Codes:
        return Codes({**self.parts, **other.parts, **self._both(other, _union)})

    def __and__(self, other: Codes) -> Codes:
        return Codes(_filled(self._both(other, _intersection)))

    def __sub__(self, other: Codes) -> Codes:
        return Codes(_filled({**self.parts, **self._both(other, _difference)}))

    def _both(self, other: Codes, combine: Callable[[Part, Part], Part]) -> dict[str, Part]:
        return {system: combine(self.parts[system], other.parts[system]) for system in self.parts.keys() & other.parts.keys()}


def _filled(parts: dict[str, Part]) -> dict[str, Part]:
    return {system: part for system, part in parts.items() if part.codes or part.but}


def _union(one: Part, other: Part) -> Part:
    if one.but and other.but:
        return Part(one.codes & other.codes, but=True)
    if one.but:
        return Part(one.codes - other.codes, but=True)
    if other.but:
        return Part(other.codes - one.codes, but=True)
    return Part(one.codes | other.codes)


def _intersection(one: Part, other: Part) -> Part:
    if one.but and other.but:
        return Part(one.codes | other.codes, but=True)
    if one.but:
        return Part(other.codes - one.codes)
    if other.but:
        return Part(one.codes - other.codes)
    return Part(one.codes & other.codes)


def _difference(one: Part, other: Part) -> Part:
    return _intersection(one, Part(other.codes, but=not other.but))
