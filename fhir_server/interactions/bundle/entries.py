"""The entries of a batch or transaction, each as the Exchange that it would be on its own. https://hl7.org/fhir/R4/bundle.html"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from fhir_server import fhirjson
from fhir_server.fhirdate import parse_instant
from fhir_server.interactions.engine import parse_parameters
from fhir_server.interactions.exchange import Exchange, Interaction
from fhir_server.outcome import Outcome

_ETAG: Final = re.compile(r'(?:W/)?"([^"]+)"')


def exchange_of(entry: Mapping[str, Any], parent: Exchange, at: str) -> Exchange:
    """The request of one entry. `at` is its place in the Bundle, for messages. Raises Outcome `malformed` for what is no request."""
    request = entry.get("request")
    if not isinstance(request, dict):
        raise Outcome("malformed", "The entry has no request", code="required", expression=f"{at}.request")
    method, url = request.get("method"), request.get("url")
    if not isinstance(method, str) or not isinstance(url, str):
        raise Outcome("malformed", "The request of an entry needs a method and a url", code="required", expression=f"{at}.request")
    path, _, query = url.removeprefix(parent.base + "/").partition("?")
    segments = [unquote(part) for part in path.strip("/").split("/") if part]
    if ":" in path or any(part.startswith("$") for part in segments):
        raise Outcome("not-implemented", f"'{url}' cannot be asked for in a Bundle", expression=f"{at}.request.url")
    exchange = replace(
        parent,
        interaction=_interaction(method, segments, at),
        type=segments[0] if segments and segments[0] != "_history" else None,
        id=segments[1] if len(segments) > 1 and segments[1] != "_history" else None,
        version=segments[3] if len(segments) == 4 else None,
        params=tuple(parse_parameters(query)),
        body=entry.get("resource"),
        if_match=_etag(request.get("ifMatch"), f"{at}.request.ifMatch"),
        if_none_match=_etags(request.get("ifNoneMatch"), f"{at}.request.ifNoneMatch"),
        if_modified_since=_since(request.get("ifModifiedSince"), f"{at}.request.ifModifiedSince"),
        if_none_exist=request.get("ifNoneExist"),
    )
    if exchange.interaction == "patch":
        return replace(exchange, body=_patch_body(exchange.body, f"{at}.resource"))
    if exchange.interaction in ("create", "update") and not isinstance(exchange.body, dict):
        raise Outcome("malformed", f"The entry has no resource to {exchange.interaction}", code="required", expression=f"{at}.resource")
    return exchange


def _interaction(method: str, segments: list[str], at: str) -> Interaction:
    depth = len(segments)
    found: Interaction | None = None
    if method in ("GET", "HEAD"):
        if segments and segments[-1] == "_history" and depth in (1, 2, 3):
            found = "history"
        elif depth == 4 and segments[2] == "_history":
            found = "vread"
        elif segments == ["metadata"]:
            found = "capabilities"
        elif depth <= 2:
            found = "read" if depth == 2 else "search"
    elif method == "POST" and depth == 1:
        found = "create"
    elif method in ("PUT", "PATCH", "DELETE") and depth in (1, 2):
        found = {"PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]  # type: ignore[assignment]  # the values are the literals
    if found is None:
        raise Outcome("malformed", f"{method} {'/'.join(segments) or '/'} is not an interaction", code="value", expression=f"{at}.request")
    return found


def _etag(value: Any, at: str) -> str | None:
    if value is None:
        return None
    match = _ETAG.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Outcome("malformed", f'\'{value}\' is not an ETag such as W/"1"', code="value", expression=at)
    return match[1]


def _etags(value: Any, at: str) -> tuple[str, ...]:
    if value is None:
        return ()
    return ("*",) if value == "*" else (str(_etag(value, at)),)


def _since(value: Any, at: str) -> datetime | None:
    if value is None:
        return None
    found = parse_instant(value) if isinstance(value, str) else None
    if found is None:
        raise Outcome("malformed", f"'{value}' is not an instant", code="value", expression=at)
    return found


def _patch_body(body: Any, at: str) -> Any:
    """A Parameters resource stays; a Binary with a JSON Patch is opened."""
    if isinstance(body, dict) and body.get("resourceType") == "Binary":
        try:
            return fhirjson.loads(base64.b64decode(body.get("data", ""), validate=True))
        except (binascii.Error, TypeError):
            raise Outcome("malformed", "The Binary of a patch is not base64", code="value", expression=f"{at}.data") from None
    return body
