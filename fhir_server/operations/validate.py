"""What a write would be told, without the write: `$validate`. https://hl7.org/fhir/R4/resource-operation-validate.html"""

from __future__ import annotations

from typing import Any

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.outcome import Issue, Outcome, operation_outcome


def validate(engine: Engine, exchange: Exchange) -> Reply:
    """200 and an OperationOutcome, with errors in it where the resource is not valid. Raises Outcome `malformed` where there is none."""
    name = engine.known_type(exchange.type)
    resource, mode = _input(engine, exchange)
    issues = engine.validator.check(resource, warnings=True)
    if resource["resourceType"] != name:
        issues = [Issue("error", "invalid", f"The resource is a {resource['resourceType']}, but the address is that of a {name}"), *issues]
    if mode == "create" and "id" in resource:
        issues.append(
            Issue("warning", "informational", "A create gives the resource an id of the server's; the one sent is dropped", (f"{name}.id",))
        )
    if mode == "update" and exchange.id is not None and resource.get("id") != exchange.id:
        issues.append(Issue("error", "invalid", f"An update of {name}/{exchange.id} needs this id in the resource", (f"{name}.id",)))
    return Reply(200, fhirjson.dumps(operation_outcome(issues)))


def _input(engine: Engine, exchange: Exchange) -> tuple[dict[str, Any], str | None]:
    """The resource to validate and the mode: from a Parameters body, from a bare resource, or what is stored."""
    mode = next((value for key, value in exchange.params if key == "mode"), None)
    body = exchange.body
    if isinstance(body, dict) and body.get("resourceType") == "Parameters" and exchange.type != "Parameters":
        parts = {part.get("name"): part for part in body.get("parameter", ()) if isinstance(part, dict)}
        body = parts.get("resource", {}).get("resource")
        mode = parts.get("mode", {}).get("valueCode", mode)
    if body is None and exchange.id is not None:
        with engine.store.latest(exchange.grant) as db:
            found = db.read(engine.known_type(exchange.type), exchange.id)
        body = fhirjson.loads(found.body) if found is not None and found.body is not None else None
    if not isinstance(body, dict) or "resourceType" not in body:
        raise Outcome("malformed", "There is no resource to validate: send it as the body, or as the parameter 'resource'", code="required")
    return body, mode
