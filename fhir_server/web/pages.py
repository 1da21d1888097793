"""Pages: HTML from templates, under a policy that lets in no script, and nothing from elsewhere, but for one page where a card is entered.

https://www.w3.org/TR/CSP3/, https://html.spec.whatwg.org/multipage/
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote, urlsplit

from flask import Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.exceptions import HTTPException

from fhir_server.outcome import Category, Outcome
from fhir_server.settings import Settings

from .exchange import outcome_of
from .forms import TOKEN, FormGuard

_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,255}|[a-z][a-z0-9+.\-]{0,60}:")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    # `no-referrer` would make the Origin of every form `null`.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LOCAL_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,7900}")

# A heading, and what to do.
_FAULTS: Final[dict[Category, tuple[str, str]]] = {
    "unauthenticated": ("Please sign in", "Sign in, and try again."),
    "forbidden": ("This is not possible", "Go back and open the page again. If it stays so, it is not open to your account."),
    "not-found": ("There is no such page", "Check the address, or go on from the start page."),
    "method": ("There is no such page", "Go on from the start page."),
    "timeout": ("That took too long", "Check your connection and try again."),
    "conflict": ("Somebody was faster", "Open the page again and repeat what you did."),
    "too-large": ("That is too much at once", "Send less."),
    "throttled": ("Too many tries", "Nothing is lost: your account is as it was."),
    "internal": ("Something went wrong here", "It is not your fault. Try again in a minute; if it stays, tell the clinic the number below."),
    "unavailable": ("We cannot answer just now", "If it stays so, call the clinic."),
}
_OTHER_FAULT: Final = ("This did not work", "Go back, look at what you filled in, and try again.")
# The first mark that is found counts: each browser names those whose pages it wants too.
_BROWSERS: Final = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS: Final = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "Mac"), ("Linux", "Linux"))


class Pages:
    """Renders templates of this package. In each of them `form_token()` is what the hidden field of a form holds, and `root` precedes local paths."""

    def __init__(self, settings: Settings) -> None:
        """Takes from PUBLIC_URL the path that a proxy puts before ours."""
        self._root = urlsplit(settings.public_url or "").path
        self._environment = Environment(
            loader=PackageLoader("fhir_server.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.globals |= {
            "form_token": FormGuard(settings).token,
            "token_name": TOKEN,
            "root": self._root,
            "stylesheet": f"{self._root}/pages/{stylesheet()[0]}.css",
            "pay_script": pay_script()[0],
        }
        self._environment.filters |= {"onward": onward, "browser_name": browser_name}
        self._environment.filters["day_and_time"] = _day_and_time(settings)

    def render(self, template: str, status: int = 200, *, forms_to: Sequence[str] = (), scripts_from: str | None = None, **context: Any) -> Response:
        """A page. `forms_to` are the origins, as `https://app.example.org` or `app.scheme:`, that a form may lead to by a redirect.

        `scripts_from` is the origin whose scripts the page may run beside those of this server.

        `account` in the context, where it is not None, is whoever is signed in: the page's head offers them to sign out. Raises ValueError for what
        is no origin.
        """
        for origin in (*forms_to, *filter(None, [scripts_from])):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin")
        text = self._environment.get_template(template).render({"account": None} | context)
        targets = " ".join(["'self'", *forms_to])
        policy = f"default-src 'none'; style-src 'self'; img-src 'self' data:; form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
        if scripts_from is not None:
            policy += f"; script-src 'self' {scripts_from}; connect-src {scripts_from}; frame-src {scripts_from}"
        return Response(text, status, _HEADERS | {"Content-Security-Policy": policy}, content_type="text/html; charset=utf-8")

    def fault(self, error: Exception) -> Response:
        """The page that says what is wrong, and what to do; for an Outcome with its status and headers."""
        outcome = outcome_of(error)
        title, advice = _FAULTS.get(outcome.category, _OTHER_FAULT)
        # What Flask says of an address that nothing is at, is for programmers.
        text = "" if isinstance(error, HTTPException) else words(outcome)
        response = self.render("fault.html", outcome.status, title=title, text=text, advice=advice)
        response.headers.extend(outcome.headers)
        return response

    def redirect(self, path: str) -> Response:
        """Leads on to a path of this server by GET. Raises ValueError for any other place."""
        if local_path(path) is None:
            raise ValueError(f"{path!r} is not a path of this server")
        return Response(None, 303, _HEADERS | {"Location": self._root + path})


def local_path(text: str | None) -> str | None:
    """The text where it is a path, perhaps with a query, of this server; None for anything that could lead elsewhere."""
    return text if text is not None and _LOCAL_PATH.fullmatch(text) else None


def onward(path: str, next_path: str | None) -> str:
    """The path of a page that leads on to `next_path` when it is done."""
    return path if next_path is None else f"{path}{'&' if '?' in path else '?'}next={quote(next_path, safe='/')}"


def words(outcome: Outcome) -> str:
    """What a fault says to people: sentences, with the time to wait."""
    text = outcome.issues[0].diagnostics
    found = text if text.endswith((".", "!", "?")) else f"{text}."
    wait = int(outcome.headers.get("Retry-After", "0"))
    if wait == 0:
        return found
    if wait < 120:  # noqa: PLR2004 - two minutes
        return f"{found} Try again in {wait} second{'' if wait == 1 else 's'}."
    return f"{found} Try again in {math.ceil(wait / 60)} minutes."


def browser_name(agent: str) -> str:
    """What a `User-Agent` most likely is, for its owner to recognise: `Firefox on Linux`; apps that were let in go by their names."""
    if agent.startswith("App: "):
        return agent
    # An app, which `access.apps` marks so, may be named like a browser.
    program = None if agent.startswith("App: ") else next((name for mark, name in _BROWSERS if mark in agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in agent), None)
    if program is None:
        return agent[:60] or "An unknown program"
    return program if system is None else f"{program} on {system}"


@cache
def stylesheet() -> tuple[str, bytes]:
    """The one style sheet: a name that changes with it, and its bytes."""
    return _named("pages.css")


@cache
def pay_script() -> tuple[str, bytes]:
    """The one script, of the page where a card is entered; as `stylesheet`."""
    return _named("pay.js")


def _named(file: str) -> tuple[str, bytes]:
    data = files("fhir_server.web").joinpath("static", file).read_bytes()
    return sha256(data).hexdigest()[:16], data


def _day_and_time(settings: Settings) -> Any:
    def shown(moment: datetime) -> str:
        local = moment.astimezone(settings.clinic_timezone)
        zone = "UTC" if settings.clinic_timezone.key == "UTC" else local.tzname() or ""
        return f"{local.day} {local:%B %Y, %H:%M} {zone}".rstrip()

    return shown
