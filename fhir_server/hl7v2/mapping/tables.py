"""Code tables: what a code of HL7 v2 is in FHIR. https://build.fhir.org/ig/HL7/v2-to-fhir/coding_maps.html"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .context import Context
from .rows import MappingFault, Row

_OTHERS: Final = "*"
_NUMBER: Final = re.compile(r"(\d{4})(?:-.*)?")


@dataclass(frozen=True, slots=True)
class Target:
    """A code of FHIR, with its system where it stands in a Coding."""

    code: str
    system: str
    display: str

    @property
    def coding(self) -> dict[str, str]:
        """As a Coding."""
        stated = {"system": self.system, "code": self.code, "display": self.display}
        return {name: value for name, value in stated.items() if value}


class Table:
    """One table. `system` is that of the codes as HL7 v2 has them, None for tables that it has no number for; `codes` are FHIR's by them."""

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        """Reads its rows; the code `*` stands for all that are not there. Raises MappingFault."""
        number = _NUMBER.fullmatch(name)
        self.name = name
        self.system = f"http://terminology.hl7.org/CodeSystem/v2-{number[1]}" if number else None
        self._targets: dict[str, Target] = {}
        for row in rows:
            if not row["code"] or row["code"] in self._targets:
                raise MappingFault("a row needs a code of its own", row)
            self._targets[row["code"]] = Target(row["to"], row["system"], row["display"])
        self.codes = {code: target.code for code, target in self._targets.items()}
        self._folded = {code.casefold(): target for code, target in reversed(self._targets.items())}

    @property
    def targets(self) -> Mapping[str, Target]:
        """By the code in HL7 v2; a target without a code says that there is none in FHIR."""
        return self._targets

    def find(self, code: str) -> Target | None:
        """The code in FHIR; None where there is none. `BOOKED` is `Booked` where the table has no other."""
        found = self._targets.get(code) or self._folded.get(code.casefold()) or self._targets.get(_OTHERS)
        return found if found is not None and found.code else None

    def code(self, code: str, context: Context) -> str | None:
        """The code in FHIR; reports one that is not in the table."""
        if known := self.codes.get(code):
            return known
        found = self.find(code)
        if found is None:
            if code not in self._targets:
                context.warn("103", f"The code is not in table {self.name}")
            return None
        return found.code

    def coding(self, coding: dict[str, Any], context: Context) -> dict[str, Any]:
        """A Coding of FHIR for one as it came, which is kept where the table does not have it, and where it is of another system."""
        if coding.get("system", self.system) != self.system:
            return coding
        found = self.find(coding.get("code", ""))
        if found is not None:
            return found.coding
        if self.system is not None:
            coding.setdefault("system", self.system)
        if coding.get("code", "") not in self._targets:
            context.warn("103", f"The code is not in table {self.name}; it is kept as it came")
        return coding

    def concept(self, concept: dict[str, Any], context: Context) -> dict[str, Any]:
        """A CodeableConcept whose first coding is FHIR's; what came is kept behind it where it is of a system that was named."""
        codings = concept.get("coding") or []
        if not codings:
            return concept
        first, named = codings[0], "system" in codings[0]
        mapped = self.coding(dict(first), context)
        kept = [first] if named and mapped != first else []
        return {**concept, "coding": [mapped, *kept, *codings[1:]]}
