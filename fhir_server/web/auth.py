"""First-party sign-in under `/auth`: login, one-time code, sessions, password, authenticator app, registration of patients.

One view, as in `rest`: the table below says what there is. Nothing is read from cookies, so no other site can act for somebody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pyotp
import segno
from flask import Blueprint, Response, request

from fhir_server.access.accounts.accounts import Account
from fhir_server.access.accounts.contacts import Contacts, Kind
from fhir_server.access.accounts.invitations import Invitations
from fhir_server.access.accounts.notifications import Wanted, want, wanted
from fhir_server.access.accounts.recovery import Recovery
from fhir_server.access.accounts.sessions import Opened, is_alive
from fhir_server.access.accounts.sign_in import SignIn
from fhir_server.access.tokens import Person, grant_of, issue_session, session_and_grant
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.settings import Settings

from .browser import caller
from .entrance import digits
from .exchange import answer, problem, read_fields, read_flags
from .registering import NEEDED, OPTIONAL, Registering

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SESSION: Final = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_ISSUER: Final = "FHIR server"


def auth_blueprint(engine: Engine, settings: Settings, sign_in: SignIn, registering: Registering, clock: Callable[[], float]) -> Blueprint:
    """Everything below `/auth`. `clock` gives seconds since 1970. Faults of any kind become problem details."""
    auth = _Auth(engine, settings, sign_in, registering, clock)
    routes = Blueprint("auth", __name__, url_prefix="/auth")
    routes.add_url_rule("/<path:path>", "auth", auth.answer, methods=_METHODS, provide_automatic_options=False)
    routes.register_error_handler(Exception, problem)
    return routes


class _Auth:
    """The view and what it is given once."""

    def __init__(self, engine: Engine, settings: Settings, sign_in: SignIn, registering: Registering, clock: Callable[[], float]) -> None:
        self._secret = settings.jwt_secret
        self._clock = clock
        self._is_alive = partial(is_alive, engine.store)
        self._sign_in = sign_in
        self._registering = registering
        self._recovery = Recovery(sign_in.desk)
        self._contacts = Contacts(sign_in.desk)
        self._invitations = Invitations(sign_in.desk)
        self._views: dict[str, dict[str, Callable[[], Response]]] = {
            "login": {"POST": self._login},
            "otp": {"POST": self._otp},
            "otp/send": {"POST": self._send},
            "refresh": {"POST": self._refresh},
            "logout": {"POST": self._logout},
            "sessions": {"GET": self._sessions},
            "password": {"POST": self._password},
            "password/forgot": {"POST": self._forgot},
            "password/reset": {"POST": self._reset},
            "contact": {"POST": self._offer_contact},
            "contact/confirm": {"POST": self._confirm_contact},
            "totp/enroll": {"POST": self._enroll},
            "totp/confirm": {"POST": self._confirm_totp},
            "register": {"POST": self._register},
            "register/confirm": {"POST": self._confirm_registration},
            "invitation": {"POST": self._accept},
            "me": {"GET": self._me},
            "me/notifications": {"GET": self._notifications, "PUT": self._notify},
        }

    def answer(self, path: str) -> Response:
        request.environ["fhir_server.action"] = "auth"
        head, _, session = path.partition("/")
        views = {"DELETE": lambda: self._revoke(session)} if head == "sessions" and _SESSION.fullmatch(session) else self._views.get(path)
        if views is None:
            raise Outcome("not-found", "There is nothing at this address")
        # What GET answers HEAD does too, without the body: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2.
        view = views.get("GET" if request.method == "HEAD" else request.method)
        if view is None:
            allowed = ", ".join((*views, *(("HEAD",) if "GET" in views else ())))
            raise Outcome("method", "This address has other methods", headers={"Allow": allowed})
        return view()

    def _login(self) -> Response:
        given = read_fields("login", "password")
        started = self._sign_in.login(given["login"], given["password"], caller())
        return answer({"challenge": started.challenge, "methods": started.methods, "expires_in": started.expires_in})

    def _send(self) -> Response:
        given = read_fields("challenge", "method")
        self._sign_in.send(given["challenge"], given["method"])
        return answer({"method": given["method"]}, 202)

    def _otp(self) -> Response:
        given = read_fields("challenge", "code")
        account, opened = self._sign_in.verify(given["challenge"], digits(given["code"]), caller())
        return self._tokens(account, opened)

    def _refresh(self) -> Response:
        given = read_fields("refresh_token")
        opened = self._sign_in.sessions.refresh(given["refresh_token"], self._sign_in.now())
        account = self._sign_in.accounts.by_id(opened.account)
        if account is None:
            raise _no_session()
        return self._tokens(account, opened)

    def _logout(self) -> Response:
        session, account = self._signed_in()
        self._sign_in.sessions.end(session, account.id, "logged out", self._sign_in.now())
        return answer()

    def _sessions(self) -> Response:
        session, account = self._signed_in()
        found = self._sign_in.sessions.of(account.id, self._sign_in.now())
        return answer(
            [
                {
                    "id": each.id,
                    "created": _instant(each.created),
                    "last_seen": _instant(each.last_seen),
                    "address": each.address,
                    "agent": each.agent,
                    "current": each.id == session,
                }
                for each in found
            ]
        )

    def _revoke(self, session: str) -> Response:
        _, account = self._signed_in()
        if not self._sign_in.sessions.end(session, account.id, "revoked", self._sign_in.now()):
            raise Outcome("not-found", "You have no such session")
        return answer()

    def _password(self) -> Response:
        given = read_fields("current", "new")
        _, account = self._signed_in()
        self._sign_in.change_password(account, given["current"], given["new"], caller())
        return answer()

    def _forgot(self) -> Response:
        given = read_fields("login")
        self._recovery.forgot(given["login"], caller())
        return answer({"login": given["login"]}, 202)

    def _reset(self) -> Response:
        given = read_fields("login", "code", "new", optional=("totp",))
        self._recovery.reset(given["login"], digits(given["code"]), given["new"], caller(), totp=digits(given.get("totp", "")))
        return answer()

    def _offer_contact(self) -> Response:
        given = read_fields("current", optional=("email", "phone"))
        _, account = self._signed_in(usable=True)
        kind = _kind(given)
        self._contacts.offer(account, kind, given[kind], given["current"], caller())
        return answer({kind: given[kind]}, 202)

    def _confirm_contact(self) -> Response:
        given = read_fields("kind", "code")
        _, account = self._signed_in(usable=True)
        self._contacts.confirm(account, _kind({given["kind"]: ""}), digits(given["code"]), caller())
        return answer()

    def _enroll(self) -> Response:
        _, account = self._signed_in(usable=True)
        secret = self._sign_in.enroll_totp(account)
        uri = otpauth_uri(account, secret)
        return answer({"secret": secret, "otpauth_uri": uri, "qr_svg": segno.make(uri, error="m").svg_inline(scale=4)})

    def _confirm_totp(self) -> Response:
        given = read_fields("code")
        _, account = self._signed_in(usable=True)
        self._sign_in.confirm_totp(account, digits(given["code"]), caller())
        return answer()

    def _register(self) -> Response:
        given = read_fields(*NEEDED, optional=OPTIONAL)
        self._registering.take(given, caller())
        return answer({"login": given["login"]}, 202)

    def _confirm_registration(self) -> Response:
        given = read_fields("login", "code")
        account = self._registering.confirm(given["login"], digits(given["code"]), caller())
        return answer({"login": account.login, "fhirUser": f"Patient/{account.id}"})

    def _accept(self) -> Response:
        given = read_fields("login", "code", "password")
        self._invitations.accept(given["login"], digits(given["code"]), given["password"], caller())
        return answer()

    def _me(self) -> Response:
        session, grant = self._bearer()
        if session is None:
            return answer({"login": grant.actor, "roles": sorted(grant.roles), "fhirUser": grant.user, "session": None})
        _, account = self._signed_in()
        return answer({"login": account.login, "roles": account.roles, "fhirUser": account.fhir_user, "session": session})

    def _notifications(self) -> Response:
        _, account = self._signed_in()
        return answer(asdict(wanted(self._sign_in.desk.database, account.id)))

    def _notify(self) -> Response:
        choice = Wanted(**read_flags("email", "sms"))
        _, account = self._signed_in(usable=True)
        want(self._sign_in.desk.database, account.id, choice, self._bearer()[1], caller().address)
        return answer(asdict(choice))

    def _tokens(self, account: Account, opened: Opened) -> Response:
        person = Person(account.login, account.roles, account.patient, account.fhir_user, account.password_expired, account.id)
        token = issue_session(self._secret, person, session=opened.id, ttl=opened.ttl, now=self._clock())
        body: dict[str, Any] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": opened.ttl,
            "refresh_token": opened.refresh_token,
            "session": opened.id,
        }
        return answer(body | ({"password_expired": True} if account.password_expired else {}))

    def _bearer(self) -> tuple[str | None, Grant]:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Outcome("unauthenticated", "A bearer token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
        now = self._clock()
        grant = grant_of(self._secret, token.strip(), now, self._is_alive)
        if grant.client is not None:
            raise Outcome("forbidden", "This token was given to an app; sessions and accounts are for people who have signed in themselves")
        return session_and_grant(self._secret, token.strip(), now)[0], grant

    def _signed_in(self, *, usable: bool = False) -> tuple[str, Account]:
        """The caller's session and account; `usable` refuses one whose password has to be changed first."""
        session, _ = self._bearer()
        if session is None:
            raise Outcome("forbidden", "This token was not had by signing in; it belongs to no account")
        owner = self._sign_in.sessions.owner(session)
        account = self._sign_in.accounts.by_id(owner) if owner is not None else None
        if account is None:
            raise _no_session()
        if usable and account.password_expired:
            raise Outcome("forbidden", "Change the password first")
        return session, account


def otpauth_uri(account: Account, secret: str) -> str:
    """What the QR code for an authenticator app says."""
    return pyotp.TOTP(secret).provisioning_uri(name=account.login, issuer_name=_ISSUER)


def _kind(given: dict[str, str]) -> Kind:
    match sorted({"email", "phone"} & set(given)):
        case ["email"]:
            return "email"
        case ["phone"]:
            return "phone"
    raise Outcome("parameter", "Either 'email' or 'phone' is needed")


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _no_session() -> Outcome:
    return Outcome("unauthenticated", "The session has ended; sign in again", headers={"WWW-Authenticate": "Bearer"})
