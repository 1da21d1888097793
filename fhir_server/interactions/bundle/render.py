"""Bundles as bytes: stored JSON is joined, never parsed and written again. https://hl7.org/fhir/R4/bundle.html"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fhir_server import fhirjson
from fhir_server.interactions.exchange import Exchange, Reply
from fhir_server.outcome import Outcome, operation_outcome
from fhir_server.store import instant


def bundle_response(kind: str, entries: Sequence[bytes]) -> Reply:
    """The answer to a batch or transaction."""
    inner = b',"entry":[' + b",".join(entries) + b"]" if entries else b""
    return Reply(200, b'{"resourceType":"Bundle","type":"' + kind.encode() + b'"' + inner + b"}")


def entry_response(exchange: Exchange, reply: Reply) -> bytes:
    """One entry of a response: status, location, etag, lastModified; the resource for reads, and for writes where Prefer asks for it.

    What is no resource, as the PDF of an operation, is put into a Binary. https://hl7.org/fhir/R4/binary.html
    """
    response: dict[str, Any] = {"status": _status(reply.status)}
    writes = exchange.interaction in ("create", "update", "patch", "delete")
    if reply.id is not None and (writes or reply.status == HTTPStatus.CREATED):
        response["location"] = f"{reply.type}/{reply.id}/_history/{reply.version}"
    elif place := dict(reply.headers).get("Content-Location"):
        response["location"] = place
    if reply.version is not None:
        response["etag"] = f'W/"{reply.version}"'
    if reply.last_modified is not None:
        response["lastModified"] = instant(reply.last_modified)
    if writes and exchange.returning == "OperationOutcome":
        response["outcome"] = operation_outcome(reply.issues)
    parts = []
    if reply.body is not None and (not writes or exchange.returning == "representation"):
        if reply.id is not None:
            parts.append(b'"fullUrl":' + fhirjson.dumps(f"{exchange.base}/{reply.type}/{reply.id}"))
        parts.append(b'"resource":' + (reply.body if reply.content_type is None else _binary(reply.content_type, reply.body)))
    parts.append(b'"response":' + fhirjson.dumps(response))
    return b"{" + b",".join(parts) + b"}"


def failed_entry(outcome: Outcome) -> bytes:
    """One entry of a batch response that was refused."""
    return fhirjson.dumps({"response": {"status": _status(outcome.status), "outcome": outcome.as_json()}})


def _binary(content_type: str, content: bytes) -> bytes:
    return b'{"resourceType":"Binary","contentType":' + fhirjson.dumps(content_type) + b',"data":"' + b64encode(content) + b'"}'


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
