"""What can be searched: the parameters of every resource type, their numbers, and the rows that a resource has under them.

https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server.outcome import Outcome
from fhir_server.spec import SearchParam, Spec

from .extraction import Extractor, Rows
from .params import Context
from .parse import parse
from .query import OF_THE_POINTER, Param, Query

_MAIN_DATES: Final = (
    *("authoredon", "date", "authored-on", "authored", "effective-time", "effective", "recorded-date", "recorded", "onset-date", "period", "started"),
    *("occurrence", "performed", "created", "issued", "sent", "whenhandedover", "datetime", "datewritten", "identified", "collected", "start-date"),
)
"""The date that a resource is looked at by, in the order of preference."""
_MAIN_CODES: Final = ("code", "vaccine-code", "class", "type", "category")
"""The token that a resource is looked for by, in the order of preference."""


class Registry:
    """The search parameters of the specification as one server knows them. Types are compiled when first used."""

    def __init__(
        self,
        spec: Spec,
        *,
        types: Mapping[str, int],
        pids: Mapping[tuple[str, str], int],
        zone: ZoneInfo,
        base_url_prefixes: tuple[str, ...] = (),
        added: Mapping[str, Mapping[str, SearchParam]] | None = None,
    ) -> None:
        """Takes the numbers that the database gave to types and to parameters by type and code; parameters without one are left out.

        `base_url_prefixes` are the server's own FHIR base URLs: references below them are local. `added` are parameters beside those of the
        specification, by type and code; they go before those of the same code.
        """
        self.spec = spec
        self.types = types
        self.zone = zone
        self._bases: set[str] = set()
        self.context = Context(spec, types, zone, self._bases)
        self.add_bases(base_url_prefixes)
        self._names = {number: name for name, number in types.items()}
        self._pids = pids
        self._added = added or {}
        self._compiled: dict[str, tuple[Extractor, Mapping[str, Param]]] = {}
        self._references: dict[str, Extractor] = {}

    def add_bases(self, base_url_prefixes: Iterable[str]) -> None:
        """Makes references below further FHIR base URLs local, from the next resource or query on."""
        self._bases.update(base.rstrip("/") + "/" for base in base_url_prefixes)

    def type_name(self, number: int) -> str:
        """The resource type of a number."""
        return self._names[number]

    def params(self, resource_type: str) -> Mapping[str, SearchParam]:
        """The definitions of a type's parameters by code, whether they work or not."""
        return {**self.spec.search_params(resource_type), **self._added.get(resource_type, {})}

    def supported_params(self, resource_type: str) -> Mapping[str, Param]:
        """The parameters of a type that work, by code."""
        return self._of(resource_type)[1]

    def unsupported(self, resource_type: str) -> Mapping[str, str]:
        """The parameters of a type that the specification has and this server has not, by code, each with the reason."""
        return self._of(resource_type)[0].failures

    def main_date(self, resource_type: str) -> str | None:
        """The code of the date parameter that rows pointing to a patient carry, None for types without one."""
        params = self.params(resource_type)
        return next((code for code in _MAIN_DATES if code in params and params[code].type == "date" and (resource_type, code) in self._pids), None)

    def main_code(self, resource_type: str) -> str | None:
        """The code of the token parameter that rows pointing to a patient carry, None for types without one."""
        params = self.params(resource_type)
        return next((code for code in _MAIN_CODES if code in params and params[code].type == "token" and (resource_type, code) in self._pids), None)

    def rows(self, resource: Mapping[str, Any]) -> Rows:
        """The index rows of a valid resource: by table, in the order of its columns without `rid`, systems as their URLs, no two alike.

        Dates and numbers are texts as PostgreSQL reads them. A missing system is the empty text. Tables without rows are left out.
        """
        return self._of(resource["resourceType"])[0].rows(resource)

    def references(self, resource: Mapping[str, Any], code: str = "*") -> list[tuple[str, str]]:
        """Type and id of every local resource that a reference parameter, or any for `*`, points to; each once."""
        name = resource["resourceType"]
        if name not in self._references:
            self._references[name] = Extractor(name, [entry for entry in self._numbered(name) if entry[1].type == "reference"], self.context)
        pid = None if code == "*" else self.supported_params(name)[code].pid
        found = self._references[name].rows(resource).get("sp_reference", ())
        return list(dict.fromkeys((self._names[row[2]], row[1]) for row in found if row[2] and pid in (None, row[0])))

    def reverse_includes(self, resource_type: str) -> list[str]:
        """What `_revinclude` may name to find resources that point to a type, such as `Observation:patient`."""
        return [
            f"{name}:{code}"
            for name in self.types
            for code, param in self.params(name).items()
            if param.type == "reference" and (not param.targets or resource_type in param.targets) and (name, code) in self._pids
        ]

    def parse(self, resource_type: str, params: Sequence[tuple[str, str]], *, strict: bool, now: datetime | None = None) -> Query:
        """The Query of decoded parameters in their order. `now` is what approximate dates are approximate to.

        Raises Outcome `parameter` for what cannot be understood, naming the parameter; for unknown ones under `strict` only.
        """
        if resource_type not in self.types:
            raise Outcome("not-found", f"'{resource_type}' is not a resource type of FHIR R4", code="not-supported")
        return parse(self._of, replace(self.context, now=now), resource_type, params, strict=strict)

    def _of(self, resource_type: str) -> tuple[Extractor, Mapping[str, Param]]:
        # Two threads may compile the same type; either result will do.
        found = self._compiled.get(resource_type)
        if found is None:
            found = self._compiled[resource_type] = self._compile(resource_type)
        return found

    def _compile(self, resource_type: str) -> tuple[Extractor, Mapping[str, Param]]:
        numbered = self._numbered(resource_type)
        main = [self._pids[resource_type, code] if code else None for code in (self.main_date(resource_type), self.main_code(resource_type))]
        extractor = Extractor(resource_type, numbered, self.context, *main)
        params = {
            param.code: Param(pid, param.code, param.type, param.url, extractor.targets.get(param.code, ()))
            for pid, param in numbered
            if param.code not in extractor.failures
        }
        for code in OF_THE_POINTER:
            param = self.params(resource_type)[code]
            params[code] = Param(0, code, param.type, param.url)
        return extractor, params

    def _numbered(self, resource_type: str) -> list[tuple[int, SearchParam]]:
        return [
            (self._pids[resource_type, code], param)
            for code, param in self.params(resource_type).items()
            if code not in OF_THE_POINTER and (resource_type, code) in self._pids
        ]
