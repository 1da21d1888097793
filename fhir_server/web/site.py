"""The web side put together: what signing in is, once, and the ways to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from fhir_server.access.sign_in import SignIn
from fhir_server.interactions import Engine
from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings

from .auth import auth_blueprint
from .browser import Browser
from .entrance import Entrance
from .exchange import problem
from .forms import Cookies, FormGuard
from .joining import Joining
from .own_account import OwnAccount
from .pages import Pages, stylesheet
from .paper import PaperView
from .registering import Registering
from .views import Kit

_FOR_PROGRAMS: Final = ("/.well-known/", "/auth/", "/health/", "/hl7v2/", "/metrics/", "/oauth/")


def blueprint(engine: Engine, settings: Settings, messenger: Messenger, clock: Callable[[], float] = time.time) -> Blueprint:
    """Everything below `/auth`, and the pages. `messenger` sends their mail and SMS; `clock` gives seconds since 1970."""
    sign_in = SignIn(engine.store, settings, messenger, lambda: datetime.fromtimestamp(clock(), UTC))
    registering = Registering(engine, settings, sign_in.desk)
    kit = Kit(Pages(settings), FormGuard(settings), Browser(engine.store, settings, clock), Cookies(settings), sign_in)
    web = Blueprint("web", __name__)
    web.register_blueprint(auth_blueprint(engine, settings, sign_in, registering, clock))
    web.register_blueprint(_pages_blueprint(kit, registering, engine))
    return web


def elsewhere(settings: Settings) -> Callable[[HTTPException], Response]:
    """What answers where the application has nothing, or has it under another method: problem details where programs ask, a page where people do."""
    pages = Pages(settings)

    def answer(error: HTTPException) -> Response:
        return problem(error) if f"{request.path}/".startswith(_FOR_PROGRAMS) else pages.fault(error)

    return answer


def _pages_blueprint(kit: Kit, registering: Registering, engine: Engine) -> Blueprint:
    routes = Blueprint("pages", __name__)
    routes.register_error_handler(Exception, kit.pages.fault)
    routes.add_url_rule("/", "home", lambda: kit.page("home.html"))
    routes.add_url_rule("/pages/<name>.css", "style", _style)
    for views in (Entrance(kit), Joining(kit, registering), OwnAccount(kit), PaperView(kit, engine.store)):
        views.add_to(routes)
    return routes


def _style(name: str) -> Response:
    known, data = stylesheet()
    if name != known:
        raise Outcome("not-found", "The style sheet has another name now")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(data, 200, headers, content_type="text/css; charset=utf-8")
