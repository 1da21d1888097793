"""The web side put together: what signing in is, once, and the ways to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from fhir_server.access.accounts.sign_in import SignIn
from fhir_server.interactions import Engine
from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings

from .auth import auth_blueprint
from .boards import Boards
from .browser import Browser
from .entrance import Entrance
from .exchange import problem
from .forms import Cookies, FormGuard
from .joining import Joining
from .live import Live
from .own_account import OwnAccount
from .pages import Pages, pay_script, stylesheet
from .paper import PaperView
from .paying import Paying
from .registering import Registering
from .reports import ReportPages
from .stopping import Stopping
from .views import Kit


class _Views(Protocol):
    def add_to(self, routes: Blueprint) -> None: ...


_FOR_PROGRAMS: Final = ("/.well-known/", "/auth/", "/health/", "/hl7v2/", "/metrics/", "/oauth/", "/payments/", "/queue/")


def blueprint(engine: Engine, settings: Settings, messenger: Messenger, live: Live, clock: Callable[[], float] = time.time) -> Blueprint:
    """Everything below `/auth`, the boards of queues, and the pages.

    `messenger` sends their mail and SMS, `live` tells those who watch boards; `clock` gives seconds since 1970.
    """
    sign_in = SignIn(engine.store, settings, messenger, lambda: datetime.fromtimestamp(clock(), UTC))
    registering = Registering(engine, settings, sign_in.desk)
    kit = Kit(Pages(settings), FormGuard(settings), Browser(engine.store, settings, clock), Cookies(settings), sign_in)
    web = Blueprint("web", __name__)
    web.register_blueprint(auth_blueprint(engine, settings, sign_in, registering, clock))
    boards = Boards(engine, settings, kit, live, clock)
    web.register_blueprint(boards.for_programs())
    paying = Paying(engine, settings, kit)
    web.register_blueprint(paying.for_programs())
    store = engine.store
    views = (
        Entrance(kit),
        Joining(kit, registering),
        OwnAccount(kit),
        boards,
        Stopping(kit, store),
        PaperView(kit, store, settings),
        paying,
        ReportPages(kit, store),
    )
    web.register_blueprint(_pages_blueprint(kit, views))
    return web


def elsewhere(settings: Settings) -> Callable[[HTTPException], Response]:
    """What answers where the application has nothing, or has it under another method: problem details where programs ask, a page where people do."""
    pages = Pages(settings)

    def answer(error: HTTPException) -> Response:
        return problem(error) if f"{request.path}/".startswith(_FOR_PROGRAMS) else pages.fault(error)

    return answer


def _pages_blueprint(kit: Kit, parts: Sequence[_Views]) -> Blueprint:
    routes = Blueprint("pages", __name__)
    routes.register_error_handler(Exception, kit.pages.fault)
    routes.add_url_rule("/", "home", lambda: kit.page("home.html"))
    routes.add_url_rule("/pages/<name>.css", "style", _style)
    routes.add_url_rule("/pages/<name>.js", "script", _script)
    for views in parts:
        views.add_to(routes)
    return routes


def _style(name: str) -> Response:
    return _file(name, stylesheet(), "text/css")


def _script(name: str) -> Response:
    return _file(name, pay_script(), "text/javascript")


def _file(name: str, there: tuple[str, bytes], kind: str) -> Response:
    known, data = there
    if name != known:
        raise Outcome("not-found", "The file has another name now")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(data, 200, headers, content_type=f"{kind}; charset=utf-8")
