"""The FHIR API as a Flask blueprint: one view, since the address decides the interaction and nothing else may come before the token.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from fhir_server import fhirjson
from fhir_server.access import Gate
from fhir_server.access.accounts.desk import Desk
from fhir_server.access.alarm import Alarm
from fhir_server.access.apps import issuer_of, smart_configuration
from fhir_server.access.audit import BadTokens
from fhir_server.access.idempotency import check_key
from fhir_server.interactions import Engine, Exchange, dispatch
from fhir_server.interactions.engine import parse_parameters
from fhir_server.interactions.exchange import Interaction
from fhir_server.messaging import Messenger
from fhir_server.operations import dispatch_operation
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.settings import Settings
from fhir_server.store.standing import Standing

from .address import OPEN, Target, is_read, resolve
from .binary import as_content, is_content, read_content
from .body import read_form, read_resource
from .headers import Preference, http_date, preference, version_tag, version_tags
from .negotiate import accepts_gzip, response_format
from .render import Shape, fault_response, from_http_exception, reply_response

REQUEST_ID: Final = "fhir_server.request_id"
"""Where the WSGI environment carries the request's id."""
ACTION: Final = "fhir_server.action"
"""Where the WSGI environment tells what was asked, for the metrics."""

_SHAPE: Final = "fhir_server.shape"
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ANYBODY: Final = Grant("anonymous", frozenset(), ())
# What answers some operations have besides FHIR.
_PDF: Final = ("application/pdf",)
_NDJSON: Final = ("application/fhir+ndjson", "application/ndjson", "application/x-ndjson")
_OTHERS: Final = {"document": _PDF, "statement": _PDF, "export-file": _NDJSON}
_BODIES: Final = frozenset({"create", "update", "patch", "bundle"})
_OPERATING: Final = frozenset({"operation", "bundle"})

_T = TypeVar("_T")

_log = logging.getLogger("fhir_server.rest")


def blueprint(
    engine: Engine,
    settings: Settings,
    messenger: Messenger,
    clock: Callable[[], float] = time.time,
    elsewhere: Callable[[HTTPException], Response | HTTPException] = lambda error: error,
) -> Blueprint:
    """Everything below `/fhir`. Faults of any kind become OperationOutcomes, in the format that was asked for where that can be told.

    `messenger` sends the alarm that somebody has broken the glass; `clock` gives seconds since 1970.
    `elsewhere` answers what is at no address of the whole application; there can be one such handler only, and it is here.
    """
    api = _Api(engine, settings, messenger, clock)
    routes = Blueprint("fhir", __name__, url_prefix="/fhir")
    for rule in ("", "/", "/<path:path>"):
        routes.add_url_rule(rule, "api", api.answer, methods=_METHODS, provide_automatic_options=False)
    routes.register_error_handler(Exception, api.fault)
    for status in (400, 404, 405):
        routes.app_errorhandler(status)(partial(api.unrouted, elsewhere))
    return routes


class _Api:
    """The view and what it is given once."""

    def __init__(self, engine: Engine, settings: Settings, messenger: Messenger, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._spec = engine.spec
        self._types = frozenset(engine.spec.resource_types)
        self._gate = Gate(engine.store, settings.jwt_secret)
        self._bad_tokens = BadTokens(engine.store)
        self._alarm = Alarm(Desk(engine.store, settings, messenger, lambda: datetime.fromtimestamp(clock(), UTC)))
        self._limit = settings.max_body
        self._public_url = settings.public_url
        self._clock = clock

    def answer(self, path: str = "") -> Response:
        environ = request.environ
        method = environ["REQUEST_METHOD"]
        grant, standing = (_ANYBODY, None) if path in OPEN else self._grant(environ, presumed=is_read(self._types, method, path))
        try:
            target = resolve(self._types, method, path)
        except Outcome as outcome:
            if method != "OPTIONS" or outcome.category != "method":
                raise
            return Response(None, 204, outcome.headers)
        action = environ[ACTION] = target.action
        if action == "discovery":
            return Response(fhirjson.dumps(smart_configuration(issuer_of(self._public_url, environ))), content_type="application/json")
        params = parse_parameters(environ["QUERY_STRING"]) if environ.get("QUERY_STRING") else []
        if target.form:
            params += read_form(environ, self._limit)
        shape = environ[_SHAPE] = _shape(environ, params, _OTHERS.get(target.operation or "", ()), anything=target.is_binary)
        exchange = self._exchange(environ, action, target, grant, standing, params)
        if grant.break_glass:
            self._alarm.ring(grant, address=environ.get("REMOTE_ADDR", ""), request_id=environ.get(REQUEST_ID, ""))
        run = partial(dispatch, self._engine, exchange, dispatch_operation)
        reply = self._noting(environ, run) if standing is not None else run()
        if target.is_binary and not exchange.params and not any(name == "_format" for name, _ in params):
            reply = as_content(reply, environ.get("HTTP_ACCEPT", ""))
        return reply_response(self._spec, reply, shape, exchange)

    def _grant(self, environ: dict[str, Any], *, presumed: bool = False) -> tuple[Grant, Standing | None]:
        """The caller's grant; a `presumed` one with what it stands on, which is still to be asked where that is not None."""
        given, now, break_glass = bearer(environ), self._clock(), environ.get("HTTP_X_BREAK_GLASS", "")
        # The alarm rings for those who may ring it, and so after the session has been looked at.
        if presumed and not break_glass:
            return self._noting(environ, lambda: self._gate.presumed(given, now))
        return self._noting(environ, lambda: self._gate.grant(given, now, break_glass)), None

    def _noting(self, environ: dict[str, Any], run: Callable[[], _T]) -> _T:
        """What `run` gives; the trail has an event of a token that is not good."""
        try:
            return run()
        except Outcome as outcome:
            if outcome.category == "unauthenticated":
                self._bad_tokens.note(str(outcome), self._clock(), address=environ.get("REMOTE_ADDR", ""), request_id=environ.get(REQUEST_ID, ""))
            raise

    def _exchange(
        self,
        environ: dict[str, Any],
        action: Interaction,
        target: Target,
        grant: Grant,
        standing: Standing | None,
        params: list[tuple[str, str]],
    ) -> Exchange:
        # Everything that can be refused without the body is, before it is read.
        base = f"{issuer_of(self._public_url, environ)}/fhir"
        if_match = version_tag(environ["HTTP_IF_MATCH"], "If-Match") if "HTTP_IF_MATCH" in environ else None
        if_none_match = version_tags(environ["HTTP_IF_NONE_MATCH"], "If-None-Match") if "HTTP_IF_NONE_MATCH" in environ else ()
        since = http_date(environ["HTTP_IF_MODIFIED_SINCE"], "If-Modified-Since") if "HTTP_IF_MODIFIED_SINCE" in environ else None
        prefer = preference(environ["HTTP_PREFER"]) if "HTTP_PREFER" in environ else Preference()
        body = None
        if target.type == "Binary" and action in {"create", "update"} and is_content(environ.get("CONTENT_TYPE", "")):
            body = read_content(environ, self._limit, target.id)
        elif action in _BODIES:
            body = read_resource(self._spec, environ, self._limit, patch=action == "patch")
        elif action == "operation" and environ["REQUEST_METHOD"] == "POST":
            body = read_resource(self._spec, environ, self._limit, graphql=target.operation == "graphql", optional=True)
        return Exchange(
            action,
            grant,
            base,
            type=target.type,
            id=target.id,
            version=target.version,
            params=tuple(pair for pair in params if pair[0] not in {"_format", "_pretty"}),
            body=body,
            if_match=if_match,
            if_none_match=if_none_match,
            if_modified_since=since,
            if_none_exist=environ.get("HTTP_IF_NONE_EXIST"),
            strict=prefer.strict,
            returning=prefer.returning,
            request_id=environ.get(REQUEST_ID, ""),
            member=target.member,
            address=environ.get("REMOTE_ADDR", ""),
            # WSGI hands headers over as Latin-1.
            provenance=environ["HTTP_X_PROVENANCE"].encode("latin-1", "replace") if "HTTP_X_PROVENANCE" in environ else None,
            standing=standing,
            key=check_key(environ["HTTP_IDEMPOTENCY_KEY"]) if action in _OPERATING and "HTTP_IDEMPOTENCY_KEY" in environ else None,
            method=environ["REQUEST_METHOD"],
            later=prefer.later,
            operation=target.operation,
        )

    def unrouted(self, elsewhere: Callable[[HTTPException], Response | HTTPException], error: HTTPException) -> Response | HTTPException:
        """What Flask refuses before any view is chosen, as unknown methods; what is not below the base is left to others."""
        if not (request.path + "/").startswith("/fhir/"):
            return elsewhere(error)
        try:
            self._grant(request.environ)
        except Outcome as outcome:
            return self.fault(outcome)
        return self.fault(error)

    def fault(self, error: Exception) -> Response:
        environ = request.environ
        if isinstance(error, Outcome):
            outcome = error
        elif isinstance(error, HTTPException):
            outcome = from_http_exception(error)
        else:
            outcome = unexpected(error, environ.get(REQUEST_ID, ""))
        shape = environ.get(_SHAPE)
        if shape is None:
            try:
                shape = _shape(environ, parse_parameters(environ.get("QUERY_STRING", "")))
            except Outcome:
                shape = Shape()
        return fault_response(self._spec, outcome, shape)


def bearer(environ: dict[str, Any]) -> str:
    """The token of a request. Raises Outcome `unauthenticated` where there is none."""
    scheme, _, token = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Outcome("unauthenticated", "A bearer token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
    return token.strip()


def unexpected(error: Exception, request_id: str) -> Outcome:
    """Logs a fault of ours; what is said of it."""
    _log.error("request %s failed", request_id, exc_info=error)
    return Outcome("internal", f"Something went wrong here; the server's log tells what, under the request id {request_id}")


def _shape(environ: dict[str, Any], params: list[tuple[str, str]], others: tuple[str, ...] = (), *, anything: bool = False) -> Shape:
    """How an answer is written; who wants one of the `others` alone, as PDF, or `anything`, is welcome, and is told of faults in JSON."""
    asked = pretty = None
    for name, value in params:
        if name == "_format" and asked is None:
            asked = value
        elif name == "_pretty":
            pretty = value
    gzip = accepts_gzip(environ["HTTP_ACCEPT_ENCODING"]) if "HTTP_ACCEPT_ENCODING" in environ else False
    accept = environ.get("HTTP_ACCEPT", "")
    if others and (asked or accept).startswith(others):
        return Shape("json", pretty == "true", gzip and others is not _PDF)  # Which is packed already.
    try:
        return Shape(response_format(accept, asked), pretty == "true", gzip)
    except Outcome:
        if not anything or asked:
            raise
        return Shape("json", pretty == "true", gzip)
