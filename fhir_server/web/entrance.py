"""The pages for signing in and out: login and password, then a code."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from fhir_server.access.accounts.challenges import LIFE
from fhir_server.outcome import Outcome

from .browser import caller
from .pages import onward
from .views import Kit, demand, next_path

_CHALLENGE: Final = "challenge"
_TOO_LATE: Final = "The sign-in took too long, or there were too many wrong codes. Please begin again"


class Entrance:
    """The views. Between password and code the browser has the challenge in a cookie, and nothing else."""

    def __init__(self, kit: Kit) -> None:
        """Works with `kit`."""
        self._kit = kit

    def add_to(self, routes: Blueprint) -> None:
        """Gives the views their addresses."""
        routes.add_url_rule("/sign-in", "sign_in", self.form, methods=["GET"])
        routes.add_url_rule("/sign-in", "sign_in_sent", self.sign_in, methods=["POST"])
        routes.add_url_rule("/sign-in/code", "code", self.code_form, methods=["GET"])
        routes.add_url_rule("/sign-in/code", "code_sent", self.code, methods=["POST"])
        routes.add_url_rule("/sign-in/code/send", "code_send", self.send, methods=["POST"])
        routes.add_url_rule("/sign-out", "sign_out", self.sign_out_form, methods=["GET"])
        routes.add_url_rule("/sign-out", "sign_out_sent", self.sign_out, methods=["POST"])

    def form(self) -> Response:
        """Asks for login and password; whoever is signed in already goes on."""
        if self._kit.browser.current() is not None:
            return self._kit.pages.redirect(next_path() or "/account")
        return self._kit.page("sign-in.html", next=next_path(), login="")

    def sign_in(self) -> Response:
        """Looks at login and password; where there is one way to have a code, it goes at once."""
        kit = self._kit
        given = kit.forms.read(optional=("login", "password", "next"))
        onto = next_path(given)
        try:
            login, password = demand(given, "login", "password")
            started = kit.sign_in.login(login, password, caller())
        except Outcome as outcome:
            return kit.page("sign-in.html", outcome, next=onto, login=given.get("login", ""))
        response = kit.pages.redirect(onward("/sign-in/code", onto))
        if len(started.methods) == 1:
            try:
                kit.sign_in.send(started.challenge, *started.methods)
            except Outcome as outcome:
                response = self._code_page(started.challenge, onto, outcome)
        kit.cookies.set(response, _CHALLENGE, started.challenge, int(LIFE.total_seconds()))
        return response

    def code_form(self) -> Response:
        """Asks which way a code is to go, then for the code."""
        return self._code_page(self._challenge(), next_path())

    def send(self) -> Response:
        """Sends a code."""
        given = self._kit.forms.read(optional=("method", "next"))
        onto = next_path(given)
        try:
            self._kit.sign_in.send(self._challenge(), *demand(given, "method"))
        except Outcome as outcome:
            return self._code_page(self._challenge(), onto, outcome)
        return self._kit.pages.redirect(onward("/sign-in/code", onto))

    def code(self) -> Response:
        """Opens a session by a right code."""
        kit = self._kit
        given = kit.forms.read(optional=("code", "next"))
        onto = next_path(given)
        try:
            account = kit.sign_in.prove(self._challenge(), digits(*demand(given, "code")), caller())
        except Outcome as outcome:
            return self._code_page(self._challenge(), onto, outcome)
        if account.password_expired:
            response = kit.pages.redirect(onward("/account/password", onto))
        elif onto is not None and onto.startswith("/oauth/"):
            # What is there may lead on to an app at once, and a form may lead to no place that its page's policy did not name.
            response = kit.page("onward.html", next=onto)
        else:
            response = kit.pages.redirect(onto or "/")
        kit.browser.sign_in(response, account)
        kit.cookies.drop(response, _CHALLENGE)
        return response

    def sign_out_form(self) -> Response:
        """Asks whether to sign out: an address that is followed ends nothing."""
        return self._kit.page("sign-out.html") if self._kit.browser.current() is not None else self._kit.pages.redirect("/")

    def sign_out(self) -> Response:
        """Ends the session."""
        given = self._kit.forms.read(optional=("next",))
        response = self._kit.pages.redirect(onward("/sign-in?done=signed-out", next_path(given)))
        self._kit.browser.sign_out(response)
        return response

    def _challenge(self) -> str:
        return self._kit.cookies.get(_CHALLENGE) or ""

    def _code_page(self, challenge: str, onto: str | None, fault: Outcome | None = None) -> Response:
        try:
            waiting = self._kit.sign_in.waiting(challenge)
        except Outcome as outcome:
            if outcome.category != "unauthenticated":
                raise
            over = Outcome("unauthenticated", _TOO_LATE, headers=outcome.headers)
            return self._kit.page("sign-in.html", over, next=onto, login="")
        if fault is not None and fault.category == "unauthenticated":
            fault = Outcome(
                "unauthenticated", "That code is not right. Look at the newest one and type it again", expression="code", headers=fault.headers
            )
        return self._kit.page("code.html", fault, next=onto, waiting=waiting)


def digits(text: str) -> str:
    """A code without the blanks that people type into it."""
    return "".join(text.split())
