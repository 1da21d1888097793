"""What the views of the admin API work with, made once per application."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

from flask import current_app, g, request

from fhir_server.access import grant_of, is_administrator, is_alive
from fhir_server.access.accounts.accounts import Accounts
from fhir_server.access.accounts.administration import Administration
from fhir_server.access.accounts.invitations import Invitations
from fhir_server.access.accounts.sign_in import SignIn
from fhir_server.access.apps import Clients
from fhir_server.access.audit import Event
from fhir_server.access.idempotency import Idempotency
from fhir_server.access.policy import Policy
from fhir_server.clinic.billing.gateway import Online
from fhir_server.clinic.messages import Messages
from fhir_server.clinic.subscriptions import Subscriptions
from fhir_server.hl7v2.intake.inbox import Inbox
from fhir_server.hl7v2.outbound import Outbound
from fhir_server.interactions import Engine
from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.settings import Settings
from fhir_server.store import Store

EXTENSION: Final = "fhir_server.admin"


@dataclass(frozen=True, slots=True)
class Office:
    """The rules and the records that an administrator works with. `clock` gives seconds since 1970."""

    store: Store
    settings: Settings
    clock: Callable[[], float]
    page_key: bytes
    sign_in: SignIn
    accounts: Accounts
    administration: Administration
    invitations: Invitations
    idempotency: Idempotency
    clients: Clients
    policy: Policy
    is_alive: Callable[[str, float], bool]
    inbox: Inbox
    outbound: Outbound
    messages: Messages
    subscriptions: Subscriptions
    online: Online

    @classmethod
    def of(cls, engine: Engine, settings: Settings, messenger: Messenger, inbox: Inbox, clock: Callable[[], float] = time.time) -> Office:
        """An office over the engine's store."""
        sign_in = SignIn(engine.store, settings, messenger, lambda: datetime.fromtimestamp(clock(), UTC))
        return cls(
            engine.store,
            settings,
            clock,
            sign_in.desk.vault.digest("page links of the admin API"),
            sign_in,
            sign_in.accounts,
            Administration(engine.store, sign_in.accounts),
            Invitations(sign_in.desk, settings.public_url),
            Idempotency(sign_in.desk.vault),
            Clients(engine.store, sign_in.desk.vault),
            Policy(engine.store),
            partial(is_alive, engine.store),
            inbox,
            Outbound(engine.store, settings),
            Messages(engine.store, settings),
            Subscriptions(engine, settings),
            Online(engine.store, settings),
        )

    def now(self) -> datetime:
        """The time by which all of this goes."""
        return self.sign_in.now()


def office() -> Office:
    """The office of the application that answers now."""
    return cast("Office", current_app.extensions[EXTENSION])


def caller() -> Grant:
    """Who has sent the request: an administrator, as `admit` has seen."""
    return cast("Grant", g.fhir_server_caller)


def admit() -> None:
    """Lets administrators in: a session of theirs, or a token of the role admin made in the shell. An app that one of them uses is not the same.

    Raises Outcome `unauthenticated` without a good token, `forbidden` for one of anybody else.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Outcome("unauthenticated", "A bearer token is needed: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
    here = office()
    grant = grant_of(here.settings.jwt_secret, token.strip(), here.clock(), here.is_alive)
    if not is_administrator(grant):
        told = Event("denied", outcome=4, type="administration", query=f"{request.method} {request.path}")
        here.store.note(told.by(grant, address=request.environ.get("REMOTE_ADDR", ""), request_id=request.environ.get("fhir_server.request_id", "")))
        raise Outcome("forbidden", "This is for administrators")
    g.fhir_server_caller = grant


def identity_of(grant: Grant) -> str:
    """One text per caller: the account, or what a token of the shell is called."""
    return f"account {grant.account}" if grant.account is not None else f"token {grant.actor}"


def instant(moment: datetime | None) -> Any:
    """A moment as texts of JSON have it, in UTC with milliseconds; None stays None."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment is not None else None
