"""What a code means, whether it exists, and whether it is above another.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html, https://hl7.org/fhir/R4/codesystem-operation-validate-code.html,
https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.terminology import terminology
from fhir_server.outcome import Outcome

from .parameters import Inputs, answer, stored

_IGNORED: Final = ("date", "displayLanguage", "property")


def lookup(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters with the name and version of the system, the code's display, and its properties, `parent` and `child` among them.

    Raises Outcome `parameter` for an unknown system, `not-found` for an unknown code.
    """
    given = Inputs(engine, exchange, ("code", "system", "version", "coding", *_IGNORED))
    system, code = _coding(given, "coding", given.text("system"), "code")
    with engine.store.snapshot(exchange.grant) as db:
        found = terminology(engine, db, exchange.grant).code_system(_versioned(system, given))
    concept = found.concepts.get(code)
    if concept is None:
        raise Outcome("not-found", f"The code system '{found.url}' has no code '{code[:100]}'")
    parts: list[dict[str, Any]] = [
        {"name": "name", "valueString": found.name or found.url},
        *([{"name": "version", "valueString": found.version}] if found.version else []),
        {"name": "display", "valueString": concept.display or code},
    ]
    names = sorted({"parent", "child", *concept.properties})
    listed = [(name, value) for name in names for value in sorted(found.values(concept, name))]
    for name, value in listed:
        kind = "valueCode" if name in {"parent", "child"} else "valueString"
        parts.append({"name": "property", "part": [{"name": "code", "valueCode": name}, {"name": "value", kind: value}]})
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters", "parameter": parts}))


def validate_code(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters with `result`, `message` and `display`. Raises Outcome `parameter` for an unknown system, `not-found`, `gone`."""
    given = Inputs(engine, exchange, ("url", "codeSystem", "code", "version", "display", "coding", *_IGNORED), resource="codeSystem")
    with engine.store.snapshot(exchange.grant) as db:
        resource = stored(engine, exchange, db) or given.resource("codeSystem", "CodeSystem")
        system, code = _coding(given, "coding", resource.get("url", "") if resource is not None else given.text("url"), "code")
        found = terminology(engine, db, exchange.grant).code_system(resource or _versioned(system, given))
    concept = found.concepts.get(code) if system == found.url else None
    if concept is None:
        return answer(("result", "Boolean", False), ("message", "String", f"The code system '{found.url}' has no code '{code[:100]}' of '{system}'"))
    text, display = given.text("display"), concept.display
    hint = f"The display is '{display}', not '{text[:200]}'" if text and display and text.lower() != display.lower() else None
    return answer(("result", "Boolean", True), ("message", "String", hint), ("display", "String", display))


def subsumes(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters with `outcome`: equivalent, subsumes, subsumed-by or not-subsumed. Raises Outcome `parameter`, `not-found`, `gone`."""
    given = Inputs(engine, exchange, ("codeA", "codeB", "system", "version", "codingA", "codingB"))
    with engine.store.snapshot(exchange.grant) as db:
        resource = stored(engine, exchange, db)
        named = given.text("system") if resource is None else str(resource.get("url", ""))
        (system, a), (other, b) = _coding(given, "codingA", named, "codeA"), _coding(given, "codingB", named, "codeB")
        if system != other:
            raise Outcome("parameter", f"The codes are of two systems: '{system[:200]}' and '{other[:200]}'")
        found = terminology(engine, db, exchange.grant).code_system(resource or _versioned(system, given))
    above, below = a in found.above(b), b in found.above(a)
    outcome = "equivalent" if a == b else "subsumes" if above else "subsumed-by" if below else "not-subsumed"
    return answer(("outcome", "Code", outcome))


def _coding(given: Inputs, coding: str, system: str | None, code: str) -> tuple[str, str]:
    """System and code: of a Coding, or a code with the system that is known from elsewhere."""
    whole: dict[str, Any] | None = given.object(coding)
    text = given.text(code)
    if (whole is None) is (text is None):
        raise Outcome("parameter", f"Give either {code} or {coding}", code="required")
    if whole is not None:
        system, text = whole.get("system"), whole.get("code")
    if not system or not text:
        raise Outcome("parameter", f"Give the code and its system, as {code} or as {coding}", code="required")
    return str(system), str(text)


def _versioned(system: str, given: Inputs) -> str:
    version = given.text("version")
    return f"{system}|{version}" if version else system
