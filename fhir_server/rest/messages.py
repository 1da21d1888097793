"""HL7 v2 over HTTP: a message or a batch in, its acknowledgement out.

What comes of a message is in the acknowledgement; the status tells of the request alone, and is 200 for each that is answered by one.
https://hapifhir.github.io/hapi-hl7v2/hapi-hl7overhttp/specification.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from fhir_server.access import Gate, may_send_messages
from fhir_server.access.audit import BadTokens
from fhir_server.hl7v2.text.message import LIMIT
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.settings import Settings

from .api import ACTION, REQUEST_ID, bearer, unexpected
from .body import read_bytes
from .negotiate import media_type
from .render import Shape, fault_response, from_http_exception

_TYPES: Final = frozenset({"application/hl7-v2", "x-application/hl7-v2+er7", "text/plain"})
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1"})
"""Character sets that are told from each other by the bytes; others are named in MSH-18, where the message is read."""


class Receive(Protocol):
    """Takes the bytes of a message or a batch; the acknowledgement, empty where there is none to give. Raises Outcome `unavailable`."""

    def __call__(self, raw: bytes, *, sender: str, address: str, request_id: str) -> bytes:
        """`sender` is the name that the token's owner goes by."""


def messages(engine: Engine, settings: Settings, receive: Receive, clock: Callable[[], float] = time.time) -> Blueprint:
    """The address `/hl7v2`. Faults of a request are OperationOutcomes."""
    view = _Messages(engine, settings, receive, clock)
    routes = Blueprint("hl7v2", __name__)
    routes.add_url_rule("/hl7v2", "receive", view.answer, methods=["POST"], provide_automatic_options=False)
    routes.register_error_handler(Exception, view.fault)
    return routes


class _Messages:
    """The view and what it is given once."""

    def __init__(self, engine: Engine, settings: Settings, receive: Receive, clock: Callable[[], float]) -> None:
        self._spec = engine.spec
        self._gate = Gate(engine.store, settings.jwt_secret)
        self._bad_tokens = BadTokens(engine.store)
        self._limit = min(LIMIT, settings.max_body)
        self._receive = receive
        self._clock = clock

    def answer(self) -> Response:
        environ = request.environ
        environ[ACTION] = "hl7v2"
        grant = self._grant(environ)
        if not may_send_messages(grant):
            raise Outcome("forbidden", "The token does not allow to hand in messages; the scope hl7v2 does")
        content_type = _content_type(environ.get("CONTENT_TYPE", ""))
        raw = read_bytes(environ, self._limit)
        ack = self._receive(raw, sender=grant.actor, address=environ.get("REMOTE_ADDR", ""), request_id=environ.get(REQUEST_ID, ""))
        return Response(ack, 200, content_type=content_type) if ack else Response(None, 204)

    def _grant(self, environ: dict[str, Any]) -> Grant:
        address, request_id = environ.get("REMOTE_ADDR", ""), environ.get(REQUEST_ID, "")
        token = bearer(environ)
        try:
            return self._gate.grant(token, self._clock())
        except Outcome as outcome:
            if outcome.category == "unauthenticated":
                self._bad_tokens.note(str(outcome), self._clock(), address=address, request_id=request_id)
            raise

    def fault(self, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = from_http_exception(error)
        if not isinstance(error, Outcome):
            error = unexpected(error, request.environ.get(REQUEST_ID, ""))
        return fault_response(self._spec, error, Shape())


def _content_type(text: str) -> str:
    """The type of the answer, which is that of the message. Raises Outcome `media-type`."""
    essence, parameters = media_type(text)
    if essence not in _TYPES:
        raise Outcome("media-type", f"A body of type {text[:80]} does not belong here; {', '.join(sorted(_TYPES))} do")
    charset = parameters.get("charset")
    if charset is None:
        return essence
    if charset.lower() not in _CHARSETS:
        raise Outcome("media-type", "The charset of the body is UTF-8 or ISO-8859-1; name another in MSH-18, and none here")
    return f"{essence}; charset={charset.lower()}"
