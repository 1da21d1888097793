"""Which values of a list a field is about, and what they are called when @slice takes the list apart.

https://hl7.org/fhir/R4/graphql.html#list
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fhir_server import fhirpath
from fhir_server.outcome import Outcome

from .faults import Fault, placed
from .fields import Field, as_text
from .meanings import Meanings

Json = dict[str, Any]


class Choice:
    """Evaluates the arguments and directives of one request, within one budget for all FHIRPath of it."""

    def __init__(self, meanings: Meanings, now: datetime) -> None:
        """Takes what compiles expressions, and the clock."""
        self.meanings = meanings
        self.now = now
        self.budget = fhirpath.Budget()

    def chosen(self, each: Field, values: list[Any], container: Json) -> Iterator[Any]:
        """Those of a list that the arguments and @first choose."""
        start, count = each.args.get("_offset", 0), 1 if each.first else None
        if "_count" in each.args:
            count = min(each.args["_count"], count) if count is not None else each.args["_count"]
        for value in values:
            if count == 0:
                return
            if not self.matches(each, value, container):
                continue
            if start:
                start -= 1
                continue
            count = None if count is None else count - 1
            yield value

    def matches(self, each: Field, value: Any, container: Json | None) -> bool:
        """Whether the arguments of a field choose a value."""
        for name, wanted in each.filters.items():
            found = value.get(name) if isinstance(value, dict) else None
            if not {as_text(part) for part in (found if isinstance(found, list) else [found])}.intersection(wanted):
                return False
        path = each.args.get("fhirpath")
        if path is None:
            return True
        found = self._evaluate(path, each, value, container)
        return bool(found) and found[0] is not False

    def _evaluate(self, path: str, each: Field, value: Any, container: Json | None) -> list[Any]:
        if value is None:
            return []
        type_name = value["resourceType"] if isinstance(value, dict) and "resourceType" in value else each.type
        try:
            return self.meanings.expression(path, type_name, each.node)(value, resource=container, now=self.now, budget=self.budget)
        except Outcome as outcome:
            raise placed(outcome, each.node) from None

    def suffix(self, each: Field, place: int, value: Any) -> str:
        """What @slice adds to names for a value, as `.official`; nothing where its path gives nothing."""
        assert each.slice is not None
        found = [place] if each.slice == "$index" else self._evaluate(each.slice, each, value, None)
        if len(found) > 1 or any(isinstance(part, dict) for part in found):
            raise Fault(f"@slice needs one text for each of '{each.key}', which '{each.slice[:80]}' does not give", each.node)
        return f".{as_text(found[0])}" if found else ""
