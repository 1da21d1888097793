"""The composition root of the HTTP side: settings in, a WSGI application out.

https://flask.palletsprojects.com/en/stable/patterns/appfactories/, https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import hmac
import os
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from fhir_server import admin, operations, process, web
from fhir_server.access.apps import Clients
from fhir_server.access.sealing import reseal
from fhir_server.access.vault import Vault
from fhir_server.hl7v2.service import open_inbox
from fhir_server.interactions import Engine
from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.rest import ACTION, REQUEST_ID, blueprint, messages, shared
from fhir_server.settings import THREADS, Settings
from fhir_server.store import Store
from fhir_server.web import oauth
from fhir_server.web.exchange import is_from_here

_Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

_SANE_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_REQUESTS: Final = Counter("fhir_requests", "Requests answered, by what was asked and the status.", ("action", "status"))
_SECONDS: Final = Histogram(
    "fhir_request_seconds",
    "Time from the whole request's arrival to the answer's first byte, by what was asked.",
    ("action",),
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60),
)


def create_app(settings: Settings) -> Flask:
    """The application over a migrated database, connected when this returns; one per process.

    Raises Outcome `unavailable` when the database is away, not migrated, or has index rows made under other settings; ValueError where the
    settings name none.
    """
    if settings.database_url is None:
        raise ValueError("settings.database_url is needed")
    store = Store.of(settings, connections=THREADS)
    store.check_fit()
    reseal(store, Vault.of(settings))
    store.index_in_background()
    store.seal_in_background()
    app = build_app(Engine.build(store, settings, operations.names()), settings)
    process.settle()
    return app


def build_app(engine: Engine, settings: Settings) -> Flask:
    """The application over an engine; its store, and who watches boards, are in `app.extensions`, for whoever ends the process to close."""
    app = Flask(__name__, static_folder=None)
    app.extensions["store"] = engine.store
    # An address with two slashes means nothing; it is not redirected to one that does.
    app.url_map.merge_slashes = False
    # One for all, so that there is one bound for what waits.
    messenger = Messenger(settings)
    app.register_blueprint(blueprint(engine, settings, messenger, elsewhere=web.elsewhere(settings)))
    intake, inbox = open_inbox(engine, settings)
    app.register_blueprint(messages(engine, settings, intake.answer))
    live = app.extensions["live"] = web.Live(engine.store)
    app.register_blueprint(web.blueprint(engine, settings, messenger, live))
    app.register_blueprint(oauth.blueprint(engine, settings))
    admin.register(app, engine, settings, messenger, inbox)
    app.add_url_rule("/health/live", "live", lambda: {"status": "pass"})
    app.add_url_rule("/health/ready", "ready", lambda: _readiness(engine.store))
    app.add_url_rule("/metrics", "metrics", lambda: _metrics(settings.metrics_token))
    origins = Clients(engine.store, Vault.of(settings))
    app.wsgi_app = _observed(shared(app.wsgi_app, partial(_is_origin, origins)))  # type: ignore[method-assign, assignment]
    return app


def _is_origin(clients: Clients, origin: str) -> bool:
    try:
        return clients.is_origin(origin)
    except Outcome:
        # The database is away: the request itself says so.
        return False


def _observed(inner: _Wsgi) -> _Wsgi:
    """Gives every request an id, the caller's if it is sane, and counts and times it. Costs about 8 µs."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = environ[REQUEST_ID] = asked if _SANE_ID.fullmatch(asked) else os.urandom(16).hex()
        started = time.perf_counter()

        def answer(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            action = environ.get(ACTION, "other")
            _REQUESTS.labels(action, status[:3]).inc()
            _SECONDS.labels(action).observe(time.perf_counter() - started)
            return start_response(status, [*headers, ("X-Request-Id", request_id)], *((exc_info,) if exc_info else ()))

        return inner(environ, answer)

    return application


def _readiness(store: Store) -> tuple[dict[str, str], int, dict[str, str]]:
    try:
        ready = store.ready()
    except Outcome:
        ready = False
    if ready:
        return {"status": "pass"}, 200, {}
    return {"status": "fail", "output": "the database does not answer, or is not at the newest schema"}, 503, {"Retry-After": "2"}


def _metrics(token: str | None) -> Response:
    if token is not None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return Response("A bearer token is needed, that of METRICS_TOKEN.\n", 401, {"WWW-Authenticate": "Bearer"}, "text/plain")
    elif not is_from_here():
        return Response("Metrics are for this machine; METRICS_TOKEN opens them to others.\n", 403, mimetype="text/plain")
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
