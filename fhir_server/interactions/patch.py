"""FHIR patch, by JSON Patch and by FHIRPath Patch, and its conditional form. https://hl7.org/fhir/R4/http.html#patch"""

from __future__ import annotations

from typing import Any

from fhir_server.outcome import Outcome
from fhir_server.store.ops import Patch

from .conditions import conditions
from .engine import Engine
from .exchange import Exchange, Reply
from .patching import fhirpath_patch, json_patch
from .writing import sees, write


def patch(engine: Engine, exchange: Exchange) -> Reply:
    """200 and the new version.

    Raises Outcome `not-found`, `gone`, `precondition`, `malformed` (no patch at all), `invalid` (what it makes is not valid).
    """
    return write(engine, exchange, patch_op(engine, exchange))


def patch_op(engine: Engine, exchange: Exchange) -> Patch:
    """The write that a patch asks for. A list is a JSON Patch, a Parameters resource a FHIRPath Patch.

    Raises Outcome `malformed` for what is neither. What cannot be applied is found when the write is done.
    """
    name, body = engine.known_type(exchange.type), exchange.body
    if not isinstance(body, list) and not (isinstance(body, dict) and body.get("resourceType") == "Parameters"):
        raise Outcome("malformed", "A patch is a JSON Patch document (an array) or a Parameters resource with a FHIRPath Patch")

    def apply(resource: dict[str, Any]) -> dict[str, Any]:
        if isinstance(body, list):
            return engine.checked(json_patch.apply(body, resource), name)
        return engine.checked(fhirpath_patch.apply(body, resource, engine.spec, engine.validator.budget()), name)

    def apply_unseen(resource: dict[str, Any]) -> dict[str, Any]:
        # Faults repeat values, of places that the patch may have copied from.
        try:
            return apply(resource)
        except Outcome as fault:
            raise Outcome(fault.category, f"The patch cannot be applied, or makes no valid {name}; only who may read it is told why") from None

    change = apply if sees(exchange.grant, name) else apply_unseen
    if exchange.id is None:
        return Patch(name, change, criteria=engine.criteria(name, conditions(exchange)), if_match=exchange.if_match)
    return Patch(name, change, exchange.id, if_match=exchange.if_match)
