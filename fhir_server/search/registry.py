"""What can be searched: the parameters of every resource type, their numbers, and the rows that a resource has under them.

https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from fhir_server.outcome import Outcome
from fhir_server.spec import SearchParam, Spec
from fhir_server.spec.model import SearchType

from .extraction import Extractor
from .params import DERIVED, Context, words
from .params.derived import derived
from .parse import parse, system_types
from .query import OF_THE_POINTER, Chain, Criterion, Filter, Param, Query
from .tree import Rows
from .within import inside, members

ADDED_FROM: Final = 16_384
"""From here up are the numbers of parameters that came at run time, and of those of the specification that came back: they keep all their rows."""
_MAX_CONDITIONS: Final = 1_000
_MAIN_DATES: Final = (
    *("authoredon", "date", "authored-on", "authored", "effective-time", "effective", "recorded-date", "recorded", "onset-date", "period", "started"),
    *("occurrence", "performed", "created", "issued", "sent", "whenhandedover", "datetime", "datewritten", "identified", "collected", "start-date"),
)
"""The date that a resource is looked at by, in the order of preference."""
_MAIN_CODES: Final = ("code", "vaccine-code", "class", "type", "category")
"""The token that a resource is looked for by, in the order of preference."""
_OF_AN_EXTENSION: Final = re.compile(r"[A-Z][A-Za-z]*(\.extension\('[^']*'\))+\.value")
"""An expression that gives the value of an extension, or of one within it, and nothing else."""


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
        coming: Mapping[str, Mapping[int, SearchParam]] | None = None,
        progress: Callable[[int], str] = lambda _pid: "",
    ) -> None:
        """Takes the numbers that the database gave to types and to parameters by type and code; parameters without one are left out.

        `base_url_prefixes` are the server's own FHIR base URLs: references below them are local. `added` are parameters beside those of the
        specification, by type and code; they go before those of the same code. `coming` are those whose rows are still being made, by type and
        number: resources get rows under them, but nobody can search by them. `progress` tells of such a number how far that is, as ", 40 % done".
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
        self._coming = coming or {}
        self._progress = progress
        self._conditions: dict[tuple[str, str], tuple[Filter, ...]] = {}
        self._telling: dict[tuple[str, frozenset[str]], frozenset[int]] = {}
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

    def canonical(self, resource_type: str) -> Param | None:
        """The parameter of the URL by which resources of a type are referred to beside their id; None for types that are not canonical."""
        found = self.supported_params(resource_type)
        # Device and Subscription have a parameter of the same name, for an address on a network.
        return found["url"] if "url" in found and "version" in found and found["url"].type == "uri" else None

    def main_date(self, resource_type: str) -> str | None:
        """The code of the date parameter that rows pointing to a patient carry, None for types without one."""
        params = self.spec.search_params(resource_type)
        return next((code for code in _MAIN_DATES if code in params and params[code].type == "date" and (resource_type, code) in self._pids), None)

    def main_code(self, resource_type: str) -> str | None:
        """The code of the token parameter that rows pointing to a patient carry, None for types without one."""
        params = self.spec.search_params(resource_type)
        return next((code for code in _MAIN_CODES if code in params and params[code].type == "token" and (resource_type, code) in self._pids), None)

    def rows(self, resource: Mapping[str, Any]) -> Rows:
        """The index rows of a valid resource: by table, in the order of its columns without `rid`, systems as their URLs, no two alike.

        Dates and numbers are texts as PostgreSQL reads them. A missing system is the empty text. Tables without rows are left out. Rows of contained
        resources are under the negative numbers of their own type's parameters.
        """
        extractor = self._of(resource["resourceType"])[0]
        if "contained" not in resource:
            return extractor.rows(resource)
        within = [inner for inner in resource["contained"] if inner["resourceType"] in self.types]
        return extractor.rows(resource, [(self._of(inner["resourceType"])[0], inner) for inner in within])

    def references(self, resource: Mapping[str, Any], code: str = "*") -> list[tuple[str, str]]:
        """Type and id of every local resource that a reference parameter, or any for `*`, points to; each once."""
        return list(dict.fromkeys((self._names[row[2]], row[1]) for row in self._pointing(resource, code) if row[2]))

    def canonicals(self, resource: Mapping[str, Any], code: str = "*") -> list[tuple[str, str]]:
        """Type and URL, with its version if it has one, of every canonical resource that it may point to in the same way; each once."""
        name = resource["resourceType"]
        params = {self._pids[name, param.code]: param for param in self.referring(name, code)}
        found = [row for row in self._pointing(resource, code) if not row[2]]
        versioned = {(row[0], row[1].partition("|")[0]) for row in found if "|" in row[1]}
        urls = [row for row in found if (row[0], row[1]) not in versioned]
        return list(dict.fromkeys((target, row[1]) for row in urls for target in params[row[0]].targets if self.canonical(target)))

    def _pointing(self, resource: Mapping[str, Any], code: str) -> list[tuple[Any, ...]]:
        name = resource["resourceType"]
        if name not in self._references:
            pointing = [(pid, param) for pid, param in self._numbered(name) if param.type == "reference" and ":" not in param.code]
            self._references[name] = Extractor(name, pointing, self.context)
        # Here all have rows of their own.
        pid = None if code == "*" else self._pids[name, code]
        return [row for row in self._references[name].rows(resource).get("sp_reference", ()) if pid in (None, row[0])]

    def reverse_includes(self, resource_type: str) -> list[str]:
        """What `_revinclude` may name to find resources that point to a type, such as `Observation:patient`."""
        return [
            f"{name}:{code}"
            for name in self.types
            for code, param in self.params(name).items()
            if param.type == "reference" and (not param.targets or resource_type in param.targets) and (name, code) in self._pids
        ]

    def referring(self, resource_type: str, code: str = "*") -> list[Param]:
        """The reference parameters of a type: the one of a code if there is one, or all."""
        found = self.supported_params(resource_type)
        named = found.values() if code == "*" else [found[code]] if code in found else []
        return [param for param in named if param.type == "reference"]

    def leaning(self, resource_type: str, code: str) -> list[str]:
        """The parameters of a type, by code, that leave rows to the one of this code."""
        own = self._pids.get((resource_type, code))
        return [other for other, param in self.supported_params(resource_type).items() if other not in (code, words.NARRATIVE) and own in param.pids]

    def telling_of(self, resource_type: str, elements: frozenset[str]) -> frozenset[int]:
        """The numbers of a type's parameters whose rows tell of some of its elements."""
        key = (resource_type, elements)
        if key not in self._telling:
            self._telling[key] = self._found_telling(resource_type, elements)
        return self._telling[key]

    def _found_telling(self, resource_type: str, elements: frozenset[str]) -> frozenset[int]:
        paths = tuple(f"{resource_type}.{element}" for element in elements)
        found: set[int] = set()
        for code, param in self.supported_params(resource_type).items():
            name = code.partition(":")[0]
            added, stated = self._added.get(resource_type, {}).get(name), self.spec.search_params(resource_type).get(name)
            if added is not None:
                # What was added at run time may look anywhere, unless it plainly looks into an extension, as of the queue.
                tells = not all(_OF_AN_EXTENSION.fullmatch(part.strip()) for part in (added.expression or "").split("|"))
            else:
                # Words are of the whole resource.
                tells = code in (words.CONTENT, words.NARRATIVE) or stated is None or any(path in (stated.expression or "") for path in paths)
            if tells:
                # What has no rows of its own is searched under the numbers of others, which tell by themselves.
                found.update(pid for pid in param.pids if added is not None or pid == self._pids.get((resource_type, code)))
        return frozenset(found)

    def condition(self, resource_type: str, query: str) -> tuple[Filter, ...]:
        """The filters of a grant's query on a type: parameters of the resource's own rows, and chains. None for a query that means nothing here."""
        key = (resource_type, query)
        if key not in self._conditions:
            try:
                filters = self.parse(resource_type, parse_qsl(query, keep_blank_values=True, max_num_fields=20), strict=True).filters
            except (Outcome, ValueError):
                filters = ()
            own = all((isinstance(node, Criterion) and node.param.pid) or isinstance(node, Chain) for node in filters)
            if len(self._conditions) > _MAX_CONDITIONS:
                self._conditions.clear()
            self._conditions[key] = filters if own else ()
        return self._conditions[key]

    def parse(
        self,
        resource_type: str | None,
        params: Sequence[tuple[str, str]],
        *,
        strict: bool,
        now: datetime | None = None,
        compartment: tuple[str, str] | None = None,
    ) -> Query:
        """The Query of decoded parameters in their order: for a type, for all where it is None, within the compartment of a type and id if given.

        `now` is what approximate dates are approximate to.
        Raises Outcome `not-found` for what cannot be searched, and `parameter` for what cannot be understood, naming the parameter; for unknown
        ones under `strict` only.
        """
        if resource_type is not None and resource_type not in self.types:
            raise Outcome("not-found", f"'{resource_type}' is not a resource type of FHIR R4", code="not-supported")
        if resource_type is not None:
            self._refuse_coming(resource_type, params)
        context = replace(self.context, now=now)
        if compartment is None:
            if resource_type is not None:
                return parse(self._of, context, (resource_type,), params, strict=strict)
            return parse(self._of, context, system_types(tuple(self.types), params), params, strict=strict, path="")
        types = members(self.spec, compartment[0], resource_type)
        if resource_type is None:
            types = system_types(types, params)
        filtered = inside(self.spec, self.supported_params, self.types[compartment[0]], compartment, types)
        path = f"{compartment[0]}/{compartment[1]}/{resource_type or '*'}"
        return parse(self._of, context, types, params, strict=strict, within=filtered, path=path)

    def _refuse_coming(self, resource_type: str, params: Sequence[tuple[str, str]]) -> None:
        for pid, param in self._coming.get(resource_type, {}).items():
            if (resource_type, param.code) not in self._pids and any(re.split("[:.]", name, maxsplit=1)[0] == param.code for name, _ in params):
                raise Outcome(
                    "parameter", f"'{param.code}' of {resource_type} is being indexed{self._progress(pid)}; try again later", code="transient"
                )

    def _of(self, resource_type: str) -> tuple[Extractor, Mapping[str, Param]]:
        # Two threads may compile the same type; either result will do.
        found = self._compiled.get(resource_type)
        if found is None:
            found = self._compiled[resource_type] = self._compile(resource_type)
        return found

    def _compile(self, resource_type: str) -> tuple[Extractor, Mapping[str, Param]]:
        numbered = self._numbered(resource_type)
        main_date, main_code = (
            self._pids[resource_type, code] if code else None for code in (self.main_date(resource_type), self.main_code(resource_type))
        )
        coming = self._coming.get(resource_type, {}).items()
        sharing = {pid for pid, _ in numbered if pid < ADDED_FROM}
        extractor = Extractor(resource_type, numbered, self.context, main_date, main_code, coming, sharing)
        params = {param.code: _param(pid, param, extractor) for pid, param in numbered if param.code in extractor.targets}
        if words.CONTENT in params and words.NARRATIVE in self.params(resource_type):
            narrative = self.params(resource_type)[words.NARRATIVE]
            params[words.NARRATIVE] = replace(params[words.CONTENT], code=narrative.code, url=narrative.url)
        for code in OF_THE_POINTER:
            param = self.params(resource_type)[code]
            params[code] = Param(0, code, param.type, param.url)
        return extractor, params

    def _numbered(self, resource_type: str) -> list[tuple[int, SearchParam]]:
        own = [param for code, param in self.params(resource_type).items() if code not in OF_THE_POINTER and code != words.NARRATIVE]
        found = [param for stated in own for param in (stated, *derived(stated))]
        return [(self._pids[resource_type, param.code], param) for param in found if (resource_type, param.code) in self._pids]


def _param(own: int, param: SearchParam, extractor: Extractor) -> Param:
    pid, *others = extractor.standing.get(own, (own,))
    elsewhere = tuple(each for each in extractor.elsewhere if each[0] in (pid, *others))
    parts = tuple(Param(0, part.code, part.type, part.url, part.targets) for part in extractor.parts.get(param.code, ()))
    targets = extractor.targets[param.code]
    return Param(pid, param.code, _compared_as(param), param.url, targets, parts, tuple(others), elsewhere, parted=bool(others))


def _compared_as(param: SearchParam) -> SearchType:
    """The type that a parameter is for whoever asks by it."""
    if ":" in param.code:
        return DERIVED[param.code.partition(":")[2]].type
    return "special" if param.code == words.CONTENT else param.type
