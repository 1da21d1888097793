"""The entries of a batch or transaction, each as the Exchange that it would be on its own. https://hl7.org/fhir/R4/bundle.html"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from fhir_server.interactions.engine import parse_parameters, read_json
from fhir_server.interactions.exchange import Exchange, Interaction
from fhir_server.outcome import Outcome
from fhir_server.store.ids import ID_RULE, is_id

_READS: Final[dict[str, Interaction]] = {
    "": "search",
    "x": "search",
    "x/x/x": "search",
    "x/x": "read",
    "x/x/_history/x": "vread",
    "x/x/_history": "history",
    "x/_history": "history",
    "_history": "history",
}
_WRITES: Final[dict[tuple[str, str], Interaction]] = {
    ("POST", "x"): "create",
    ("PUT", "x"): "update",
    ("PUT", "x/x"): "update",
    ("PATCH", "x"): "patch",
    ("PATCH", "x/x"): "patch",
    ("DELETE", "x"): "delete",
    ("DELETE", "x/x"): "delete",
}
_OPERATED: Final = frozenset({"", "x", "x/x"})
"""What operations stand on: the system, a type, a resource."""
_SOUGHT: Final = frozenset({"", "x", "x/x/x"})
"""What `_search` stands on."""
_OPERATION: Final = re.compile(r"\$([A-Za-z][A-Za-z0-9\-]{0,63})")
_ETAG: Final = re.compile(r'(?:W/)?"([A-Za-z0-9\-.]{1,64})"')


def exchange_of(entry: Mapping[str, Any], parent: Exchange, at: str) -> Exchange:
    """The request of one entry. `at` is its place in the Bundle, for messages. Raises Outcome `malformed` for what is no request."""
    request = entry.get("request")
    if not isinstance(request, dict):
        raise Outcome("malformed", "The entry has no request", code="required", expression=f"{at}.request")
    method, url = text_of(request, "method", f"{at}.request"), text_of(request, "url", f"{at}.request")
    if method is None or url is None:
        raise Outcome("malformed", "The request of an entry needs a method and a url", code="required", expression=f"{at}.request")
    path, _, query = url.removeprefix(parent.base + "/").partition("?")
    segments = [unquote(part) for part in path.strip("/").split("/") if part]
    if ":" in path:
        raise Outcome("malformed", f"'{url[:200]}' cannot be asked for in a Bundle", code="not-supported", expression=f"{at}.request.url")
    interaction, operation, segments = _interaction(method, segments, at)
    exchange = replace(
        parent,
        interaction=interaction,
        type=_segment(segments, 0),
        id=_identity(_segment(segments, 1), at),
        version=_segment(segments, 3),
        member=_segment(segments, 2),
        params=tuple(pair for pair in parse_parameters(query) if pair[0] not in {"_format", "_pretty"}),
        body=entry.get("resource"),
        if_match=_etag(request.get("ifMatch"), f"{at}.request.ifMatch"),
        if_none_match=_etags(request.get("ifNoneMatch"), f"{at}.request.ifNoneMatch"),
        if_modified_since=_since(request.get("ifModifiedSince"), f"{at}.request.ifModifiedSince"),
        if_none_exist=text_of(request, "ifNoneExist", f"{at}.request"),
        method=method,
        operation=operation,
        # Each operation of a batch has a key of its own, so that one which was done is known when the batch comes again.
        key=None if parent.key is None else hashlib.sha256(f"{at}\n{parent.key}".encode()).hexdigest(),
    )
    text_of(entry, "fullUrl", at)
    if interaction in ("operation", "search"):
        return _asking(exchange, f"{at}.resource")
    if exchange.interaction == "patch":
        return replace(exchange, body=_patch_body(exchange.body, f"{at}.resource"))
    if exchange.interaction in ("create", "update") and not isinstance(exchange.body, dict):
        raise Outcome("malformed", f"The entry has no resource to {exchange.interaction}", code="required", expression=f"{at}.resource")
    return exchange


def text_of(node: Mapping[str, Any], name: str, at: str) -> str | None:
    """A property that is text or not there: entries are read before anything validates them. Raises Outcome `malformed` for anything else."""
    value = node.get(name)
    if value is not None and not isinstance(value, str):
        raise Outcome("malformed", f"The property '{name}' is a {type(value).__name__} where text belongs", code="value", expression=f"{at}.{name}")
    return value


def _identity(text: str | None, at: str) -> str | None:
    if text is None or is_id(text):
        return text
    raise Outcome("not-found", f"{text[:80]!a} is not an id: {ID_RULE}", code="value", expression=f"{at}.request.url")


def _segment(segments: list[str], place: int) -> str | None:
    """`Type`, `id` and version stand at the places 0, 1 and 3 of `Type/id/_history/version`, the type that is sought at 2 of `Type/id/Type`."""
    return segments[place] if len(segments) > place and segments[place] != "_history" else None


def _asking(exchange: Exchange, at: str) -> Exchange:
    """What is posted has a body, of which a search takes simple values; what is got has none."""
    if exchange.method != "POST" or exchange.body is None:
        return replace(exchange, body=None)
    body = exchange.body
    if not isinstance(body, dict):
        raise Outcome("malformed", "The resource of an entry is an object", code="value", expression=at)
    if exchange.interaction == "operation":
        return exchange
    # What is not understood would find more than was asked for.
    pairs = (
        [_pair(part) for part in body["parameter"]] if body.get("resourceType") == "Parameters" and isinstance(body.get("parameter"), list) else []
    )
    if not pairs or not all(pairs):
        raise Outcome("malformed", "The parameters of a search are in its url, or in Parameters that have a valueString each", expression=at)
    return replace(exchange, body=None, params=exchange.params + tuple(pair for pair in pairs if pair is not None))


def _pair(part: Any) -> tuple[str, str] | None:
    match part:
        case {"name": str(name), "valueString": str(value), **rest} if not rest:
            return name, value
    return None


def _interaction(method: str, segments: list[str], at: str) -> tuple[Interaction, str | None, list[str]]:
    """The interaction, the name of the operation that it may be, and the segments of what these are about."""
    last, before = (segments[-1], segments[:-1]) if segments else ("", [])
    operation = _OPERATION.fullmatch(last)
    if operation is not None and method in ("GET", "HEAD", "POST") and _shape(before) in _OPERATED:
        return "operation", operation[1], before
    if last == "_search" and method == "POST" and _shape(before) in _SOUGHT:
        return "search", None, before
    found = _READS.get(_shape(segments)) if method in ("GET", "HEAD") else _WRITES.get((method, _shape(segments)))
    if segments == ["metadata"] and found == "search":
        found = "capabilities"
    if found is None or last.startswith("$"):
        raise Outcome("malformed", f"{method[:20]} {'/'.join(segments)[:200] or '/'} is not an interaction", code="value", expression=f"{at}.request")
    return found, None, segments


def _shape(segments: list[str]) -> str:
    return "/".join("_history" if part == "_history" else "x" for part in segments)


def _etag(value: Any, at: str) -> str | None:
    if value is None:
        return None
    match = _ETAG.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Outcome("malformed", f"'{str(value)[:80]}' is not an ETag such as W/\"1\"", code="value", expression=at)
    return match[1]


def _etags(value: Any, at: str) -> tuple[str, ...]:
    if value is None:
        return ()
    return ("*",) if value == "*" else (str(_etag(value, at)),)


def _since(value: Any, at: str) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise Outcome("malformed", f"'{str(value)[:80]}' is not an instant", code="value", expression=at)
    return found


def _patch_body(body: Any, at: str) -> Any:
    """A Parameters resource stays; a Binary with a JSON Patch is opened."""
    if isinstance(body, dict) and body.get("resourceType") == "Binary":
        try:
            return read_json(base64.b64decode(body.get("data", ""), validate=True))
        except (ValueError, TypeError):
            raise Outcome("malformed", "The Binary of a patch is not base64", code="value", expression=f"{at}.data") from None
    return body
