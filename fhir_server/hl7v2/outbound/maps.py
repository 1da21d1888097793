"""The files of `mappings/outbound`: which field of a segment comes from where in a resource, row by row. Every fault names its file and line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fhir_server.fhirpath import Expression, FhirPathError, compile  # noqa: A004 - as there
from fhir_server.hl7v2.mapping import MappingFault
from fhir_server.hl7v2.mapping.rows import Row, load
from fhir_server.spec import r4

from .values import VALUES, Codes, Json, Scene
from .writer import Repetition, segment

FOLDER: Final = Path(__file__).parents[3] / "mappings"
_FIELD: Final = re.compile(r"([A-Z][A-Z0-9]{2})-([1-9]\d?)")


@dataclass(frozen=True, slots=True)
class _Rule:
    field: int
    condition: Expression | None
    source: Expression | None
    type: str
    table: str
    value: str


class Maps:
    """The rows of all files, compiled. Safe to share between threads."""

    def __init__(self, folder: Path = FOLDER, site: Path | None = None) -> None:
        """Reads and checks the files; those in `site` replace rows of ours. Raises MappingFault with file and line."""
        self.codes = Codes(load("table", folder, site))
        self._rules: dict[str, list[_Rule]] = {}
        for name, rows in load("outbound", folder, site).items():
            self._rules[name] = [self._rule(name, row) for row in rows]

    def write(self, name: str, focus: Json, scene: Scene, more: Mapping[int, list[Repetition]] | None = None, **variables: Any) -> str:
        """The segment that a map makes of an element; `more` are fields besides, `variables` what rows call `%name`.

        The map's name tells both, as `PID-Patient` and `AIP-Appointment.participant`.
        """
        fields: dict[int, list[Repetition]] = {number: list(values) for number, values in (more or {}).items()}
        known = {"version": scene.peer.version, "own": scene.peer.own_application, **variables}
        for rule in self._rules[name]:
            if rule.condition is not None and not all(_run(rule.condition, focus, scene, known) or [False]):
                continue
            found = [rule.value.split("^")] if rule.source is None else self._values(rule, rule.source, focus, scene, known)
            fields.setdefault(rule.field, []).extend(found)
        return segment(scene.peer.version, name[:3], fields)

    def _values(self, rule: _Rule, source: Expression, focus: Json, scene: Scene, known: Mapping[str, Any]) -> list[Repetition]:
        convert = VALUES[rule.type]
        made = (convert(value, scene, rule.table) for value in _run(source, focus, scene, known))
        return [value for value in made if value is not None]

    def _rule(self, name: str, row: Row) -> _Rule:
        match = _FIELD.fullmatch(row["field"])
        if match is None or match[1] != name[:3]:
            raise MappingFault(f"'{row['field']}' is no field of {name[:3]}", row)
        if bool(row["from"]) == bool(row["value"]):
            raise MappingFault("a row has either a source or a value", row)
        if row["from"] and row["as"] not in VALUES:
            raise MappingFault(f"there is no '{row['as']}'; there are {', '.join(VALUES)}", row)
        if row["table"] and not self.codes.knows(row["table"]):
            raise MappingFault(f"there is no table {row['table']}", row)
        try:
            condition, source = (compile(text, r4(), name.partition("-")[2]) if text else None for text in (row["if"], row["from"]))
        except FhirPathError as error:
            raise MappingFault(str(error), row) from None
        return _Rule(int(match[2]), condition, source, row["as"], row["table"], row["value"])


def _run(expression: Expression, focus: Json, scene: Scene, known: Mapping[str, Any]) -> list[Any]:
    # FHIRPath has no name without a value.
    return expression(focus, variables={name: value if value is not None else [] for name, value in known.items()}, resolver=scene.resolve)
