"""FHIR capabilities, generated from what is registered, so that nothing is stated that does not work. https://hl7.org/fhir/R4/http.html#capabilities"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from fhir_server import fhirjson
from fhir_server.access.apps import endpoints
from fhir_server.search import Registry
from fhir_server.store import instant

from .engine import Engine
from .exchange import Exchange, Reply
from .read import shaped
from .supported import supported

_STARTED = datetime.now(UTC)
_ROOT = "\N{SYMBOL FOR NULL}"  # Holds the place of the server's address; stands nowhere else.
_SMART = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_PLACES = {"authorize": "authorization", "token": "token", "register": "registration", "introspect": "introspection", "revoke": "revocation"}
"""Names of https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html#declaring-support-for-oauth2-endpoints, and ours."""
_OF_ALL = {"_type": "token", "_has": "string", "_list": "token", "_filter": "special", "_contained": "token", "_containedType": "token"}
"""Search parameters without a definition of their own, or for searches of several types."""
_INTERACTIONS = ("read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type")

_APPENDED: dict[str, Any] = {
    "interaction": [{"code": code} for code in ("read", "vread", "history-instance", "create", "search-type")],
    "versioning": "versioned",
    "updateCreate": False,
    "conditionalCreate": False,
    "conditionalUpdate": False,
    "conditionalDelete": "not-supported",
    "searchInclude": [],
    "searchRevInclude": [],
}
"""What is different for AuditEvent, which is only ever added to."""


def capabilities(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the CapabilityStatement of this server at the base it was asked at; 304 where the caller has it."""
    parts, digest = _statement(engine.registry, _listed(engine.operations), supported(engine))
    tag = hashlib.blake2b(digest + exchange.base.encode(), digest_size=8).hexdigest()
    if tag in exchange.if_none_match or "*" in exchange.if_none_match:
        return Reply(304, version=tag)
    root = fhirjson.dumps(exchange.base.removesuffix("/fhir"))[1:-1]
    return Reply(200, shaped(engine, exchange, root.join(parts)), version=tag)


@lru_cache(maxsize=2)
def _statement(registry: Registry, operations: tuple[tuple[str, str, str], ...], profiles: tuple[tuple[str, str], ...]) -> tuple[list[bytes], bytes]:
    """The JSON around the places of the server's address, and a digest that is the same in every process that states the same.

    It takes 54 ms to make, and anybody may ask under any name of a host: so only the address is put in for each.
    """
    spec = registry.spec
    statement = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(_STARTED),
        "kind": "instance",
        "software": {"name": "fhir-server", "version": version("fhir-server")},
        "implementation": {"description": "A clinic's FHIR server", "url": f"{_ROOT}/fhir"},
        "fhirVersion": spec.version,
        "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
        "patchFormat": ["application/json-patch+json", "application/fhir+json", "application/fhir+xml"],
        "rest": [
            {
                "mode": "server",
                "security": _security(),
                "resource": [_resource(registry, name) | _profiled(profiles, name) | _offered(operations, name) for name in spec.resource_types],
                "interaction": [{"code": code} for code in ("transaction", "batch", "search-system", "history-system")],
                **_offered(operations, ""),
                "searchParam": [{"name": name, "type": kind} for name, kind in _OF_ALL.items()],
            }
        ],
    }
    digest = hashlib.blake2b(fhirjson.dumps({**statement, "date": ""}), digest_size=8).digest()
    return fhirjson.dumps(statement).split(_ROOT.encode()), digest


def _security() -> dict[str, Any]:
    places = endpoints(_ROOT)
    uris = [{"url": name, "valueUri": places[f"{ours}_endpoint"]} for name, ours in _PLACES.items()]
    return {
        "extension": [{"url": _SMART, "extension": uris}],
        "cors": True,
        "service": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}]}],
        "description": "Every request but this one needs a bearer token; apps and backend services get theirs by SMART App Launch.",
    }


def _listed(operations: Mapping[str, Mapping[str, str]]) -> tuple[tuple[str, str, str], ...]:
    return tuple(sorted((resource_type, name, url) for resource_type, named in operations.items() for name, url in named.items()))


def _profiled(profiles: tuple[tuple[str, str], ...], name: str) -> dict[str, Any]:
    found = [url for resource_type, url in profiles if resource_type == name]
    return {"supportedProfile": found} if found else {}


def _offered(operations: tuple[tuple[str, str, str], ...], name: str) -> dict[str, Any]:
    found = [
        {"name": operation, "definition": url}
        for resource_type, operation, url in operations
        if resource_type == name or (resource_type == "Resource" and name)
    ]
    return {"operation": found} if found else {}


def _resource(registry: Registry, name: str) -> dict[str, Any]:
    stated = _stated(registry, name)
    if name == "AuditEvent":
        # Empty lists are no FHIR.
        return {key: value for key, value in (stated | _APPENDED).items() if value != []}
    return stated


def _stated(registry: Registry, name: str) -> dict[str, Any]:
    supported = registry.supported_params(name)
    named = {code: param for code, param in supported.items() if ":" not in code}
    includes = [f"{name}:{code}" for code, param in supported.items() if param.type == "reference"]
    return {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "multiple",
        "referencePolicy": ["literal", "logical", "local"],
        "searchInclude": ["*", *includes],
        "searchRevInclude": registry.reverse_includes(name),
        "searchParam": [{"name": code, "definition": param.url, "type": param.type} for code, param in sorted(named.items())],
    }
