"""The header X-Provenance: who made what a write brings, and from what. https://hl7.org/fhir/R4/provenance.html#header"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.outcome import Outcome

from .engine import Engine, read_json
from .exchange import Exchange

MAX_HEADER: Final = 32 * 1024
"""Bytes."""
_TARGET: Final = [{"reference": "Basic/to-be-known"}]


def provenance(engine: Engine, exchange: Exchange) -> dict[str, Any] | None:
    """The Provenance that came along, valid but for the target, which the store knows; None where none came.

    Raises Outcome `malformed`, `invalid`, `too-large`, and `forbidden` where the caller may not create Provenances.
    """
    text = exchange.provenance
    if text is None:
        return None
    if len(text) > MAX_HEADER:
        raise Outcome("too-large", f"X-Provenance is longer than {MAX_HEADER // 1024} KiB")
    resource = read_json(text)
    if not isinstance(resource, dict) or resource.get("resourceType") != "Provenance":
        raise Outcome("malformed", "X-Provenance is not a Provenance resource as JSON")
    if "target" in resource:
        raise Outcome("malformed", "The Provenance of X-Provenance has no target: the server puts in what is written", expression="Provenance.target")
    if not exchange.grant.allows("Provenance", "c"):
        raise Outcome("forbidden", "The token does not allow to create Provenance, as X-Provenance asks for")
    checked = engine.checked({**resource, "target": _TARGET}, "Provenance")
    return {name: value for name, value in checked.items() if name not in ("target", "id")}


def refuse_provenance(exchange: Exchange) -> None:
    """Raises Outcome `malformed` where one came along that no single version or transaction is to be known by."""
    if exchange.provenance is not None:
        raise Outcome("malformed", "X-Provenance goes with a create, update, patch or transaction, not with a delete or a batch")
