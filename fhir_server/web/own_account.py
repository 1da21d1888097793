"""The pages of one's own account: who I am, messages, sessions, password, authenticator app, e-mail address and telephone."""

from __future__ import annotations

import segno
from flask import Blueprint, Response

from fhir_server.access.accounts.contacts import Contacts, Kind
from fhir_server.access.accounts.notifications import Wanted, want, wanted
from fhir_server.outcome import Outcome

from .auth import otpauth_uri
from .browser import BrowserSession, caller
from .entrance import digits
from .views import Kit, demand, next_path


class OwnAccount:
    """The views. Each begins with the form, where there is one, then asks who is signed in."""

    def __init__(self, kit: Kit) -> None:
        """Works with `kit`."""
        self._kit = kit
        self._contacts = Contacts(kit.sign_in.desk)

    def add_to(self, routes: Blueprint) -> None:
        """Gives the views their addresses."""
        routes.add_url_rule("/account", "account", self.account, methods=["GET"])
        routes.add_url_rule("/account/messages", "messages_sent", self.choose_messages, methods=["POST"])
        routes.add_url_rule("/account/sessions", "sessions_sent", self.end_session, methods=["POST"])
        routes.add_url_rule("/account/password", "password", self.password_form, methods=["GET"])
        routes.add_url_rule("/account/password", "password_sent", self.password, methods=["POST"])
        # Where password managers look: https://w3c.github.io/webappsec-change-password-url/
        routes.add_url_rule("/.well-known/change-password", "change_password", lambda: self._kit.pages.redirect("/account/password"))
        routes.add_url_rule("/account/app", "app", self.app_form, methods=["GET"])
        routes.add_url_rule("/account/app", "app_sent", self.app, methods=["POST"])
        routes.add_url_rule("/account/app/confirm", "app_confirm", self.confirm_app, methods=["POST"])
        kinds: tuple[Kind, ...] = ("email", "phone")
        for kind in kinds:
            given = {"kind": kind}
            routes.add_url_rule(f"/account/{kind}", kind, self.contact_form, methods=["GET"], defaults=given)
            routes.add_url_rule(f"/account/{kind}", f"{kind}_sent", self.contact, methods=["POST"], defaults=given)
            routes.add_url_rule(f"/account/{kind}/confirm", f"{kind}_confirm", self.confirm_contact, methods=["POST"], defaults=given)

    def account(self) -> Response:
        """All that there is to see and change."""
        found = self._kit.browser.require()
        if isinstance(found, Response):
            return found
        sessions = self._kit.sign_in.sessions.of(found.account.id, self._kit.sign_in.now())
        messages = wanted(self._kit.sign_in.desk.database, found.account.id)
        return self._kit.page("account.html", sessions=sessions, current=found.id, messages=messages)

    def choose_messages(self) -> Response:
        """Keeps by which ways messages of the clinic are welcome: those whose boxes are ticked."""
        kit = self._kit
        given = kit.forms.read(optional=("email", "sms"))
        found = kit.browser.require("/account")
        if isinstance(found, Response):
            return found
        want(kit.sign_in.desk.database, found.account.id, Wanted(email="email" in given, sms="sms" in given), found.by, caller().address)
        return kit.pages.redirect("/account?done=messages")

    def end_session(self) -> Response:
        """Ends one session, or all but this one."""
        kit = self._kit
        given = kit.forms.read(optional=("session", "others"))
        found = kit.browser.require("/account")
        if isinstance(found, Response):
            return found
        now = kit.sign_in.now()
        if "others" in given:
            for each in kit.sign_in.sessions.of(found.account.id, now):
                if each.id != found.id:
                    kit.sign_in.sessions.end(each.id, found.account.id, "revoked", now)
            return kit.pages.redirect("/account?done=sessions")
        kit.sign_in.sessions.end(given.get("session", ""), found.account.id, "revoked", now)
        return kit.pages.redirect("/account?done=session")

    def password_form(self) -> Response:
        """Asks for the current password and the new one; who has to change it is told so."""
        found = self._kit.browser.require(expired=True)
        return found if isinstance(found, Response) else self._kit.page("password.html", next=next_path())

    def password(self) -> Response:
        """Changes the password. Every session ends, and this browser gets a new one."""
        kit = self._kit
        given = kit.forms.read(optional=("current", "new", "next"))
        onto = next_path(given)
        found = kit.browser.require("/account/password", expired=True)
        if isinstance(found, Response):
            return found
        try:
            current, new = demand(given, "current", "new")
            kit.sign_in.change_password(found.account, current, new, caller())
        except Outcome as outcome:
            return kit.page("password.html", outcome, next=onto)
        response = kit.pages.redirect(onto or "/account?done=password")
        account = kit.sign_in.accounts.by_id(found.account.id)
        if account is not None:
            kit.browser.sign_in(response, account)
        return response

    def app_form(self) -> Response:
        """Says what an authenticator app is; once one is to be set up, shows the QR code."""
        found = self._kit.browser.require()
        return found if isinstance(found, Response) else self._app_page(found)

    def app(self) -> Response:
        """Begins to set an app up."""
        self._kit.forms.read()
        found = self._kit.browser.require("/account/app")
        if isinstance(found, Response):
            return found
        self._kit.sign_in.enroll_totp(found.account)
        return self._kit.pages.redirect("/account/app")

    def confirm_app(self) -> Response:
        """Makes the app the second factor by a right code."""
        given = self._kit.forms.read(optional=("code",))
        found = self._kit.browser.require("/account/app")
        if isinstance(found, Response):
            return found
        try:
            self._kit.sign_in.confirm_totp(found.account, digits(*demand(given, "code")), caller())
        except Outcome as outcome:
            return self._app_page(found, outcome)
        return self._kit.pages.redirect("/account?done=app")

    def contact_form(self, kind: Kind) -> Response:
        """Asks for the new address or number, and where one waits for its code, for that."""
        found = self._kit.browser.require()
        if isinstance(found, Response):
            return found
        return self._contact_page(found, kind)

    def contact(self, kind: Kind) -> Response:
        """Sends a code to the new address or number."""
        given = self._kit.forms.read(optional=(kind, "current"))
        found = self._kit.browser.require(f"/account/{kind}")
        if isinstance(found, Response):
            return found
        try:
            target, current = demand(given, kind, "current")
            self._contacts.offer(found.account, kind, target, current, caller())
        except Outcome as outcome:
            return self._contact_page(found, kind, outcome, given.get(kind, ""))
        return self._kit.pages.redirect(f"/account/{kind}")

    def confirm_contact(self, kind: Kind) -> Response:
        """Makes the new address or number the account's by a right code."""
        given = self._kit.forms.read(optional=("code",))
        found = self._kit.browser.require(f"/account/{kind}")
        if isinstance(found, Response):
            return found
        try:
            self._contacts.confirm(found.account, kind, digits(*demand(given, "code")), caller())
        except Outcome as outcome:
            return self._contact_page(found, kind, outcome)
        return self._kit.pages.redirect(f"/account?done={kind}")

    def _app_page(self, found: BrowserSession, fault: Outcome | None = None) -> Response:
        secret = found.account.totp_offered
        qr = uri = None
        if secret is not None:
            uri = otpauth_uri(found.account, secret)
            qr = segno.make(uri, error="m").svg_data_uri(scale=4)
        return self._kit.page("app.html", fault, secret=secret, uri=uri, qr=qr)

    def _contact_page(self, found: BrowserSession, kind: Kind, fault: Outcome | None = None, value: str = "") -> Response:
        return self._kit.page("contact.html", fault, kind=kind, value=value, waiting=self._contacts.waiting(found.account, kind))
