"""What every view of a page has at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flask import Response, request

from fhir_server.access.accounts.sign_in import SignIn
from fhir_server.outcome import Outcome

from .browser import Browser
from .forms import Cookies, FormGuard
from .pages import Pages, local_path, words

_DONE: Final = {
    "registered": "Your account is ready. Sign in with it now.",
    "invited": "Your account is ready. Sign in with your password now.",
    "reset": "Your password is changed. Sign in with the new one.",
    "signed-out": "You are signed out.",
    "password": "Your password is changed, and all other sessions have ended.",
    "app": "Your authenticator app is set up. From the next sign-in on it shows your codes.",
    "email": "Your e-mail address is changed.",
    "phone": "Your telephone number is changed.",
    "messages": "From now on messages reach you as you have chosen.",
    "session": "The session has ended.",
    "sessions": "All other sessions have ended.",
}
"""What a page says of what has just been done, by the value of `done` in its address."""


@dataclass(frozen=True, slots=True)
class Kit:
    """Made once for all views."""

    pages: Pages
    forms: FormGuard
    browser: Browser
    cookies: Cookies
    sign_in: SignIn

    def page(self, template: str, fault: Outcome | None = None, **context: Any) -> Response:
        """A page for whoever is signed in or not; with a `fault` it says what went wrong, and has its status and headers."""
        found = self.browser.current()
        said = {
            "account": found.account if found is not None else None,
            "done": None if fault is not None else _DONE.get(request.args.get("done", "")),
            "fault": words(fault) if fault is not None else None,
            "wrong": ".".join(fault.issues[0].expression) if fault is not None else None,
        }
        response = self.pages.render(template, fault.status if fault is not None else 200, **said | context)
        if fault is not None:
            response.headers.extend(fault.headers)
        return response


def next_path(given: dict[str, str] | None = None) -> str | None:
    """Where to go on to, from a form's field `next` or from the address; None where that is no path of this server."""
    return local_path(given.get("next") if given is not None else request.args.get("next"))


def demand(given: dict[str, str], *names: str) -> list[str]:
    """The values of fields. Raises Outcome `parameter` where one was left empty."""
    for name in names:
        if name not in given:
            raise Outcome("parameter", "Please fill in every field that is not marked as optional", expression=name)
    return [given[name] for name in names]
