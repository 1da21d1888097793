"""From a Reply or a fault to an HTTP response.

https://hl7.org/fhir/R4/http.html#ops, https://hl7.org/fhir/R4/http.html#Status-Codes, https://hl7.org/fhir/R4/http.html#versions
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

from flask import Response
from werkzeug.exceptions import HTTPException

from fhir_server import fhirjson
from fhir_server.interactions import Exchange, Reply
from fhir_server.interactions.exchange import Returning
from fhir_server.outcome import Category, Outcome, operation_outcome
from fhir_server.spec import Spec, r4

from .negotiate import CONTENT_TYPE, Format
from .xml import to_xml

GZIP_FROM: Final = 16 * 1024
"""Bytes from which an answer is compressed when asked: level 1 takes 6 µs per kB and leaves about an eighth of a search page."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_COMMON: Final = (
    ("Cache-Control", "private, no-cache"),
    ("Vary", "Accept, Accept-Encoding, Authorization, Prefer"),
    ("X-Content-Type-Options", "nosniff"),
    # A browser shows XML with the narratives in it: nothing there may run, load or be framed.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
)
_WRITES: Final = frozenset({"create", "update", "patch", "delete"})
_READS: Final = frozenset({"read", "vread"})
_ROOT: Final = "\N{SYMBOL FOR NULL}"  # Holds the place of the server's address in a CapabilityStatement.
_RETRY: Final = {429: "5", 503: "2"}
_HTTP_FAULTS: Final[dict[int, Category]] = {
    404: "not-found",
    405: "method",
    406: "not-acceptable",
    408: "timeout",
    411: "malformed",
    413: "too-large",
    415: "media-type",
    501: "not-implemented",
}


class Shape(NamedTuple):
    """How an answer is written."""

    format: Format = "json"
    pretty: bool = False
    gzip: bool = False


class Answer(Response):
    """A response whose bytes and headers are final: spares the checks of a general one."""

    default_mimetype = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The WSGI application that sends it."""
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.response  # type: ignore[return-value]


def reply_response(spec: Spec, reply: Reply, shape: Shape, exchange: Exchange) -> Response:
    """The response to an interaction: status, body as `Prefer` asks, ETag, Last-Modified, and Location or Content-Location.

    Raises Outcome `not-acceptable` where XML is asked for and the content has no XML form.
    """
    status, body, action = reply.status, reply.body, exchange.interaction
    if exchange.returning is not None and action in _WRITES:
        status, body = _as_preferred(reply, exchange.returning)
    headers = [*_COMMON, *reply.headers]
    if reply.version is not None:
        headers.append(("ETag", f'W/"{reply.version}"'))
    if reply.last_modified is not None:
        headers.append(("Last-Modified", http_date(reply.last_modified)))
    if reply.id is not None and reply.version is not None:
        address = f"{exchange.base}/{reply.type}/{reply.id}/_history/{reply.version}"
        if action == "create" or status == 201:  # noqa: PLR2004 - Created
            headers.append(("Location", address))
        elif action in _READS:
            headers.append(("Content-Location", address))
    if reply.content_type is not None:
        return _packed(status, body or b"", reply.content_type, shape, headers)
    return _response(spec, status, body, shape, headers, exchange.base if action == "capabilities" else None)


def fault_response(spec: Spec, outcome: Outcome, shape: Shape) -> Response:
    """The response to a fault: its OperationOutcome with its status and headers."""
    headers = [*_COMMON, *outcome.headers.items()]
    if outcome.status in _RETRY and "Retry-After" not in outcome.headers:
        headers.append(("Retry-After", _RETRY[outcome.status]))
    return _response(spec, outcome.status, fhirjson.dumps(outcome.as_json()), shape, headers)


def from_http_exception(error: HTTPException) -> Outcome:
    """The Outcome that says the same."""
    status = error.code or 500
    category = _HTTP_FAULTS.get(status, "malformed" if status < 500 else "internal")  # noqa: PLR2004 - the border between the two sides
    allow = {name: value for name, value in error.get_headers() if name == "Allow"}
    return Outcome(category, error.description or error.name, headers=allow)


def http_date(moment: datetime) -> str:
    """A moment as HTTP writes it, to the second: `Sun, 06 Nov 1994 08:49:37 GMT`."""
    at = moment.astimezone(UTC)
    return f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at.hour:02}:{at.minute:02}:{at.second:02} GMT"


def _as_preferred(reply: Reply, returning: Returning) -> tuple[int, bytes | None]:
    if returning == "minimal":
        return reply.status, None
    if returning == "OperationOutcome":
        return 200 if reply.status == 204 else reply.status, fhirjson.dumps(operation_outcome(reply.issues))  # noqa: PLR2004 - No Content
    return reply.status, reply.body


def _statement(body: bytes, pretty: bool, base: str) -> bytes:  # noqa: FBT001 - as in a Shape
    """The XML of a CapabilityStatement. It takes 230 ms to make, and anybody may ask under any name of a host: so only that is put in for each."""
    root = base.removesuffix("/fhir")
    neutral = body
    for ending in ('/fhir"', "/oauth/"):
        neutral = neutral.replace(fhirjson.dumps(root)[:-1] + ending.encode(), f'"{_ROOT}{ending}'.encode())
    return _neutral(neutral, pretty).replace(_ROOT.encode(), escape(root, {'"': "&quot;"}).encode())


@lru_cache(maxsize=4)
def _neutral(body: bytes, pretty: bool) -> bytes:  # noqa: FBT001 - as in a Shape
    return to_xml(r4(), fhirjson.loads(body), pretty=pretty)


def _response(spec: Spec, status: int, body: bytes | None, shape: Shape, headers: list[tuple[str, str]], base: str | None = None) -> Response:
    if body is None:
        if status not in {204, 304}:
            headers.append(("Content-Length", "0"))
        return Answer(None, status, headers)
    if shape.format == "xml":
        body = to_xml(spec, fhirjson.loads(body), pretty=shape.pretty) if base is None else _statement(body, shape.pretty, base)
    elif shape.pretty:
        body = fhirjson.pretty(body)
    return _packed(status, body, CONTENT_TYPE[shape.format], shape, headers)


def _packed(status: int, body: bytes, content_type: str, shape: Shape, headers: list[tuple[str, str]]) -> Response:
    headers.append(("Content-Type", content_type))
    if shape.gzip and len(body) >= GZIP_FROM:
        packer = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Content-Length", str(len(body))))
    return Answer([body], status, headers)
