"""`/queue/{location}`, its `/events`, and the page `/board/{location}` for a wall: what a queue's board shows, as it is and as it changes.

By a bearer token as FHIR takes it. A board's own token may also stand in the address, as a screen on a wall and EventSource can send no header: it
opens that board and nothing else, so that it does little harm in a log.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from flask import Blueprint, Response, request

from fhir_server.access import Gate
from fhir_server.clinic.acting import Act, content, visible
from fhir_server.clinic.queue.board import board, lines, require_board
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant
from fhir_server.settings import Settings

from .exchange import problem
from .live import Live, etag
from .views import Kit

STREAM: Final = "fhir_server.stream"
"""As `gateway.STREAM`: where the gateway finds what takes an answer that goes on. Without a gateway the answer ends, and the reader asks again."""
_NEXT: Final = 8
"""Tokens of those who wait that a wall has room for."""
_JSON: Final = "application/fhir+json"


class Boards:
    """The views."""

    def __init__(self, engine: Engine, settings: Settings, kit: Kit, live: Live, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
        self._store = engine.store
        self._zone = settings.clinic_timezone
        self._gate = Gate(engine.store, settings.jwt_secret)
        self._kit = kit
        self._live = live
        self._clock = clock

    def for_programs(self) -> Blueprint:
        """The addresses below `/queue`."""
        routes = Blueprint("queue", __name__)
        routes.register_error_handler(Exception, problem)
        routes.add_url_rule("/queue/<location>", "board", self.board, methods=["GET"])
        routes.add_url_rule("/queue/<location>/events", "events", self.events, methods=["GET"])
        return routes

    def add_to(self, routes: Blueprint) -> None:
        """Gives the page its address."""
        routes.add_url_rule("/board/<location>", "wall", self.wall, methods=["GET"])

    def board(self, location: str) -> Response:
        """The board as it is: for whoever asks every few seconds."""
        text = board(self._store, self._grant(), location)
        headers = {"ETag": etag(text), "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return Response(None, 304, headers)
        return Response(text, 200, headers, content_type=_JSON)

    def events(self, location: str) -> Response:
        """The board as it is, unless that is what `Last-Event-ID` names, and each change of it."""
        token, grant = self._token(), self._grant()
        text = board(self._store, grant, location)
        self._live.check_room()
        begin, told = self._live.first(text, request.headers.get("Last-Event-ID", ""))
        may_watch = partial(self._may_watch, token, location)
        # Whom some Encounters are closed to is told of none: what is open to each is not looked up at each change.
        sees = grant.board is None and not grant.narrows
        request.environ[STREAM] = partial(self._live.watch, location=location, may_watch=may_watch, told=told, sees_encounters=sees)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Response(begin, 200, headers, content_type="text/event-stream")

    def wall(self, location: str) -> Response:
        """A page for a screen on the wall, which asks again by itself; for a board's token in the address, and for whoever works here."""
        if "token" in request.args:
            require_board(self._grant(), location)
        else:
            found = self._kit.browser.require()
            if isinstance(found, Response):
                return found
            if not set(found.account.roles) - {"patient"}:
                raise Outcome("forbidden", "The board is for those who work here")
        with self._store.snapshot(SYSTEM) as db:
            place = content(visible(db, Act("queue-board", SYSTEM), "Location", location))
            shown = lines(db.connection, location, self._store.clock())
        waiting = [each for each in shown if each.state == "waiting"]
        now = datetime.fromtimestamp(self._clock(), UTC).astimezone(self._zone)
        return self._kit.page(
            "board.html",
            place=place.get("name", ""),
            called=[each for each in shown if each.state == "called"],
            waiting=waiting[:_NEXT],
            more=max(len(waiting) - _NEXT, 0),
            now=f"{now:%H:%M}",
        )

    def _may_watch(self, token: str, location: str) -> bool:
        try:
            require_board(self._gate.grant(token, self._clock()), location)
        except Outcome as outcome:
            # While the database is away nobody can be asked; nothing is told then either.
            return outcome.category == "unavailable"
        return True

    def _token(self) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        return request.args.get("token", "")

    def _grant(self) -> Grant:
        """The caller's. Raises Outcome `unauthenticated`, also for another token than a board's in the address."""
        token = self._token()
        if not token:
            raise Outcome("unauthenticated", "A bearer token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
        grant = self._gate.grant(token, self._clock())
        if "Authorization" not in request.headers and grant.board is None:
            raise Outcome("unauthenticated", "In the address only the token of a board is taken", headers={"WWW-Authenticate": "Bearer"})
        return grant
