"""The pages for those who cannot sign in yet, or not any more: registering, taking an invitation up, another password for a forgotten one."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from fhir_server.access.accounts.invitations import Invitations
from fhir_server.access.accounts.recovery import Recovery
from fhir_server.outcome import Outcome

from .browser import caller
from .entrance import digits
from .pages import onward
from .registering import NEEDED, OPTIONAL, Registering
from .views import Kit, demand, next_path

_FIELDS: Final = (*NEEDED, *OPTIONAL)
_WRONG: Final = "The code is not right, too old, or not for this login. Look at the newest one and type it again"
_WRONG_OF_TWO: Final = f"{_WRONG}. If you have an authenticator app, type the code that it shows now too"
_WORDS: Final = {
    "given": "The given name is empty, too long, or has signs in it that no name has",
    "family": "The family name is empty, too long, or has signs in it that no name has",
    "birthDate": "The date of birth is not a day in the past, as 1990-05-17",
}


class Joining:
    """The views."""

    def __init__(self, kit: Kit, registering: Registering) -> None:
        """Works with `kit`."""
        self._kit = kit
        self._registering = registering
        self._recovery = Recovery(kit.sign_in.desk)
        self._invitations = Invitations(kit.sign_in.desk)

    def add_to(self, routes: Blueprint) -> None:
        """Gives the views their addresses."""
        for path, name, form, sent in (
            ("/register", "register", self.register_form, self.register),
            ("/register/confirm", "confirm", self.confirm_form, self.confirm),
            ("/forgot", "forgot", self.forgot_form, self.forgot),
            ("/reset", "reset", self.reset_form, self.reset),
            ("/invitation", "invitation", self.invitation_form, self.accept),
        ):
            routes.add_url_rule(path, name, form, methods=["GET"])
            routes.add_url_rule(path, f"{name}_sent", sent, methods=["POST"])

    def register_form(self) -> Response:
        """Asks who wants to register."""
        return self._kit.page("register.html", next=next_path(), given={})

    def register(self) -> Response:
        """Takes a registration; says the same where the login is taken."""
        given = self._kit.forms.read(optional=(*_FIELDS, "next"))
        onto = next_path(given)
        try:
            demand(given, *NEEDED)
            self._registering.take({name: given[name] for name in _FIELDS if name in given}, caller())
        except Outcome as outcome:
            return self._kit.page("register.html", _plain(outcome), next=onto, given=given)
        return self._kit.page("confirm.html", next=onto, login=given["login"], sent=True)

    def confirm_form(self) -> Response:
        """Asks for the code that proves a registration."""
        return self._kit.page("confirm.html", next=next_path(), login="", sent=False)

    def confirm(self) -> Response:
        """Makes the account by a right code."""
        given = self._kit.forms.read(optional=("login", "code", "next"))
        onto = next_path(given)
        try:
            login, code = demand(given, "login", "code")
            self._registering.confirm(login, digits(code), caller())
        except Outcome as outcome:
            return self._kit.page("confirm.html", _plain(outcome), next=onto, login=given.get("login", ""), sent=False)
        return self._kit.pages.redirect(onward("/sign-in?done=registered", onto))

    def forgot_form(self) -> Response:
        """Asks whose password was forgotten."""
        return self._kit.page("forgot.html", login="")

    def forgot(self) -> Response:
        """Has a code sent; says the same where there is no such login."""
        given = self._kit.forms.read(optional=("login",))
        try:
            (login,) = demand(given, "login")
            self._recovery.forgot(login, caller())
        except Outcome as outcome:
            return self._kit.page("forgot.html", outcome, login=given.get("login", ""))
        return self._kit.page("reset.html", login=login, sent=True)

    def reset_form(self) -> Response:
        """Asks for the code and the new password."""
        return self._kit.page("reset.html", login="", sent=False)

    def reset(self) -> Response:
        """Sets the new password by a right code."""
        given = self._kit.forms.read(optional=("login", "code", "totp", "new"))
        try:
            login, code, new = demand(given, "login", "code", "new")
            self._recovery.reset(login, digits(code), new, caller(), totp=digits(given.get("totp", "")))
        except Outcome as outcome:
            return self._kit.page("reset.html", _plain(outcome, _WRONG_OF_TWO), login=given.get("login", ""), sent=False)
        response = self._kit.pages.redirect("/sign-in?done=reset")
        self._kit.browser.sign_out(response)
        return response

    def invitation_form(self) -> Response:
        """Asks for the code of an invitation and a password."""
        return self._kit.page("invitation.html", login="")

    def accept(self) -> Response:
        """Makes the account that somebody is invited to theirs, by a right code."""
        given = self._kit.forms.read(optional=("login", "code", "new"))
        try:
            login, code, new = demand(given, "login", "code", "new")
            self._invitations.accept(login, digits(code), new, caller())
        except Outcome as outcome:
            return self._kit.page("invitation.html", _plain(outcome), login=given.get("login", ""))
        return self._kit.pages.redirect("/sign-in?done=invited")


def _plain(outcome: Outcome, wrong: str = _WRONG) -> Outcome:
    """The fault in words for the page, where the rule's own are for programs; `wrong` is said of a code that is not good."""
    (field,) = outcome.issues[0].expression or ("",)
    if outcome.category == "invalid" and field in _WORDS:
        return Outcome("invalid", _WORDS[field], expression=field)
    if outcome.category == "unauthenticated":
        return Outcome("unauthenticated", wrong, expression="code", headers=outcome.headers)
    return outcome
