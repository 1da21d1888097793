"""The pages on which somebody who has signed in opens an app for a patient, or for one of the patient's visits.

https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#launch-app-ehr-launch
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request

from fhir_server.access.apps import Client
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.web.browser import Browser, BrowserSession
from fhir_server.web.forms import FormGuard
from fhir_server.web.pages import Pages

from .api import launched
from .asking import CLINICIANS
from .authorize import form_target
from .patients import Sought, check_context, get, sought
from .services import Services
from .visits import visits


def launch_blueprint(services: Services, settings: Settings, clock: Callable[[], float]) -> Blueprint:
    """`/launch`."""
    views = _Launch(services, settings, clock)
    routes = Blueprint("launch", __name__)
    routes.register_error_handler(Exception, views.pages.fault)
    routes.add_url_rule("/launch", "show", views.show, methods=["GET"])
    routes.add_url_rule("/launch", "open", views.open, methods=["POST"])
    return routes


class _Launch:
    """The views and what they are given once."""

    def __init__(self, services: Services, settings: Settings, clock: Callable[[], float]) -> None:
        self.pages = Pages(settings)
        self._services = services
        self._forms = FormGuard(settings)
        self._browser = Browser(services.store, settings, clock)

    def show(self) -> Response:
        session = self._browser.require()
        if isinstance(session, Response):
            return session
        if "client" not in request.args:
            choosing = bool(CLINICIANS & set(session.account.roles))
            return self.pages.render("oauth/apps.html", account=session.account, apps=self._services.clients.launchable(), choosing=choosing)
        client = self._app(request.args["client"])
        return self._visits(session, client, request.args["patient"]) if "patient" in request.args else self._patients(session, client)

    def open(self) -> Response:
        given = self._forms.read("client", "patient", optional=("encounter",))
        session = self._browser.require("/launch")
        if isinstance(session, Response):
            return session
        client = self._app(given["client"])
        check_context(self._services, self._services.grant(session), given["patient"], given.get("encounter"))
        made = launched(self._services, session.account.id, client, given["patient"], given.get("encounter"))
        return Response(None, 303, {"Location": made["url"], "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})

    def _app(self, identity: str) -> Client:
        client = self._services.client(identity)
        if client is None or client.launch_uri is None:
            raise Outcome("not-found", "There is no such app")
        return client

    def _patients(self, session: BrowserSession, client: Client) -> Response:
        grant = self._services.grant(session)
        if CLINICIANS & set(session.account.roles):
            found = sought(self._services, grant, request.args)
        else:
            own = session.account.patient
            found = Sought({}, (get(self._services, grant, own),) if own is not None else (), None, "")
        return self.pages.render(
            "oauth/picker.html",
            forms_to=_targets(client),
            account=session.account,
            action="/launch",
            app=client.name,
            hidden={"client": client.id},
            fields={"client": client.id},
            found=found,
            choosing=bool(CLINICIANS & set(session.account.roles)),
            visits=True,
        )

    def _visits(self, session: BrowserSession, client: Client, patient: str) -> Response:
        grant = self._services.grant(session)
        person = get(self._services, grant, patient)
        found, following = visits(self._services, grant, person.id, request.args.get("cursor"))
        return self.pages.render(
            "oauth/visits.html",
            forms_to=_targets(client),
            account=session.account,
            app=client,
            person=person,
            visits=found,
            following=following,
        )


def _targets(client: Client) -> tuple[str, ...]:
    assert client.launch_uri is not None
    # An app's own server may lead on at once, to its redirect URI in the end.
    return tuple(dict.fromkeys(map(form_target, (client.launch_uri, *client.redirect_uris))))
