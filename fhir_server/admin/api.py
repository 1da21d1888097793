"""The admin API put together: its groups, its OpenAPI document, and the pages that show it.

https://spec.openapis.org/oas/v3.1.1.html, https://swagger.io/docs/open-source-tools/swagger-ui/usage/installation/
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

import flask_smorest
from flask import Blueprint, Flask, Response

from fhir_server.hl7v2.intake.inbox import Inbox
from fhir_server.interactions import Engine
from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings

from . import (
    audit,
    billing,
    clients,
    hl7v2_outbound,
    messages,
    notifications,
    payments,
    queue,
    reports,
    roles,
    scheduling,
    server,
    sessions,
    shifts,
    subscriptions,
    users,
)
from .exchange import problem
from .office import EXTENSION, Office, admit
from .routes import METHODS, methods_here
from .schemas.common import Problem

_GROUPS: Final = (
    *(users.routes, sessions.routes, roles.routes, clients.routes),
    *(messages.routes, hl7v2_outbound.routes, notifications.routes, subscriptions.routes),
    *(scheduling.routes, queue.routes, billing.routes, payments.routes, shifts.routes, reports.routes, server.routes, audit.routes),
)
_DESCRIPTION: Final = """Accounts, sessions, roles, apps, HL7 v2 messages and peers, messages to people, bill templates, payments, reports, the audit
trail and the server's state, for administrators.

Every request needs a bearer token of the role `admin`: of a session, or made by `fhir-server token --role admin`. Faults are problem details.
Lists come in pages; follow `next` as it is. A change may name the state that it is meant for by `If-Match`, and a POST be made repeatable by
`Idempotency-Key`."""
# Addresses are relative to the page, so that it works below a path of a proxy too.
_DOCS: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Admin API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="docs/swagger-ui.css"><link rel="icon" href="docs/favicon-32x32.png"></head>
<body><div id="swagger-ui">The document is at <a href="openapi.json">/admin/openapi.json</a>.</div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"""
_START: Final = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});
"""
_ASSETS: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
# Swagger UI has pictures in its style sheet.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
_PROTECTED: Final = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class _Api(flask_smorest.Api):
    """flask-smorest's, without the handler of faults that it would set for the whole application."""

    ERROR_SCHEMA = Problem
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        pass


def register(app: Flask, engine: Engine, settings: Settings, messenger: Messenger, inbox: Inbox, clock: Callable[[], float] = time.time) -> None:
    """Gives an application everything below `/admin`.

    `messenger` sends its mail and SMS; `inbox` has the messages of HL7 v2 that came; `clock` gives seconds since 1970.
    """
    app.extensions[EXTENSION] = Office.of(engine, settings, messenger, inbox, clock)
    options = {
        "info": {"description": _DESCRIPTION},
        "security": [{"bearer": []}],
        "servers": [{"url": settings.public_url or "/"}],
    }
    api = _Api(app, spec_kwargs={"title": "Admin API", "version": version("fhir-server"), "openapi_version": "3.1.0", **options})
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    for group in _GROUPS:
        api.register_blueprint(group)
    document = json.dumps(_with_faults(api.spec.to_dict()))
    rest = Blueprint("admin", __name__, url_prefix="/admin")
    rest.add_url_rule("/openapi.json", "openapi", lambda: Response(document, content_type="application/json", headers=_PROTECTED))
    rest.add_url_rule("/docs", "docs", lambda: Response(_DOCS, content_type="text/html; charset=utf-8", headers=_PROTECTED))
    rest.add_url_rule("/docs/<name>", "asset", _asset)
    rest.add_url_rule("/<path:path>", "nothing", _nothing, methods=METHODS, provide_automatic_options=False)
    rest.register_error_handler(Exception, problem)
    app.register_blueprint(rest)


def _with_faults(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a name for each operation, and what it answers to a fault, which is the same for all."""
    schema = {"$ref": "#/components/schemas/Problem"}
    document["components"].setdefault("responses", {})["Fault"] = {
        "description": "A fault, as problem details.",
        "content": {"application/problem+json": {"schema": schema}},
    }
    for operations in document["paths"].values():
        for method, operation in operations.items():
            if method != "parameters":
                kept = {status: told for status, told in operation["responses"].items() if status < "3"}
                operation["operationId"] = "-".join(re.findall(r"[a-z]+", operation["summary"].lower()))
                operation["responses"] = kept | {"default": {"$ref": "#/components/responses/Fault"}}
    return document


def _asset(name: str) -> Response:
    if name == "start.js":
        return Response(_START, content_type="text/javascript", headers=_PROTECTED)
    if name not in _ASSETS:
        raise Outcome("not-found", "There is nothing at this address")
    data = files("flask_swagger_ui").joinpath("dist", name).read_bytes()
    return Response(data, content_type=_ASSETS[name], headers=_PROTECTED | {"Cache-Control": "public, max-age=86400"})


def _nothing(path: str) -> Response:
    """Any other address below /admin, and any other method at one of those that are there."""
    del path
    admit()
    there = methods_here()
    if there:
        raise Outcome("method", "This address has other methods", headers={"Allow": ", ".join(there)})
    raise Outcome("not-found", "There is nothing at this address")
