"""What a write would be told, without the write: `$validate`. https://hl7.org/fhir/R4/resource-operation-validate.html"""

from __future__ import annotations

from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.finding import find, prepared
from fhir_server.outcome import Issue, Outcome, operation_outcome
from fhir_server.search.definitions import faults
from fhir_server.validation.profiles import check

_BASE: Final = "http://hl7.org/fhir/StructureDefinition"
_CLAIMS: Final = 10
"""Profiles of a resource's meta that are looked at."""
_MODES: Final = ("create", "update", "delete", "profile")


def validate(engine: Engine, exchange: Exchange) -> Reply:
    """200 and an OperationOutcome, with errors in it where the resource is not valid.

    Besides the specification it is held to `profile`, or else to the profiles that it claims in its meta, as far as they are here as
    StructureDefinitions. Raises Outcome `malformed` where there is no resource, `parameter` for an unknown mode or profile, `not-found` and `gone`.
    """
    name = engine.known_type(exchange.type)
    resource, mode, profile = _input(exchange)
    if mode is not None and mode not in _MODES:
        raise Outcome("parameter", f"mode is one of {', '.join(_MODES)}, not '{str(mode)[:80]}'", code="value")
    named = _named(engine, exchange, name, profile)
    if resource is None and exchange.id is not None:
        resource = _stored(engine, exchange, name)
    if mode == "delete" and exchange.id is not None:
        return Reply(200, fhirjson.dumps(operation_outcome(())))
    if resource is None:
        raise Outcome("malformed", "There is no resource to validate: send it as the body, or as the parameter 'resource'", code="required")
    issues = engine.validator.check(resource, warnings=True)
    if resource.get("resourceType") == "SearchParameter" and all(issue.severity != "error" for issue in issues):
        issues = [*issues, *faults(resource, engine.registry)]
    if resource["resourceType"] != name:
        issues = [Issue("error", "invalid", f"The resource is a {resource['resourceType']}, but the address is that of a {name}"), *issues]
    issues += _held(engine, exchange, resource, named, issues)
    if mode == "create" and "id" in resource:
        issues.append(
            Issue("warning", "informational", "A create gives the resource an id of the server's; the one sent is dropped", (f"{name}.id",))
        )
    if mode == "update" and exchange.id is not None and resource.get("id") != exchange.id:
        issues.append(Issue("error", "invalid", f"An update of {name}/{exchange.id} needs this id in the resource", (f"{name}.id",)))
    return Reply(200, fhirjson.dumps(operation_outcome(issues)))


def _named(engine: Engine, exchange: Exchange, name: str, profile: Any) -> dict[str, Any] | None:
    """The profile that is asked for; None for none, and for that of the type itself."""
    if profile is None or profile == f"{_BASE}/{name}":
        return None
    found = _profile(engine, exchange, str(profile))
    if found is None:
        told = f"The profile '{str(profile)[:200]}' is not at hand to validate by; `package install` or a StructureDefinition brings it"
        raise Outcome("parameter", told, code="not-supported")
    return found


def _held(engine: Engine, exchange: Exchange, resource: dict[str, Any], named: dict[str, Any] | None, issues: list[Issue]) -> list[Issue]:
    """The faults of a resource by the profile that is asked for, or those that it claims; none where it is not valid anyway."""
    if any(issue.severity == "error" for issue in issues):
        return []
    profiles = _claimed(engine, exchange, resource) if named is None else [named]
    return [issue for profile in profiles for issue in check(profile, resource, engine.spec)]


def _claimed(engine: Engine, exchange: Exchange, resource: dict[str, Any]) -> list[dict[str, Any]]:
    """The profiles that a valid resource says it meets, as far as they are here."""
    claims = dict.fromkeys(resource.get("meta", {}).get("profile", ()))
    found = [_profile(engine, exchange, claim) for claim in list(claims)[:_CLAIMS] if claim != f"{_BASE}/{resource['resourceType']}"]
    return [each for each in found if each is not None]


def _profile(engine: Engine, exchange: Exchange, canonical: str) -> dict[str, Any] | None:
    """The StructureDefinition of a canonical URL, the newest where no version is named; None where the caller sees none."""
    if not exchange.grant.allows("StructureDefinition", "s"):
        return None
    url, _, version = canonical.partition("|")
    escaped = [(code, text.replace("\\", "\\\\").replace(",", "\\,")) for code, text in (("url", url), ("version", version)) if text]
    query = engine.registry.parse("StructureDefinition", [*escaped, ("_sort", "-_lastUpdated"), ("_count", "1")], strict=True)
    with engine.store.snapshot(exchange.grant) as db:
        page = find(engine, db, prepared(engine, db, query, exchange.grant), exchange.grant, None).found
    found: dict[str, Any] | None = fhirjson.loads(page[0].body) if page else None
    return found


def _input(exchange: Exchange) -> tuple[Any, Any, Any]:
    """Resource, mode and profile, None where not given: from a Parameters body, or from a bare resource and the query."""
    given = dict(exchange.params)
    body = exchange.body
    if isinstance(body, dict) and body.get("resourceType") == "Parameters" and (exchange.type != "Parameters" or _holds_resource(body)):
        parts = {part["name"]: part for part in _parts(body) if isinstance(part.get("name"), str)}
        body = parts.get("resource", {}).get("resource")
        mode = parts.get("mode", {})
        profile = parts.get("profile", {})
        return body, mode.get("valueCode", given.get("mode")), profile.get("valueUri", profile.get("valueCanonical", given.get("profile")))
    return body, given.get("mode"), given.get("profile")


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    parts = body.get("parameter")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _holds_resource(body: dict[str, Any]) -> bool:
    """Whether Parameters sent to the address of Parameters are those of the operation, and not themselves what is to be validated."""
    return any(part.get("name") == "resource" and isinstance(part.get("resource"), dict) for part in _parts(body))


def _stored(engine: Engine, exchange: Exchange, name: str) -> Any:
    with engine.store.latest(exchange.grant) as db:
        found = db.read(name, str(exchange.id))
    if found is None:
        raise Outcome("not-found", f"{name}/{exchange.id} does not exist")
    if found.body is None:
        raise Outcome("gone", f"{name}/{exchange.id} was deleted")
    return fhirjson.loads(found.body)
