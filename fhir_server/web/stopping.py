"""The page that stops messages: reached by the link in each of them, by whoever has it, without a sign-in; mail programs do it by one POST.

https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from flask import Blueprint, Response, request

from fhir_server.access.accounts.notifications import Choices, Way
from fhir_server.outcome import Outcome
from fhir_server.store import Store

from .browser import caller
from .views import Kit

_MOST: Final = 4096  # Bytes of a body, that have nothing to say but `again`.


class Stopping:
    """The views. The link is the right to do this and nothing else: no form of another site can do more than its owner by a click."""

    def __init__(self, kit: Kit, store: Store) -> None:
        """Works with `kit`, on the store's database."""
        self._kit = kit
        self._choices = Choices(store, kit.sign_in.desk.vault)

    def add_to(self, routes: Blueprint) -> None:
        """Gives the views their addresses."""
        routes.add_url_rule("/messages/stop/<token>", "stop", self.form, methods=["GET"])
        routes.add_url_rule("/messages/stop/<token>", "stop_sent", self.stop, methods=["POST"])

    def form(self, token: str) -> Response:
        """Asks whether to stop them: programs that look at links change nothing."""
        _, way = self._known(token)
        return self._kit.page("stop.html", token=token, way=way, stopped=None)

    def stop(self, token: str) -> Response:
        """Stops them; or has them come again, where the form says so."""
        # Nothing is done before the body is there; see `gateway`.
        body = request.environ["wsgi.input"].read(_MOST + 1)
        if len(body) > _MOST:
            raise Outcome("too-large", "The form is too large")
        again = "again" in parse_qs(body.decode("ascii", "replace"))
        patient, way = self._known(token)
        sign_in = self._kit.sign_in
        self._choices.stop(sign_in.desk.database, patient, way, sign_in.now(), again=again, address=caller().address)
        return self._kit.page("stop.html", token=token, way=way, stopped=not again)

    def _known(self, token: str) -> tuple[str, Way]:
        found = self._choices.of_token(token)
        if found is None:
            raise Outcome("not-found", "This link is not complete, or not one of ours. Copy the whole link from the message")
        return found
