"""`/clients` and `/policy`: apps and backend services, who may register them, and what holds for records without a Consent."""

from __future__ import annotations

import json
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any, Final

from flask import Response
from flask.views import MethodView

from fhir_server.access.apps import Client, NewClient
from fhir_server.access.apps.registration import origin_of
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from . import decisions
from .exchange import Answer, act, answered, check_match, etag, tagged
from .office import caller, instant, office
from .pages import moment_before, paged
from .routes import PREFIX, Routes
from .schemas import clients as schemas
from .schemas.common import Paging

routes: Final = Routes("clients", "Apps and backend services: what may ask for tokens here, and who may register it.")

_LISTS: Final = frozenset({"redirect_uris", "origins", "grant_types"})


@routes.route("/clients")
class Clients(MethodView):
    """All clients."""

    @routes.arguments(Paging, location="query")
    @routes.response(200, schemas.Clients)
    def get(self, asked: dict[str, Any]) -> Response:
        """List clients

        The newest first.
        """
        after = moment_before(asked)
        with office().store.database.connection() as connection:
            rows = office().clients.page(connection, after, asked["limit"] + 1)
        return paged(asked, rows, lambda row: (row.created.isoformat(), row.id), _shown)

    @routes.arguments(schemas.NewClient)
    @routes.creates(schemas.Registered)
    def post(self, given: dict[str, Any]) -> Response:
        """Register a client

        Its secret, if it has one, is shown this once. Origins are those of the redirect URIs where none are given.
        """
        entered = _entered(given)
        if "origins" not in entered:
            entered["origins"] = tuple(dict.fromkeys(filter(None, map(origin_of, entered.get("redirect_uris", ())))))
        new = NewClient(**entered)

        def work(connection: Connection) -> Answer:
            client, secret = office().clients.add(new, caller().actor, office().now(), connection)
            shown = tagged(_shown(client), made=f"{PREFIX}/clients/{client.id}")
            return replace(shown, body=shown.body | {"secret": secret})

        return act(work)


@routes.route("/clients/<identity>")
class OneClient(MethodView):
    """One client."""

    @routes.tagged(schemas.Client)
    def get(self, identity: str) -> Response:
        """Show a client"""
        client = office().clients.get(identity)
        if client is None:
            raise _nothing()
        return answered(_shown(client), headers={"ETag": etag(_shown(client))})

    @routes.arguments(schemas.ClientChanges)
    @routes.tagged(schemas.Client)
    @routes.conditional
    def patch(self, given: dict[str, Any], identity: str) -> Response:
        """Change a client

        How it authenticates stays; register another one for that. What it was let in to ends where it changes or is shut out.
        """
        clients, disabled, entered = office().clients, given.pop("disabled", None), _entered(given)

        def work(connection: Connection) -> Answer:
            client: Client | None = _locked(connection, identity)
            if entered and client is not None:
                kept = NewClient(**{each.name: getattr(client, each.name) for each in fields_of(NewClient)})
                client = clients.change(identity, replace(kept, **entered), caller().actor, office().now(), connection)
            if disabled is True:
                clients.disable(identity, caller().actor, office().now(), connection)
            elif disabled is False:
                clients.enable(identity, caller().actor, connection)
            body = _shown(_locked(connection, identity, check=False))
            return tagged(body)

        return act(work)

    @routes.empty
    @routes.conditional
    def delete(self, identity: str) -> Response:
        """Shut a client out

        It is not deleted: what was done refers to it. What it was let in to ends at once.
        """

        def work(connection: Connection) -> Answer:
            _locked(connection, identity)
            office().clients.disable(identity, caller().actor, office().now(), connection)
            return Answer(status=204)

        return act(work)


@routes.route("/clients/<identity>/rotate-secret", methods=["POST"])
@routes.response(200, schemas.Secret)
@routes.idempotent
def rotate_secret(identity: str) -> Response:
    """Give a client another secret

    The one before is void at once. 409 where it authenticates in another way.
    """

    def work(connection: Connection) -> Answer:
        _locked(connection, identity)
        secret = office().clients.rotate_secret(identity, caller().actor, connection)
        if secret is None:
            raise Outcome("conflict", "This client has no secret: it authenticates in another way")
        return Answer({"secret": secret})

    return act(work)


@routes.route("/initial-tokens", methods=["POST"])
@routes.response(201, schemas.InitialToken)
@routes.idempotent
def initial_token() -> Response:
    """Make a token for one registration

    For the policy `initial-token`: whoever has it registers one app, within a week.
    """

    def work(connection: Connection) -> Answer:
        return Answer({"token": office().clients.new_initial_token(caller().actor, office().now(), connection)}, 201)

    return act(work)


@routes.route("/policy")
class Policy(MethodView):
    """What administrators decide while the server runs."""

    @routes.tagged(schemas.Policy)
    def get(self) -> Response:
        """Show the policy"""
        return decisions.show(_policy)

    @routes.arguments(schemas.PolicyChanges)
    @routes.tagged(schemas.Policy)
    @routes.conditional
    def patch(self, given: dict[str, Any]) -> Response:
        """Change the policy

        Every process goes by it from the next request on. What is not named stays.
        """
        policy, by = office().policy, caller().actor

        def decide(connection: Connection) -> None:
            if "registration" in given:
                policy.set_registration(given["registration"], by, connection=connection)
            if "subscriptions" in given:
                policy.set_subscriptions(given["subscriptions"], by, connection=connection)
            if "consent" in given:
                policy.set_consent(given["consent"], by, connection)

        return decisions.change("policy", _policy, decide)


def _policy(connection: Connection) -> dict[str, Any]:
    policy = office().policy
    shown = {"registration": policy.registration(connection), "consent": policy.consent(connection)}
    return shown | {"subscriptions": policy.subscriptions(connection)}


def _locked(connection: Connection, identity: str, *, check: bool = True) -> Client:
    """The client, for as long as the transaction lasts, in the state that If-Match names if there is one."""
    client = office().clients.locked(connection, identity)
    if client is None:
        raise _nothing()
    if check:
        check_match(_shown(client))
    return client


def _entered(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a NewClient that were entered."""
    found: dict[str, Any] = {name: tuple(dict.fromkeys(value)) if name in _LISTS else value for name, value in given.items()}
    if found.get("jwks") is not None:
        found["jwks"] = json.dumps(found["jwks"])
    return found


def _shown(client: Client) -> dict[str, Any]:
    names = ("id", "name", "auth_method", "scope", "launch_uri", "jwks_uri", "created_by")
    return {name: getattr(client, name) for name in names} | {
        "grant_types": list(client.grant_types),
        "redirect_uris": list(client.redirect_uris),
        "origins": list(client.origins),
        "jwks": json.loads(client.jwks) if client.jwks is not None else None,
        "created": instant(client.created),
        "disabled": instant(client.disabled),
    }


def _nothing() -> Outcome:
    return Outcome("not-found", "There is no such client")
