"""The body of a request: read within bounds, inflated within bounds, decoded to values.

https://hl7.org/fhir/R4/http.html#mime-type, https://www.rfc-editor.org/rfc/rfc9110#section-8.4
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from fhir_server.interactions.engine import parse_parameters, read_json
from fhir_server.outcome import Outcome
from fhir_server.spec import Spec

from .negotiate import BodyKind, body_kind
from .xml import from_xml

_DIGITS: Final = 15  # Of a Content-Length that is worth reading as a number.
_GZIP: Final = 16 + zlib.MAX_WBITS
_FORM: Final = 4 * 1024 * 1024  # Bytes of a form: a search is short. 60 MB of escapes took 10 s to take apart.
_RESOURCE: Final[frozenset[BodyKind]] = frozenset({"json", "xml"})
_PATCH: Final[frozenset[BodyKind]] = frozenset({"json", "xml", "json-patch"})
_GRAPHQL: Final[frozenset[BodyKind]] = frozenset({"json", "xml", "graphql"})


def read_resource(spec: Spec, environ: dict[str, Any], limit: int, *, patch: bool = False, graphql: bool = False, optional: bool = False) -> Any:
    """The decoded resource, or with `patch` also the list of a JSON Patch, with `graphql` also the text of a query; None where it may be absent.

    Raises Outcome `media-type` (415) before anything is read, `too-large` (413) beyond `limit` bytes, as sent or inflated, `malformed` (400), and
    what the gateway has to say of a body that does not come: `timeout` (408), `unavailable` (503).
    """
    if optional and _is_absent(environ):
        return None
    kind = _kind(environ, _PATCH if patch else _GRAPHQL if graphql else _RESOURCE)
    data = _read(environ, limit)
    if not data.strip():
        if optional:
            return None
        raise Outcome("malformed", "The body is empty; a resource belongs there", code="required")
    if kind == "graphql":
        return _text(data)
    body = from_xml(spec, data) if kind == "xml" else read_json(data)
    if kind == "json-patch" and not isinstance(body, list):
        raise Outcome("malformed", "A JSON Patch document is an array of operations")
    if not patch and not isinstance(body, dict):
        raise Outcome("malformed", "The body is not a resource, which would be a JSON object")
    return body


def read_form(environ: dict[str, Any], limit: int) -> list[tuple[str, str]]:
    """The parameters of a form, in order; none for no body. Raises as `read_resource` does."""
    if _is_absent(environ):
        return []
    _kind(environ, frozenset({"form"}))
    try:
        return parse_parameters(_read(environ, min(limit, _FORM)).decode("ascii"))
    except UnicodeDecodeError:
        raise Outcome("malformed", "The form is not URL-encoded") from None


def read_bytes(environ: dict[str, Any], limit: int) -> bytes:
    """The body as it is, whose type the caller has looked at. Raises as `read_resource` does, `malformed` for an empty one too."""
    data = _read(environ, limit)
    if not data:
        raise Outcome("malformed", "The body is empty", code="required")
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Outcome("malformed", "The body is not UTF-8") from None


def _is_absent(environ: dict[str, Any]) -> bool:
    return environ.get("CONTENT_LENGTH") in {None, "", "0"} and "HTTP_TRANSFER_ENCODING" not in environ and not environ.get("CONTENT_TYPE")


def _kind(environ: dict[str, Any], expected: frozenset[BodyKind]) -> BodyKind:
    content_type = environ.get("CONTENT_TYPE", "")
    kind = body_kind(content_type)
    if kind not in expected:
        raise Outcome("media-type", f"A body of type {content_type[:80]} does not belong here; {' or '.join(sorted(expected))} does")
    return kind


def _read(environ: dict[str, Any], limit: int) -> bytes:
    coding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if coding not in {"identity", "gzip", "x-gzip", ""}:
        raise Outcome("media-type", f"The Content-Encoding {coding[:40]} is not known here; gzip is")
    declared = environ.get("CONTENT_LENGTH") or None
    if declared is not None and not (declared.isascii() and declared.isdigit()):
        raise Outcome("malformed", "The Content-Length is not a number")
    if declared is not None and (len(declared) > _DIGITS or int(declared) > limit):
        raise _too_large(limit)
    if declared is None and not environ.get("wsgi.input_terminated"):
        return b""
    data = _take(environ["wsgi.input"], limit + 1 if declared is None else int(declared))
    if len(data) > limit:
        raise _too_large(limit)
    if declared is not None and len(data) < int(declared):
        raise Outcome("malformed", "The body is shorter than its Content-Length says")
    return data if coding in {"identity", ""} else _inflate(data, limit)


def _take(stream: Any, most: int) -> bytes:
    parts = []
    while most > 0:
        try:
            part = stream.read(most)
        except (OSError, ValueError):
            raise Outcome("malformed", "The connection ended within the body") from None
        if not part:
            break
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _inflate(data: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        inflated = inflater.decompress(data, limit + 1)
    except zlib.error:
        raise Outcome("malformed", "The body is not gzip, though Content-Encoding says so") from None
    if len(inflated) > limit:
        raise _too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise Outcome("malformed", "The gzip body is cut off, or goes on after its end")
    return inflated


def _too_large(limit: int) -> Outcome:
    return Outcome("too-large", f"The body is larger than {limit} bytes, the most that is taken here; send less at a time")
