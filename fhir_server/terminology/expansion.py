"""A value set to its codes. https://hl7.org/fhir/R4/valueset.html#compositions

All conditions of one include must hold; what any include gives is in; what any exclude gives is out again. Inactive codes stay in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.outcome import Outcome

from .code_system import CodeSystem
from .codes import Codes, Part
from .filters import select

MAX_CODES: Final = 10_000
"""Codes that an expansion may list."""
MAX_WORK: Final = 50_000_000
"""Codes that may be handled on the way to it, all includes and imports together; one that a filter looks at counts tenfold. A second at most."""
_EMPTY: Final = 50
"""What an include costs even where it is empty, in codes."""
MAX_STEPS: Final = 1_000_000
"""Steps that all regular expressions of an expansion may take together: half a second."""
MAX_DEPTH: Final = 30
"""Value sets that import each other in one line."""
MAX_RESOURCES: Final = 500
"""Value sets that one expansion may import, and code systems that it may ask."""

Kind = Literal["CodeSystem", "ValueSet"]
Find = Callable[[Kind, str], dict[str, Any] | None]
"""What finds a stored resource by its kind and canonical URL, `url` or `url|version`; None where there is none."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """The codes of a value set: `codes` are (system, code) pairs.

    `systems` are those that are in as a whole since their codes are not known here, each with the codes that are not in.
    `displays` are the ones that value sets give; the code systems have the rest.
    """

    codes: frozenset[tuple[str, str]]
    systems: Mapping[str, frozenset[str]]
    displays: Mapping[tuple[str, str], str]

    def __contains__(self, pair: tuple[str, str]) -> bool:
        system, code = pair
        return pair in self.codes or (system in self.systems and code not in self.systems[system])


class Expander:
    """One expansion: what it has found, and what it may still spend. `value_set` and `code_system` find resources, None where there is none."""

    def __init__(
        self,
        value_set: Callable[[str], Mapping[str, Any]],
        code_system: Callable[[str], CodeSystem | None],
        only: str | None = None,
        *,
        partial: bool = False,
        work: int = MAX_WORK,
        steps: list[int] | None = None,
    ) -> None:
        """Takes where value sets (raising Outcome for an unknown one) and code systems come from, and of which system alone codes are wanted.

        With `partial` an include that cannot be answered adds nothing, and `missing` says why. `work` is what it may cost, and afterwards what
        is left of that; `steps` are those of regular expressions, if others share them.
        """
        self.missing = ""
        self._partial = partial
        self._value_set = value_set
        self._code_system = code_system
        self._done: dict[str, Codes] = {}
        self._open: list[str] = []
        self._asked: set[str] = set()
        self.work = work
        self._steps = [MAX_STEPS] if steps is None else steps
        self._only = only
        self._displays: dict[tuple[str, str], str] = {}

    def expand(self, resource: Mapping[str, Any]) -> Expansion:
        """The codes of a valid ValueSet resource.

        Raises Outcome `parameter` for a value set, code system or code that is not known here, and `business-rule` for imports that go round
        and filters that cannot be answered, and `too-costly` beyond the limits of this module.
        """
        codes = self.codes(resource)
        if sum(len(part.codes) for part in codes.parts.values()) > MAX_CODES:
            text = f"The value set '{self._open[0]}' has more than {MAX_CODES:,} codes, which is the most that is listed here"
            raise Outcome("too-costly", text)
        return Expansion(
            frozenset((system, code) for system, part in codes.parts.items() if not part.but for code in part.codes),
            {system: part.codes for system, part in codes.parts.items() if part.but},
            self._displays,
        )

    def codes(self, resource: Mapping[str, Any]) -> Codes:
        """The same as a set, of any size. Raises what `expand` raises."""
        # A set that imports itself has to be found out by the name that it is imported under.
        names = {resource["url"], f"{resource['url']}|{resource.get('version', '')}"} if "url" in resource else set()
        self._open = [str(resource.get("url") or resource.get("name") or "given")]
        return self._of(resource, frozenset(names))

    def _import(self, canonical: str, closed: frozenset[str]) -> Codes:
        if canonical in self._done:
            return self._done[canonical]
        if canonical in closed:
            raise Outcome("business-rule", f"The value set '{canonical}' imports itself: {' → '.join([*self._open, canonical])[:1_000]}")
        if len(self._open) > MAX_DEPTH:
            text = f"The value set '{self._open[0]}' imports value sets that import others more than {MAX_DEPTH} times over"
            raise Outcome("too-costly", text)
        self._ask(canonical)
        resource = self._value_set(canonical)
        # An import without version and one with the newest version are the same resource.
        names = {canonical, resource.get("url", canonical), f"{resource.get('url', canonical)}|{resource.get('version', '')}"}
        self._open.append(canonical)
        try:
            self._done[canonical] = self._of(resource, closed | names)
        finally:
            self._open.pop()
        return self._done[canonical]

    def _of(self, resource: Mapping[str, Any], closed: frozenset[str]) -> Codes:
        expansion = resource.get("expansion")
        if "compose" not in resource:
            return self._listed(expansion or {})
        # Whoever could work it out where this server cannot, for want of the code system perhaps, may have left the result.
        left = expansion is not None and expansion.get("total", 0) <= sum(1 for _ in _entries(expansion))
        before = self.missing
        try:
            codes = self._composed(resource["compose"], closed)
        except Outcome:
            if not left:
                raise
            return self._listed(expansion or {})
        if left and self.missing != before:
            self.missing = before
            return self._listed(expansion or {})
        return codes

    def _composed(self, compose: Mapping[str, Any], closed: frozenset[str]) -> Codes:
        codes = Codes()
        for include in compose.get("include", ()):
            codes = self._charged(codes | self._included(include, closed))
        partial, self._partial = self._partial, False
        for exclude in compose.get("exclude", ()):
            codes = self._charged(codes - self._part(exclude, closed))
        self._partial = partial
        return codes

    def _included(self, include: Mapping[str, Any], closed: frozenset[str]) -> Codes:
        try:
            return self._part(include, closed)
        except Outcome as outcome:
            if not self._partial or outcome.category == "too-costly":
                raise
            self.missing = str(outcome)
            return Codes()

    def _part(self, part: Mapping[str, Any], closed: frozenset[str]) -> Codes:
        """What one include or exclude names."""
        sets = [self._import(canonical, closed) for canonical in part.get("valueSet", ()) if canonical is not None]
        if "system" in part:
            sets.append(self._system(part) if self._only in (None, part["system"]) else Codes())
        codes = sets[0] if sets else Codes()
        for other in sets[1:]:
            codes = self._charged(codes & other)
        return codes

    def _system(self, part: Mapping[str, Any]) -> Codes:
        url: str = part["system"]
        rules = part.get("filter", ())
        if "concept" in part:
            listed = [concept for concept in part["concept"] if "code" in concept]
            for concept in listed:
                if "display" in concept:
                    self._displays.setdefault((url, concept["code"]), concept["display"])
            codes = Codes.of(url, (concept["code"] for concept in listed))
            if not rules:
                return self._charged(codes)
        else:
            codes = Codes.all_of(url)
        canonical = f"{url}|{part['version']}" if "version" in part else url
        self._ask(canonical)
        system = self._code_system(canonical)
        if system is None:
            if rules:
                raise unknown_system(canonical)
            return codes
        if not rules:
            return self._charged(Codes.of(url, system.concepts)) if system.complete else codes
        for rule in rules:
            self._charge(10 * len(system.concepts))
            codes &= Codes.of(url, select(system, rule, self._steps))
        return codes

    def _listed(self, expansion: Mapping[str, Any]) -> Codes:
        """What a ready-made expansion lists; abstract entries are headings."""
        found: dict[str, set[str]] = {}
        for entry in _entries(expansion):
            if "system" in entry and "code" in entry and not entry.get("abstract", False):
                found.setdefault(entry["system"], set()).add(entry["code"])
                if "display" in entry:
                    self._displays.setdefault((entry["system"], entry["code"]), entry["display"])
        return self._charged(Codes({system: Part(frozenset(listed)) for system, listed in found.items()}))

    def _ask(self, canonical: str) -> None:
        self._asked.add(canonical)
        if len(self._asked) > MAX_RESOURCES:
            text = f"The value set '{self._open[0]}' needs more than {MAX_RESOURCES} value sets and code systems"
            raise Outcome("too-costly", text)

    def _charged(self, codes: Codes) -> Codes:
        self._charge(codes.size)
        return codes

    def _charge(self, work: int) -> None:
        self.work -= work + _EMPTY
        if self.work < 0:
            raise Outcome("too-costly", f"The value set '{self._open[0]}' takes too much work to put together")


def unknown_system(url: str) -> Outcome:
    """The refusal of a code system whose codes are not here."""
    text = f"The codes of the code system '{url[:200]}' are not known here; load it as a CodeSystem resource with its concepts"
    return Outcome("parameter", text, code="not-found")


def _entries(expansion: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    rest = [expansion]
    while rest:
        entry = rest.pop()
        rest += entry.get("contains", ())
        yield entry
