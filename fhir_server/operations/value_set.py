"""The codes of a value set, and whether a code is one of them.

https://hl7.org/fhir/R4/valueset-operation-expand.html, https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.terminology import terminology
from fhir_server.outcome import Outcome
from fhir_server.store import instant
from fhir_server.terminology import Expansion, Terminology

from .parameters import Inputs, answer, stored

_WHICH: Final = ("url", "valueSet", "valueSetVersion")
# Asked for by clients as a matter of course; none of them changes which codes are in.
_IGNORED: Final = ("includeDesignations", "includeDefinition", "excludeNested", "displayLanguage", "date")


def expand(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the ValueSet with its expansion, system by system in the order of the code systems. `filter` are words that displays or codes hold.

    Raises Outcome `not-found`, `gone`, `parameter`, and what `Terminology.expand` raises; `too-costly` where all of a system is in whose codes
    are not here to be listed.
    """
    given = Inputs(engine, exchange, (*_WHICH, "filter", "count", "offset", *_IGNORED), resource="valueSet")
    count, offset, words = given.number("count"), given.number("offset") or 0, (given.text("filter") or "").lower().split()
    with engine.store.snapshot(exchange.grant) as db:
        known = terminology(engine, db, exchange.grant)
        resource = _value_set(engine, exchange, given, known, db)
        expansion = known.expand(resource)
        if expansion.systems:
            told = ", ".join(sorted(expansion.systems))[:500]
            raise Outcome("too-costly", f"All codes of {told} are in this value set, but they are not here to be listed")
        listed = [entry for entry in _entries(known, expansion) if _holds(entry, words)]
    page = listed[offset : None if count is None else offset + count]
    parts: dict[str, Any] = {"timestamp": instant(engine.store.clock()), "total": len(listed), "offset": offset}
    if page:
        parts["contains"] = page
    kept = {key: value for key, value in resource.items() if key not in {"text", "compose", "expansion", "contained"}}
    return Reply(200, fhirjson.dumps({"status": "active", **kept, "expansion": parts}))


def validate_code(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters with `result`, `message` and `display`, for a code with its system, a Coding, or any Coding of a CodeableConcept.

    Raises Outcome as `expand` does, but not for whole systems.
    """
    given = Inputs(engine, exchange, (*_WHICH, "code", "system", "display", "coding", "codeableConcept", *_IGNORED), resource="valueSet")
    with engine.store.snapshot(exchange.grant) as db:
        known = terminology(engine, db, exchange.grant)
        resource = _value_set(engine, exchange, given, known, db)
        expansion = known.expand(resource)
        pairs = list(_asked(given))
        found = next((pair for pair in pairs if pair in expansion), None)
        display = None if found is None else _display(known, expansion, found)
    if found is None:
        told = ", ".join(f"'{code}' of '{system}'" for system, code in pairs)[:500]
        message = f"Not in the value set '{resource.get('url') or exchange.id or 'given'}': {told}"
        return answer(("result", "Boolean", False), ("message", "String", message))
    text = given.text("display")
    hint = f"The display is '{display}', not '{text[:200]}'" if text and display and text.lower() != display.lower() else None
    return answer(("result", "Boolean", True), ("message", "String", hint), ("display", "String", display))


def _value_set(engine: Engine, exchange: Exchange, given: Inputs, known: Terminology, db: Any) -> Mapping[str, Any]:
    """The value set that the call is about."""
    ways = [stored(engine, exchange, db), given.resource("valueSet", "ValueSet"), given.text("url")]
    named = [way for way in ways if way is not None]
    if len(named) != 1:
        raise Outcome("parameter", "Name one value set: by url, as the parameter valueSet, or by the address ValueSet/[id]", code="required")
    if not isinstance(named[0], str):
        return named[0]
    version = given.text("valueSetVersion")
    return known.value_set(f"{named[0]}|{version}" if version else named[0])


def _asked(given: Inputs) -> Iterator[tuple[str, str]]:
    code, coding, concept = given.text("code"), given.object("coding"), given.object("codeableConcept")
    if sum(way is not None for way in (code, coding, concept)) != 1:
        raise Outcome("parameter", "Give one of code (with its system), coding and codeableConcept", code="required")
    system = given.text("system")
    if code is not None and system is None:
        raise Outcome("parameter", "Give the system of the code", code="required")
    for each in [{"system": system, "code": code}] if code is not None else [coding or {}] if concept is None else concept.get("coding", ()):
        yield str(each.get("system", "")), str(each.get("code", ""))


def _entries(known: Terminology, expansion: Expansion) -> Iterator[dict[str, str]]:
    places: dict[str, dict[str, int]] = {}
    for system in {system for system, _ in expansion.codes}:
        found = known.system(system)
        places[system] = {} if found is None else {code: place for place, code in enumerate(found.concepts)}
    for pair in sorted(expansion.codes, key=lambda pair: (pair[0], places[pair[0]].get(pair[1], len(places[pair[0]])), pair[1])):
        entry = {"system": pair[0], "code": pair[1]}
        display = _display(known, expansion, pair)
        yield entry if display is None else entry | {"display": display}


def _display(known: Terminology, expansion: Expansion, pair: tuple[str, str]) -> str | None:
    if pair in expansion.displays:
        return expansion.displays[pair]
    system = known.system(pair[0])
    concept = None if system is None else system.concepts.get(pair[1])
    return None if concept is None else concept.display


def _holds(entry: Mapping[str, str], words: list[str]) -> bool:
    text = f"{entry['code']} {entry.get('display', '')}".lower()
    return all(word in text for word in words)
