"""What a code of one system is in another. https://hl7.org/fhir/R4/conceptmap-operation-translate.html"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.finding import find, prepared
from fhir_server.outcome import Outcome
from fhir_server.store import Snapshot

from .parameters import Inputs, Json, stored

_KNOWN: Final = (
    "url",
    "conceptMap",
    "conceptMapVersion",
    "code",
    "system",
    "version",
    "source",
    "coding",
    "codeableConcept",
    "target",
    "targetsystem",
)
_NOT: Final = frozenset({"unmatched", "disjoint"})
_TURNED: Final = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}
_MAPS: Final = "50"
_FOLLOWED: Final = 5
"""Maps that are looked at where each names the next for what it has not."""


class Match(NamedTuple):
    """A counterpart: how near it is, its coding, and the URL of the map that says so."""

    equivalence: str
    system: str
    code: str
    display: str
    source: str = ""


def translate(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters: `result`, and a `match` for each target, with `equivalence`, `concept` and the map as `source`.

    The map is that of the address, of `conceptMap` or of `url`; without any, each active one that the token may see for the system of the code.
    Raises Outcome `parameter` without a code, `not-found` for a `url` that no map has, `gone`.
    """
    given = Inputs(engine, exchange, (*_KNOWN, "reverse"), resource="conceptMap")
    codings = _codings(given)
    with engine.store.snapshot(exchange.grant) as db:
        made = _Translation(engine, exchange, db, given)
        maps = made.maps(codings)
        found = dict.fromkeys(match for each in maps for coding in codings for match in made.matches(each, coding))
    result = any(match.equivalence not in _NOT for match in found)
    parts: list[Json] = [{"name": "result", "valueBoolean": result}]
    if not result:
        parts.append({"name": "message", "valueString": "The code has no counterpart" if found else "No map that is here has this code"})
    parts += [{"name": "match", "part": _part(match)} for match in found]
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters", "parameter": parts}))


class _Translation:
    """One question."""

    def __init__(self, engine: Engine, exchange: Exchange, db: Snapshot, given: Inputs) -> None:
        self._engine = engine
        self._exchange = exchange
        self._db = db
        self._given = given
        self._backwards = given.flag("reverse")

    def maps(self, codings: list[tuple[str, str]]) -> list[Json]:
        """The maps that are asked. Raises Outcome `not-found`, `gone`."""
        own = stored(self._engine, self._exchange, self._db) or self._given.resource("conceptMap", "ConceptMap")
        if own is not None:
            return [own]
        url, version = self._given.text("url"), self._given.text("conceptMapVersion")
        if url is not None:
            found = self._sought(("url", url), *([("version", version)] if version else []))
            if not found:
                raise Outcome("not-found", f"The concept map '{url[:200]}' is not known here; load it as a ConceptMap resource")
            return found[:1]
        place = "target-system" if self._backwards else "source-system"
        systems = dict.fromkeys(system for system, _ in codings if system)
        return [each for system in systems for each in self._sought((place, system), ("status", "active"))]

    def matches(self, resource: Json, coding: tuple[str, str]) -> Iterator[Match]:
        """The counterparts of a code by a map, and by the one that it names for what it has not."""
        waiting: list[Json] = [resource]
        named: set[str] = set()
        while waiting:
            current = waiting.pop()
            for group in current.get("group", ()):
                if self._is_meant(group, coding[0]):
                    found = list(_back(group, coding[1]) if self._backwards else _forth(group, coding[1]))
                    if not found and not self._backwards:
                        found = _unmapped(group, coding[1])
                        waiting += self._next(group, named)
                    yield from (match._replace(source=current.get("url", "")) for match in found)

    def _is_meant(self, group: Json, system: str) -> bool:
        here, there = ("target", "source") if self._backwards else ("source", "target")
        return group.get(here, system) == (system or group.get(here, "")) and self._given.text("targetsystem") in (None, group.get(there))

    def _next(self, group: Json, named: set[str]) -> list[Json]:
        """The map that a group names for what it has not, each once."""
        rest = group.get("unmapped", {})
        url = rest.get("url", "").partition("|")[0] if rest.get("mode") == "other-map" else ""
        if not url or url in named or len(named) >= _FOLLOWED:
            return []
        named.add(url)
        return self._sought(("url", url))[:1]

    def _sought(self, *asked: tuple[str, str]) -> list[Json]:
        """Maps that meet a search, the newest first."""
        engine, grant = self._engine, self._exchange.grant
        escaped = [(name, value.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|")) for name, value in asked]
        query = engine.registry.parse("ConceptMap", [*escaped, ("_sort", "-_lastUpdated"), ("_count", _MAPS)], strict=True)
        return [fhirjson.loads(each.body) for each in find(engine, self._db, prepared(engine, self._db, query, grant), grant, None).found]


def _codings(given: Inputs) -> list[tuple[str, str]]:
    concept = given.object("codeableConcept") or {}
    listed = [given.object("coding") or {}, *concept.get("coding", ()), {"system": given.text("system"), "code": given.text("code")}]
    found = [(each.get("system") or "", each["code"]) for each in listed if each.get("code")]
    if not found:
        raise Outcome("parameter", "Say which code: code with system, coding, or codeableConcept", code="required")
    return found


def _forth(group: Json, code: str) -> Iterator[Match]:
    for element in group.get("element", ()):
        if element.get("code") == code:
            for target in element.get("target", ()):
                system = group.get("target", "") if "code" in target else ""
                yield Match(target["equivalence"], system, target.get("code", ""), target.get("display", ""))


def _back(group: Json, code: str) -> Iterator[Match]:
    for element in group.get("element", ()):
        for target in element.get("target", ()):
            if target.get("code") == code and "code" in element:
                equivalence = target["equivalence"]
                yield Match(_TURNED.get(equivalence, equivalence), group.get("source", ""), element["code"], element.get("display", ""))


def _unmapped(group: Json, code: str) -> list[Match]:
    rest = group.get("unmapped", {})
    match rest.get("mode"):
        case "provided":
            return [Match("equivalent", group.get("target", ""), code, "")]
        case "fixed":
            return [Match("relatedto", group.get("target", ""), rest.get("code", ""), rest.get("display", ""))]
    return []


def _part(match: Match) -> list[Json]:
    coded = {name: value for name, value in (("system", match.system), ("code", match.code), ("display", match.display)) if value}
    parts: list[Json] = [{"name": "equivalence", "valueCode": match.equivalence}]
    parts += [{"name": "concept", "valueCoding": coded}] if coded else []
    return [*parts, {"name": "source", "valueUri": match.source}] if match.source else parts
