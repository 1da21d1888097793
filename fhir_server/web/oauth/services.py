"""What the ways to tokens have in common: the rules below them, put together once, and the answers that carry tokens."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from flask import request

from fhir_server.access import Gate
from fhir_server.access.accounts.accounts import Account, Accounts
from fhir_server.access.apps import AppSessions, Client, Clients, Requests, SigningKeys, endpoints, issuer_of
from fhir_server.access.apps.assertions import check_assertion
from fhir_server.access.apps.requests import AppRequest
from fhir_server.access.apps.sessions import Opened
from fhir_server.access.apps.words import needs_patient
from fhir_server.access.policy import Policy
from fhir_server.access.tokens import Person, issue_app, issue_session
from fhir_server.access.vault import Vault
from fhir_server.interactions import Engine
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.settings import Settings
from fhir_server.web.browser import BrowserSession

from .style import style_url

_ID_TOKEN_LIFE: Final = 3600
_MOMENT: Final = 60  # Seconds: a grant made for the request at hand.


class Services:
    """One per application. `clock` gives seconds since 1970."""

    def __init__(self, engine: Engine, settings: Settings, clock: Callable[[], float]) -> None:
        """Takes the secret and PUBLIC_URL from the settings."""
        vault = Vault.of(settings)
        store = engine.store
        self.engine = engine
        self.store = store
        self.clock = clock
        self.secret = settings.jwt_secret
        self.public_url = settings.public_url
        self.vault = vault
        self.accounts = Accounts(store, vault)
        self.clients = Clients(store, vault)
        self.requests = Requests(store, vault)
        self.sessions = AppSessions(store, vault)
        self.keys = SigningKeys(store, vault)
        self.policy = Policy(store)
        self._gate = Gate(store, settings.jwt_secret)

    def now(self) -> datetime:
        """The time by which all of this goes."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def issuer(self) -> str:
        """The address of this server as the caller knows it."""
        return issuer_of(self.public_url, request.environ)

    def addresses(self) -> tuple[str, ...]:
        """The addresses that this server goes by: PUBLIC_URL and that of the request."""
        return tuple(dict.fromkeys((self.issuer(), issuer_of(None, request.environ))))

    def client(self, identity: str) -> Client | None:
        """The client of an id, unless it is disabled."""
        found = self.clients.get(identity)
        return found if found is not None and found.disabled is None else None

    def check_assertion(self, client: Client, assertion: str) -> None:
        """Makes sure that a client has signed a statement for the token endpoint. Raises Outcome `unauthenticated`."""
        # Not the addresses of the request besides: whoever holds a statement for another server could name that as the host.
        check_assertion(self.store, self.vault, client, assertion, endpoints(self.issuer())["token_endpoint"], self.clock())

    def bearer(self) -> Grant:
        """The grant of the request's bearer token. Raises Outcome `unauthenticated`."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Outcome("unauthenticated", "A bearer token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
        return self.grant_of(token.strip())

    def grant_of(self, token: str) -> Grant:
        """The grant of a token. Raises Outcome `unauthenticated`."""
        return self._gate.grant(token, self.clock())

    def grant(self, session: BrowserSession) -> Grant:
        """What is open to a person who has signed in with a browser."""
        person = _person(session.account)
        token = issue_session(self.secret, person, session=session.id, ttl=_MOMENT, now=self.clock())
        return self._gate.grant(token, self.clock())

    def token_answer(self, opened: Opened, scope: str | None = None) -> dict[str, Any]:
        """What the token endpoint answers; `scope` is less than what was granted, where the app has asked for less this time."""
        session = opened.session
        account = self.accounts.by_id(session.account) if session.account is not None else None
        person = _person(account) if account is not None else None
        told = scope if scope is not None else session.scope
        token = issue_app(
            self.secret,
            person,
            client=session.client,
            scope=told,
            context=session.context,
            session=session.id,
            ttl=opened.ttl,
            now=self.clock(),
        )
        answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": opened.ttl, "scope": told}
        if needs_patient(told) and session.patient is not None:
            answer |= {**session.context, "need_patient_banner": True, "smart_style_url": style_url(self.issuer())}
        if opened.refresh_token is not None:
            answer["refresh_token"] = opened.refresh_token
        return answer

    def id_token(self, asked: AppRequest, access_token: str) -> str:
        """Who has signed in, signed for the app."""
        account = self.accounts.by_id(asked.account)
        assert account is not None
        now = int(self.clock())
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        claims = {
            "iss": self.issuer(),
            "aud": asked.client,
            "iat": now,
            "exp": now + _ID_TOKEN_LIFE,
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
            **self.identity(account, asked.granted or ""),
        }
        signed_in = self.sessions.signed_in(asked.browser)
        if signed_in is not None:
            claims["auth_time"] = int(signed_in.timestamp())
        if asked.nonce is not None:
            claims["nonce"] = asked.nonce
        return self.keys.signed(claims, self.now())

    def identity(self, account: Account, scope: str) -> dict[str, Any]:
        """The claims about a person that the scopes open."""
        words = scope.split()
        claims: dict[str, Any] = {"sub": account.id}
        user = f"{self.issuer()}/fhir/{account.fhir_user}" if account.fhir_user is not None else None
        if "fhirUser" in words and user is not None:
            claims["fhirUser"] = user
        if "profile" in words:
            claims["preferred_username"] = account.login
            claims |= {"profile": user} if user is not None else {}
        return claims


def _person(account: Account) -> Person:
    return Person(account.login, account.roles, account.patient, account.fhir_user, account.password_expired, account.id)
