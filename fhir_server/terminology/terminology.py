"""The terminology that a request sees: what is stored goes before what ships, of the same URL.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fhir_server.outcome import Outcome
from fhir_server.spec.model import ShippedTerminology

from .code_system import CodeSystem, usable
from .codes import NOTHING, Part
from .expansion import MAX_CODES, MAX_RESOURCES, MAX_STEPS, MAX_WORK, Expander, Expansion, Find, unknown_system


class Terminology:
    """Made for one request: what it has found it keeps, so that a resource is found and read once.

    Canonicals are `url` or `url|version`. A code that differs in case only from the system's own is taken for that one, as search compares codes.
    """

    def __init__(self, shipped: ShippedTerminology, find: Find) -> None:
        """Takes the specification's resources, and what finds the stored ones, which are valid."""
        self._shipped = shipped
        self._find = find
        self._systems: dict[str, CodeSystem | None] = {}
        self._sets: dict[str, Mapping[str, Any] | None] = {}
        self._expansions: dict[str, Expansion] = {}
        self._parts: dict[tuple[str, str | None], tuple[Part, str]] = {}
        self._work = MAX_WORK
        self._steps = [MAX_STEPS]

    def expand(self, value_set: str | Mapping[str, Any]) -> Expansion:
        """The codes of a value set, named by its canonical or given as a valid resource.

        Raises Outcome `parameter` for a value set, code system or code that is not known here, and `business-rule` for imports that go round
        and filters that cannot be answered, and `too-costly` for more than 10,000 codes or too much work on the way, which takes 2 s at most.
        """
        if not isinstance(value_set, str):
            return Expander(self.value_set, self.system).expand(value_set)
        if value_set not in self._expansions:
            self._expansions[value_set] = Expander(self.value_set, self.system).expand(self.value_set(value_set))
        return self._expansions[value_set]

    def contains(self, value_set: str | Mapping[str, Any], system: str, code: str) -> bool:
        """Whether a code is in a value set. Raises what `expand` raises."""
        return (system, code) in self.expand(value_set)

    def member(self, value_set: str, system: str | None, code: str) -> bool | str:
        """Whether a value set has a code of a system, of any system where that is None; a text says why that is not known here.

        Only what the value set has of this system is put together, so that others need not be here; for a yes it is enough what is here of it.
        Of a system whose codes are not here any code is in a value set that has all of it. All that is put together for such questions may
        take what one expansion may.
        """
        key = (value_set, system)
        if key not in self._parts:
            self._parts[key] = self._part(value_set, system)
        part, missing = self._parts[key]
        return (code in part.codes) is not part.but or missing or False

    def subsumed_by(self, system: str, code: str) -> set[str]:
        """The code and all below it, for `:below`.

        Raises Outcome `parameter` for an unknown system or code, `too-costly` for more than 10,000.
        """
        return _bounded(self.code_system(system).below(code), system, code)

    def ancestors(self, system: str, code: str) -> set[str]:
        """The code and all above it, for `:above`. Raises what `subsumed_by` raises."""
        return _bounded(self.code_system(system).above(code), system, code)

    def subsumes(self, system: str, a: str, b: str) -> bool:
        """Whether `a` is `b` or above it. Raises Outcome `parameter` for an unknown system or code."""
        known = self.code_system(system)
        return not known.above(b).isdisjoint(known.known(a))

    def code_system(self, code_system: str | Mapping[str, Any]) -> CodeSystem:
        """A code system with its concepts, named by its canonical or given as a valid resource. Raises Outcome `parameter` where there are none."""
        if isinstance(code_system, str):
            url, found = code_system, self.system(code_system)
        else:
            url, found = str(code_system.get("url", "")), CodeSystem.read(code_system) if usable(code_system) else None
        if found is None:
            raise unknown_system(url)
        return found

    def system(self, canonical: str) -> CodeSystem | None:
        """The same by its canonical, None where its concepts are not known here."""
        if canonical not in self._systems:
            stored = self._find("CodeSystem", canonical)
            if stored is not None and usable(stored):
                self._systems[canonical] = CodeSystem.read(stored)
            else:
                self._systems[canonical] = self._shipped_system(canonical)
        return self._systems[canonical]

    def value_set(self, canonical: str) -> Mapping[str, Any]:
        """A ValueSet resource. Raises Outcome `parameter` for an unknown one."""
        if canonical not in self._sets:
            self._sets[canonical] = self._find("ValueSet", canonical) or self._shipped.find("ValueSet", canonical)
        found = self._sets[canonical]
        if found is None:
            raise Outcome("parameter", f"The value set '{canonical[:200]}' is not known here; load it as a ValueSet resource", code="not-found")
        return found

    def _part(self, value_set: str, system: str | None) -> tuple[Part, str]:
        """What a value set has of a system, and what is missing of it."""
        if len(self._sets) + len(self._systems) > 2 * MAX_RESOURCES:
            return NOTHING, "The request needs too many value sets and code systems"
        expander = Expander(self.value_set, self.system, system, partial=True, work=self._work, steps=self._steps)
        try:
            resource = self.value_set(value_set)
            if "compose" not in resource and "expansion" not in resource:
                return NOTHING, f"The value set '{value_set[:200]}' does not say what is in it"
            codes = expander.codes(resource)
        except Outcome as outcome:
            return NOTHING, str(outcome)
        finally:
            self._work = max(expander.work, 0)
        return codes.anywhere() if system is None else codes.parts.get(system, NOTHING), expander.missing

    def _shipped_system(self, canonical: str) -> CodeSystem | None:
        url = canonical if canonical in self._shipped.code_systems else canonical.partition("|")[0]
        if url not in self._shipped.code_systems:
            return None
        system = _read(self._shipped, url)
        return system if canonical in (url, f"{url}|{system.version}") else None


@lru_cache(maxsize=64)
def _read(shipped: ShippedTerminology, url: str) -> CodeSystem:
    return CodeSystem.read(shipped.find("CodeSystem", url) or {})


def _bounded(codes: set[str], system: str, code: str) -> set[str]:
    if len(codes) > MAX_CODES:
        text = f"The code '{code[:100]}' of '{system}' stands with more than {MAX_CODES:,} others in one line; {MAX_CODES:,} is the most"
        raise Outcome("too-costly", text)
    return codes
