"""The pages on which a person lets an app in: whose record it is about, and what the app gets.

https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code, https://www.rfc-editor.org/rfc/rfc6749#section-4.1
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, Response, request

from fhir_server.access.apps.registration import origin_of
from fhir_server.access.apps.requests import AppRequest
from fhir_server.access.apps.words import LONGEST, needs_patient, opens
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.web.browser import Browser, BrowserSession, caller
from fhir_server.web.exchange import read_body
from fhir_server.web.forms import FormGuard
from fhir_server.web.pages import Pages, local_path

from .api import FORM, extended, read_params
from .asking import CLINICIANS, Asking, Distrusted, Refused, check, trusted, wanted, wants_sign_in
from .parts import narrowed, parts_of
from .patients import get, sought
from .sentences import sentence_of
from .services import Services


def authorize_blueprint(services: Services, settings: Settings, clock: Callable[[], float]) -> Blueprint:
    """`/oauth/authorize` and the pages behind it. Faults that the app is not told are told on a page."""
    views = _Authorize(services, settings, clock)
    routes = Blueprint("authorize", __name__)
    routes.register_error_handler(Exception, views.fault)
    for rule, method, view in (
        ("/oauth/authorize", "GET", views.begin),
        ("/oauth/authorize", "POST", views.post),
        ("/oauth/authorize/<identity>", "GET", views.show),
        ("/oauth/authorize/<identity>", "POST", views.answer),
    ):
        routes.add_url_rule(rule, f"{method} {rule}", view, methods=[method])
    return routes


class _Authorize:
    """The views and what they are given once."""

    def __init__(self, services: Services, settings: Settings, clock: Callable[[], float]) -> None:
        self._services = services
        self._pages = Pages(settings)
        self._forms = FormGuard(settings)
        self._browser = Browser(services.store, settings, clock)

    def fault(self, error: Exception) -> Response:
        if isinstance(error, Distrusted):
            return self._pages.render("oauth/error.html", error.status, text=error.issues[0].diagnostics)
        return self._pages.fault(error)

    def post(self) -> Response:
        # A form on an app's page does not bring our cookie along, but the way by GET does.
        text = read_body(FORM).decode("ascii", errors="replace")
        params = read_params(text)
        trusted(self._services, params)
        place = f"/oauth/authorize?{urlencode(params)}"
        if local_path(place) is None:
            raise Distrusted("The app that has sent you here asks for too much at once")
        return self._pages.redirect(place)

    def begin(self) -> Response:
        request.environ["fhir_server.action"] = "oauth"
        asking = trusted(self._services, read_params(request.environ.get("QUERY_STRING", "")))
        try:
            check(self._services, asking)
            return self._asked(asking)
        except Refused as refused:
            return self._leave(asking.redirect_uri, asking.state, {"error": refused.error, "error_description": refused.text})

    def show(self, identity: str) -> Response:
        session = self._browser.require()
        if isinstance(session, Response):
            return session
        asked = self._waiting(identity, session)
        choosing = "choose" in request.args and CLINICIANS & set(session.account.roles)
        if needs_patient(asked.scope) and (asked.patient is None or choosing):
            return self._picker(asked, session)
        return self._consent(asked, session)

    def answer(self, identity: str) -> Response:
        given = self._forms.read("answer", optional=("patient",))
        chosen = self._forms.read_all("scope", "part")
        session = self._browser.require(f"/oauth/authorize/{identity}")
        if isinstance(session, Response):
            return session
        asked = self._waiting(identity, session)
        if given["answer"] == "choose" and CLINICIANS & set(session.account.roles):
            person = get(self._services, self._services.grant(session), given.get("patient", ""))
            self._services.requests.choose(asked, person.id)
            return self._pages.redirect(f"/oauth/authorize/{asked.id}")
        if given["answer"] == "allow" and not (asked.patient is None and needs_patient(asked.scope)):
            granted = narrowed(asked.scope.split(), set(chosen["scope"]), set(chosen["part"]))
            if len(" ".join(granted)) > LONGEST:
                return self._consent(asked, session, wrong="That is too much at once. Choose fewer parts.")
            if not opens(granted):
                return self._consent(asked, session, wrong="Choose at least one thing that the app may do, or do not let it in.")
            return self._allow(asked, session, granted)
        if given["answer"] == "deny":
            self._services.requests.deny(asked, self._services.grant(session))
            error = {"error": "access_denied", "error_description": "The person does not let the app in"}
            return self._leave(asked.redirect_uri, asked.state, error)
        raise Outcome("parameter", "There is no such answer")

    def _asked(self, asking: Asking) -> Response:
        """Asks the person, or answers at once where there is nothing to ask. Raises Refused."""
        services, silent = self._services, "none" in asking.prompts
        session = self._browser.current()
        if session is None or session.account.password_expired:
            if silent:
                raise Refused("login_required", "Nobody has signed in with this browser")
            led = self._browser.require(f"/oauth/authorize?{urlencode(asking.params)}")
            assert isinstance(led, Response)
            return led
        if wants_sign_in(services, asking, session.id):
            if silent:
                raise Refused("login_required", "The person has signed in too long ago")
            return self._again(asking, session)
        new = wanted(services, asking, session.account)
        asked = services.requests.open(new, session.account.id, session.id, caller().address, services.now())
        known = asked.patient is not None or not needs_patient(asked.scope)
        # Anybody can say to be a client that has no secret: its person is asked each time.
        if known and asking.client.confidential and not asking.prompts - {"none"} and services.requests.is_allowed(asked):
            return self._allow(asked, session, asked.scope.split())
        if silent:
            raise Refused("interaction_required", "The person has to be asked")
        return self._pages.redirect(f"/oauth/authorize/{asked.id}")

    def _again(self, asking: Asking, session: BrowserSession) -> Response:
        # An address that is followed ends nothing: the person signs out by a form, and comes back after the sign-in.
        kept = {name: value for name, value in asking.params.items() if name != "prompt"}
        return self._pages.render("oauth/again.html", account=session.account, app=asking.client.name, next=f"/oauth/authorize?{urlencode(kept)}")

    def _allow(self, asked: AppRequest, session: BrowserSession, granted: list[str]) -> Response:
        # Patients are held to their own record whatever the app asks for.
        about = needs_patient(" ".join(granted)) or not CLINICIANS & set(session.account.roles)
        code = self._services.requests.allow(asked, granted, self._services.grant(session), self._services.now(), about=about)
        return self._leave(asked.redirect_uri, asked.state, {"code": code})

    def _waiting(self, identity: str, session: BrowserSession) -> AppRequest:
        found = self._services.requests.find(identity, session.id, self._services.now())
        if found is None or self._services.client(found.client) is None:
            raise Distrusted("This was answered, or waited for too long. Go back to the app and begin again")
        return found

    def _picker(self, asked: AppRequest, session: BrowserSession) -> Response:
        found = sought(self._services, self._services.grant(session), request.args)
        return self._pages.render(
            "oauth/picker.html",
            account=session.account,
            action=f"/oauth/authorize/{asked.id}",
            app=self._name(asked),
            hidden={"choose": "1"},
            fields={"answer": "choose"},
            found=found,
            choosing=True,
            visits=False,
        )

    def _consent(self, asked: AppRequest, session: BrowserSession, wrong: str = "") -> Response:
        words = asked.scope.split()
        person = (
            get(self._services, self._services.grant(session), asked.patient) if asked.patient is not None and needs_patient(asked.scope) else None
        )
        return self._pages.render(
            "oauth/consent.html",
            400 if wrong else 200,
            forms_to=(form_target(asked.redirect_uri),),
            account=session.account,
            action=f"/oauth/authorize/{asked.id}",
            app=self._name(asked),
            place=urlsplit(asked.redirect_uri).netloc or urlsplit(asked.redirect_uri).scheme,
            person=person,
            choosable=bool(CLINICIANS & set(session.account.roles)),
            lines=[(word, sentence_of(word), parts_of(word)) for word in words],
            wrong=wrong,
        )

    def _name(self, asked: AppRequest) -> str:
        client = self._services.clients.get(asked.client)
        assert client is not None
        return client.name

    def _leave(self, redirect_uri: str, state: str | None, params: dict[str, str]) -> Response:
        # An app that speaks to several servers sees by `iss` which one answers: https://www.rfc-editor.org/rfc/rfc9207.
        url = extended(redirect_uri, params | ({"state": state} if state is not None else {}) | {"iss": self._services.issuer()})
        if request.method == "GET" and request.headers.get("Sec-Fetch-Site") == "same-origin":
            # The way here began with a form of ours, the sign-in: browsers hold all redirects after it to our own origin. A page begins anew.
            return self._pages.render("oauth/leave.html", url=url)
        return Response(None, 303, {"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def form_target(address: str) -> str:
    """What a page's policy calls the place that a form may lead to: an origin, or the scheme of an app on the device."""
    return origin_of(address) or f"{urlsplit(address).scheme}:"
