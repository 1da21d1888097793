"""What programs ask of the authorization server: tokens, what they are and their end, keys, who somebody is, registration, launches, discovery.

https://www.rfc-editor.org/rfc/rfc6749#section-3.2, https://www.rfc-editor.org/rfc/rfc7591#section-3
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import Blueprint, Response, request

from fhir_server.access import is_administrator
from fhir_server.access.accounts import limits
from fhir_server.access.accounts.desk import network
from fhir_server.access.accounts.limits import Limit
from fhir_server.access.apps import Client, openid_configuration
from fhir_server.access.apps.registration import Unfit, check, is_loopback, read_metadata
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.web.exchange import answer, is_from_here, outcome_of, read_body, read_fields

from .adapted import Asked
from .held import held, introspection, own_token
from .patients import check_context
from .protocol import Server
from .services import Services
from .style import PLACE, style

FORM: Final = "application/x-www-form-urlencoded"
OPEN: Final = "open registration"
"""By whom a client was registered that nobody has looked at."""

_MOST_FIELDS: Final = 50
_REGISTRATIONS: Final = 100  # Of one address in 15 minutes, where registration is open.
_ERRORS: Final = {
    "unauthenticated": "invalid_token",
    "forbidden": "access_denied",
    "throttled": "temporarily_unavailable",
    "unavailable": "temporarily_unavailable",
    "internal": "server_error",
}


def api_blueprint(services: Services) -> Blueprint:
    """The endpoints below `/oauth` that answer in JSON, and discovery at the issuer. Faults are errors as OAuth has them."""
    api = _Api(services)
    routes = Blueprint("oauth", __name__)
    routes.register_error_handler(Exception, fault)
    rules: tuple[tuple[str, str, Callable[[], Response]], ...] = (
        ("/oauth/token", "POST", api.token),
        ("/oauth/introspect", "POST", api.introspect),
        ("/oauth/revoke", "POST", api.revoke),
        ("/oauth/register", "POST", api.register),
        ("/oauth/launch", "POST", api.launch),
        ("/oauth/userinfo", "GET", api.userinfo),
        ("/oauth/userinfo", "POST", api.userinfo),
        ("/oauth/jwks", "GET", api.jwks),
        (PLACE, "GET", api.style),
        ("/.well-known/openid-configuration", "GET", api.discovery),
        ("/.well-known/oauth-authorization-server", "GET", api.discovery),
    )
    for rule, method, view in rules:
        routes.add_url_rule(rule, f"{method} {rule}".replace(".", "-"), _counted(view), methods=[method])
    return routes


def fault(error: Exception) -> Response:
    """The answer to a fault: https://www.rfc-editor.org/rfc/rfc6749#section-5.2."""
    outcome = outcome_of(error)
    code = error.error if isinstance(error, Unfit) else _ERRORS.get(outcome.category, "invalid_request")
    response = answer({"error": code, "error_description": outcome.issues[0].diagnostics}, 400 if isinstance(error, Unfit) else outcome.status)
    response.headers.extend(outcome.headers)
    return response


class _Api:
    """The views and what they are given once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._server = Server(services)

    def token(self) -> Response:
        return self._server.token(_asked())

    def introspect(self) -> Response:
        asked = _asked()
        if asked.headers.get("Authorization", "")[:7].lower() != "bearer ":
            return self._server.introspect(asked)
        if not is_administrator(self._services.bearer()):
            raise Outcome("forbidden", "Only admins are told of the tokens of every client")
        token = asked.form.get("token", "")
        found = held(self._services, token)
        if found is not None:
            return answer(introspection(self._services, found))
        return answer(own_token(self._services, token) or {"active": False})

    def revoke(self) -> Response:
        return self._server.revoke(_asked())

    def register(self) -> Response:
        given = _json()
        new = read_metadata(given)
        check(new)
        by = self._registrar("client_credentials" in new.grant_types)
        if by == OPEN and new.jwks_uri is not None and is_loopback(urlsplit(new.jwks_uri).hostname or "") and not is_from_here():
            # Nobody elsewhere has us ask the programs on this machine.
            raise Unfit("invalid_client_metadata", "'jwks_uri' is an address on the server's own machine, which an admin may register")
        client, secret = self._services.clients.add(new, by, self._services.now())
        return answer(_registered(client, secret), 201)

    def launch(self) -> Response:
        given = read_fields("patient", optional=("client_id", "encounter"))
        grant = self._services.bearer()
        if grant.account is None or grant.client is not None:
            raise Outcome("forbidden", "Apps are launched by people who have signed in themselves")
        client = self._services.client(given["client_id"]) if "client_id" in given else None
        if "client_id" in given and (client is None or client.launch_uri is None):
            raise Outcome("invalid", "There is no such app, or it has no address to launch it at")
        check_context(self._services, grant, given["patient"], given.get("encounter"))
        return answer(launched(self._services, grant.account, client, given["patient"], given.get("encounter")), 201)

    def userinfo(self) -> Response:
        grant = self._services.bearer()
        session = self._services.sessions.get(grant.session, self._services.now()) if grant.session is not None else None
        account = self._services.accounts.by_id(session.account) if session is not None and session.account is not None else None
        if session is None or account is None or "openid" not in session.scope.split():
            headers = {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="openid"'}
            raise Outcome("forbidden", "This token was not given with the scope openid", headers=headers)
        return answer(self._services.identity(account, session.scope))

    def jwks(self) -> Response:
        keys = self._services.keys.public(self._services.now())
        headers = {"Cache-Control": "public, max-age=3600"}
        return Response(json.dumps({"keys": keys}), 200, headers, content_type="application/json")

    def style(self) -> Response:
        return Response(style(), 200, {"Cache-Control": "public, max-age=86400"}, content_type="application/json")

    def discovery(self) -> Response:
        return Response(json.dumps(openid_configuration(self._services.issuer())), 200, content_type="application/json")

    def _registrar(self, service: bool) -> str:  # noqa: FBT001 - asked in one place
        """By whom the client is registered that is about to be. Raises Outcome `unauthenticated` where the caller may not register it."""
        services = self._services
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        policy = services.policy.registration()
        if scheme.lower() == "bearer" and token:
            by = services.clients.use_initial_token(token.strip(), services.now()) if policy == "initial-token" and not service else None
            if by is not None:
                return by
            grant: Grant = services.bearer()
            if not is_administrator(grant):
                raise Outcome("forbidden", "Only admins register clients by their token")
            return grant.actor
        if policy != "open" or service:
            text = "Backend services are registered by an admin" if service else "Apps are registered by an admin here"
            raise Outcome("unauthenticated", f"{text}: send an admin's bearer token", headers={"WWW-Authenticate": "Bearer"})
        limit = Limit(services.vault.digest("limit", "clients", network(request.environ.get("REMOTE_ADDR", ""))), _REGISTRATIONS)
        limits.fail(services.store.database, limits.enter(services.store.database, [limit], services.now()))
        return OPEN


def launched(services: Services, account: str, client: Client | None, patient: str, encounter: str | None) -> dict[str, Any]:
    """A launch token, and the address that opens the app with it where the app is known."""
    token = services.requests.new_launch(account, client.id if client is not None else None, patient, encounter, services.now())
    made: dict[str, Any] = {"launch": token}
    if client is not None and client.launch_uri is not None:
        made["url"] = extended(client.launch_uri, {"iss": f"{services.issuer()}/fhir", "launch": token})
    return made


def extended(address: str, params: dict[str, str]) -> str:
    """An address with further parameters in its query."""
    return f"{address}{'&' if '?' in address else '?'}{urlencode(params)}"


def read_params(text: str) -> dict[str, str]:
    """The parameters of a query or form. Raises Outcome `malformed` for what cannot be read, `parameter` for one that stands there twice."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Outcome("malformed", "The parameters cannot be read") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Outcome("parameter", "A parameter stands there more than once")
    if any("\0" in name or "\0" in value for name, value in pairs):
        raise Outcome("malformed", "The parameters have characters that are none")
    # Left out and empty are the same: https://www.rfc-editor.org/rfc/rfc6749#section-3.1.
    return {name: value for name, value in found.items() if value}


def _asked() -> Asked:
    # Nothing is done before the body is read; see `web.exchange`.
    try:
        form = read_params(read_body(FORM).decode("ascii"))
    except UnicodeDecodeError:
        raise Outcome("malformed", "The form cannot be read") from None
    return Asked(form, request.headers)


def _json() -> dict[str, Any]:
    try:
        given = json.loads(read_body("application/json"))
        # Half a surrogate pair can be written in JSON, but stands for no character; and the database has no room for NUL.
        text = json.dumps(given, ensure_ascii=False).encode().decode()
    except (ValueError, RecursionError):
        raise Outcome("malformed", "The body is not JSON") from None
    if not isinstance(given, dict) or "\\u0000" in text:
        raise Outcome("malformed", "The body has to be a JSON object")
    return given


def _registered(client: Client, secret: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "client_id": client.id,
        "client_id_issued_at": int(client.created.timestamp()),
        "client_name": client.name,
        "token_endpoint_auth_method": client.auth_method,
        "grant_types": client.grant_types,
        "response_types": ["code"] if client.redirect_uris else [],
        "redirect_uris": client.redirect_uris,
        "allowed_origins": client.origins,
        "scope": client.scope,
    }
    if secret is not None:
        # It does not expire.
        told |= {"client_secret": secret, "client_secret_expires_at": 0}
    if client.launch_uri is not None:
        told["launch_uri"] = client.launch_uri
    if client.jwks is not None:
        told["jwks"] = json.loads(client.jwks)
    if client.jwks_uri is not None:
        told["jwks_uri"] = client.jwks_uri
    return told


def _counted(view: Callable[[], Response]) -> Callable[[], Response]:
    def counted() -> Response:
        request.environ["fhir_server.action"] = "oauth"
        return view()

    return counted
