"""What a write would be told, without the write: `$validate`. https://hl7.org/fhir/R4/resource-operation-validate.html"""

from __future__ import annotations

from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.profiles import claimed, profiles_of
from fhir_server.outcome import Issue, Outcome, operation_outcome
from fhir_server.search.definitions import faults

_BASE: Final = "http://hl7.org/fhir/StructureDefinition"
_MODES: Final = ("create", "update", "delete", "profile")


def validate(engine: Engine, exchange: Exchange) -> Reply:
    """200 and an OperationOutcome, with errors in it where the resource is not valid.

    Besides the specification it is held to `profile`, or else to the profiles that it and the resources in it claim in their meta, as far as they
    are here as StructureDefinitions. Raises Outcome `malformed` where there is no resource, `parameter` for an unknown mode or profile,
    `not-found` and `gone`.
    """
    name = engine.known_type(exchange.type)
    resource, mode, profile = _input(exchange)
    if mode is not None and mode not in _MODES:
        raise Outcome("parameter", f"mode is one of {', '.join(_MODES)}, not '{str(mode)[:80]}'", code="value")
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
    if all(issue.code != "too-costly" for issue in issues):
        issues += _checked(engine, exchange, resource, None if profile is None else str(profile))
    if mode == "create" and "id" in resource:
        issues.append(
            Issue("warning", "informational", "A create gives the resource an id of the server's; the one sent is dropped", (f"{name}.id",))
        )
    if mode == "update" and exchange.id is not None and resource.get("id") != exchange.id:
        issues.append(Issue("error", "invalid", f"An update of {name}/{exchange.id} needs this id in the resource", (f"{name}.id",)))
    return Reply(200, fhirjson.dumps(operation_outcome(issues)))


def _checked(engine: Engine, exchange: Exchange, resource: dict[str, Any], profile: str | None) -> list[Issue]:
    """The faults of a resource by the profile that is asked for, or else by those that it and the resources in it claim, and of its extensions.

    Raises Outcome `parameter` where the one that is asked for is not here.
    """
    with engine.store.snapshot(exchange.grant) as db:
        profiles = profiles_of(engine, db, exchange.grant)
        if profile is None or profile == f"{_BASE}/{exchange.type}":
            return _once([*claimed(profiles, resource), *profiles.extensions(resource)])
        if not profiles.knows(profile):
            told = f"The profile '{profile[:200]}' is not at hand to validate by; `package install` or a StructureDefinition brings it"
            raise Outcome("parameter", told, code="not-supported")
        return _once([*profiles.check(profile, resource), *profiles.extensions(resource)])


def _once(issues: list[Issue]) -> list[Issue]:
    """The issues without those that two ways have led to."""
    return list({(issue.diagnostics, issue.expression): issue for issue in issues}.values())


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
