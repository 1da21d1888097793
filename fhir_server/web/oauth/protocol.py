"""The token endpoint, introspection and revocation: the protocol is Authlib's, the rules and the storage are ours.

https://docs.authlib.org/en/stable/, https://www.rfc-editor.org/rfc/rfc6749, https://www.rfc-editor.org/rfc/rfc7636, https://www.rfc-editor.org/rfc/rfc7662,
https://www.rfc-editor.org/rfc/rfc7009
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidGrantError, InvalidRequestError, InvalidScopeError, UnauthorizedClientError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant, RefreshTokenGrant
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from flask import Response
from werkzeug.datastructures import Headers

from fhir_server.access.apps import Client
from fhir_server.access.apps.assertions import claimed_client
from fhir_server.access.apps.registration import AUTH_METHODS
from fhir_server.access.apps.requests import AppRequest
from fhir_server.access.apps.sessions import AppSession
from fhir_server.access.apps.words import covered, grantable
from fhir_server.access.tokens import claims_of
from fhir_server.outcome import Outcome

from .services import Services

_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_METHODS: Final = ["private_key_jwt", "client_secret_basic", "client_secret_post", "none"]
_SECRET: Final = frozenset({"client_secret_basic", "client_secret_post"})
_HEADERS: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_NOT_PROVED: Final = "The client is not known here, or has not shown that it is itself"


class Asked(OAuth2Request):  # type: ignore[misc] # The library has no types.
    """A request to one of the endpoints: a form whose fields stand there once, and the headers."""

    def __init__(self, form: dict[str, str], headers: Headers) -> None:
        """Takes what was read."""
        # Whether the way here is encrypted is for the proxy in front to see: what arrives through it says http.
        super().__init__("POST", "https://localhost/", headers=headers)
        self._fields = form
        self.payload = _Payload(form)

    @property
    def form(self) -> dict[str, str]:
        """The fields."""
        return self._fields

    @property
    def args(self) -> dict[str, str]:
        """Nothing: what stands in the address gets into logs."""
        return {}


class Server(AuthorizationServer):  # type: ignore[misc] # The library has no types.
    """Answers what is asked of the endpoints, over the rules of the services."""

    def __init__(self, services: Services) -> None:
        """Offers the three grants, four ways to authenticate, introspection and revocation."""
        super().__init__()
        self.services = services
        self.register_client_auth_method("private_key_jwt", self._by_assertion)
        self.register_grant(_CodeGrant, [_Challenge(required=True)])
        self.register_grant(_RefreshGrant)
        self.register_grant(_ServiceGrant)
        self.register_endpoint(_Introspection)
        self.register_endpoint(_Revocation)

    def token(self, asked: Asked) -> Response:
        """The answer of the token endpoint."""
        if not asked.payload.grant_type:
            missing: Response = self.handle_error_response(asked, InvalidRequestError("grant_type is needed"))
            return missing
        response: Response = self.create_token_response(asked)
        return response

    def introspect(self, asked: Asked) -> Response:
        """What a token is, told to the client that holds it."""
        response: Response = self.create_endpoint_response("introspection", asked)
        return response

    def revoke(self, asked: Asked) -> Response:
        """Ends the session of a token."""
        response: Response = self.create_endpoint_response("revocation", asked)
        return response

    def query_client(self, client_id: str) -> _Known | None:
        """The client of an id, unless it is disabled."""
        found = self.services.client(client_id)
        return _Known(found, self.services) if found is not None else None

    def authenticate_client(self, request: Asked, methods: list[str], endpoint: str = "token") -> _Known:
        """The client, which has shown that it is itself. Raises InvalidClientError, InvalidRequestError where it shows it in two ways."""
        shown = [name for name in ("client_secret", "client_assertion") if name in request.form]
        if len(shown) + ("Authorization" in request.headers) > 1:
            raise InvalidRequestError("A client authenticates in one way")
        try:
            known: _Known = super().authenticate_client(request, methods, endpoint)
        except InvalidClientError as error:
            # One answer for clients that there are and clients that there are none of; what is wrong with an assertion is for its maker.
            reason = error.description if isinstance(error, _AssertionError) else _NOT_PROVED
            raise InvalidClientError(reason, status_code=401) from None
        except UnicodeDecodeError:
            raise InvalidClientError(_NOT_PROVED, status_code=401) from None
        if request.form.get("client_id", known.client.id) != known.client.id:
            raise InvalidClientError(_NOT_PROVED, status_code=401)
        return known

    def create_oauth2_request(self, request: Asked) -> Asked:
        """The request as it is."""
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Response:
        """The answer, which nobody keeps."""
        response = Response(json.dumps(body), status, _HEADERS, content_type="application/json")
        response.headers.extend([(name, value) for name, value in headers if name == "WWW-Authenticate"])
        return response

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def _by_assertion(self, query_client: Callable[[str], _Known | None], request: Asked) -> _Known | None:
        if "client_assertion" not in request.form:
            return None
        if request.form.get("client_assertion_type") != _ASSERTION:
            raise _AssertionError(f"client_assertion_type is {_ASSERTION}")
        name = claimed_client(request.form["client_assertion"])
        known = query_client(name) if name is not None else None
        if known is None or known.client.auth_method != "private_key_jwt":
            raise InvalidClientError(_NOT_PROVED)
        try:
            self.services.check_assertion(known.client, request.form["client_assertion"])
        except Outcome as outcome:
            if outcome.category != "unauthenticated":
                raise
            raise _AssertionError(outcome.issues[0].diagnostics) from None
        return known


class _Payload(OAuth2Payload):  # type: ignore[misc] # The library has no types.
    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    @property
    def data(self) -> dict[str, str]:
        return self._fields

    @property
    def datalist(self) -> dict[str, list[str]]:
        return {name: [value] for name, value in self._fields.items()}


class _AssertionError(InvalidClientError):  # type: ignore[misc] # The library has no types.
    pass


class _Known(ClientMixin):  # type: ignore[misc] # The library has no types.
    """A client as the library asks it."""

    def __init__(self, client: Client, services: Services) -> None:
        self.client = client
        self._services = services

    def get_client_id(self) -> str:
        return self.client.id

    def check_client_secret(self, secret: str) -> bool:
        return self._services.clients.is_secret(self.client.id, secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        del endpoint
        # Libraries send a secret in the header or in the form, whatever was registered.
        return method == self.client.auth_method or {method, self.client.auth_method} <= _SECRET

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.client.grant_types


class _Code:
    """A code as the library asks it: of what it was given for."""

    def __init__(self, asked: AppRequest) -> None:
        self.asked = asked
        self.code_challenge = asked.challenge
        self.code_challenge_method = "S256"

    def get_redirect_uri(self) -> str:
        return self.asked.redirect_uri


class _Challenge(CodeChallenge):  # type: ignore[misc] # The library has no types.
    SUPPORTED_CODE_CHALLENGE_METHOD: Final = ["S256"]


class _CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc] # The library has no types.
    TOKEN_ENDPOINT_AUTH_METHODS: Final = _METHODS

    def query_authorization_code(self, code: str, client: _Known) -> _Code | None:
        services: Services = self.server.services
        asked = services.requests.by_code(code)
        if asked is None or asked.client != client.client.id:
            return None
        if asked.session is not None:
            # Whoever shows it once more, and with whatever verifier: what it has opened ends.
            _redeemed(services, asked, client.client)
        return _Code(asked)

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        services: Services = self.server.services
        asked: AppRequest = self.request.authorization_code.asked
        answer = services.token_answer(_redeemed(services, asked, self.request.client.client))
        if "openid" in (asked.granted or "").split():
            answer["id_token"] = services.id_token(asked, answer["access_token"])
        return 200, answer, []


class _RefreshGrant(RefreshTokenGrant):  # type: ignore[misc] # The library has no types.
    TOKEN_ENDPOINT_AUTH_METHODS: Final = _METHODS

    def validate_token_request(self) -> None:
        services: Services = self.server.services
        token = self.request.form.get("refresh_token")
        if not token:
            raise InvalidRequestError("refresh_token is needed")
        known = self._client(services, token)
        self.request.client = known
        if not known.check_grant_type("refresh_token"):
            raise UnauthorizedClientError("The client is not registered for refresh_token")
        session = services.sessions.of_refresh_token(token, services.now())
        wanted = self.request.form.get("scope")
        if wanted is not None and session is not None and not covered(wanted.split(), session.scope.split()):
            raise InvalidScopeError("More is asked for than was granted")

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        services: Services = self.server.services
        try:
            opened = services.sessions.refresh(self.request.form["refresh_token"], self.request.client.client, services.now())
        except Outcome as outcome:
            raise _invalid_grant(outcome) from None
        wanted = self.request.form.get("scope")
        return 200, services.token_answer(opened, " ".join(wanted.split()) if wanted else None), []

    def _client(self, services: Services, token: str) -> _Known:
        form = self.request.form
        if not {"client_id", "client_assertion"} & set(form) and "Authorization" not in self.request.headers:
            # SMART does not ask apps without a secret to name themselves here, and its JavaScript library does not; the token tells whose it is.
            name = services.sessions.holder(token)
            known: _Known | None = self.server.query_client(name) if name is not None else None
            if known is not None and not known.client.confidential:
                return known
        found: _Known = self.authenticate_token_endpoint_client()
        return found


class _ServiceGrant(ClientCredentialsGrant):  # type: ignore[misc] # The library has no types.
    TOKEN_ENDPOINT_AUTH_METHODS: Final = ["private_key_jwt"]

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        services: Services = self.server.services
        client: Client = self.request.client.client
        granted = grantable(self.request.form.get("scope") or client.scope, client.scope, ())
        if not granted:
            raise InvalidScopeError("None of the scopes is among those that the client was registered for")
        try:
            opened = services.sessions.begin_service(client, " ".join(granted), services.now())
        except Outcome as outcome:
            raise _invalid_grant(outcome) from None
        return 200, services.token_answer(opened), []


class _Held:
    """A token that somebody holds, and the session it is of."""

    def __init__(self, session: AppSession, claims: dict[str, Any] | None) -> None:
        self.session = session
        self.claims = claims

    def check_client(self, client: _Known) -> bool:
        return self.session.client == client.client.id

    def is_expired(self) -> bool:
        return False  # Only tokens that are good are found.

    is_revoked = is_expired


class _Introspection(IntrospectionEndpoint):  # type: ignore[misc] # The library has no types.
    CLIENT_AUTH_METHODS: Final = list(AUTH_METHODS[:0:-1])

    def check_params(self, request: Asked, _client: _Known) -> None:
        _check_token(request)

    def query_token(self, token: str, _hint: str | None) -> _Held | None:
        return held(self.server.services, token)

    def check_permission(self, token: _Held, client: _Known, _request: Asked) -> bool:
        return token.check_client(client)

    def introspect_token(self, token: _Held) -> dict[str, Any]:
        return introspection(self.server.services, token)


class _Revocation(RevocationEndpoint):  # type: ignore[misc] # The library has no types.
    CLIENT_AUTH_METHODS: Final = _METHODS

    def check_params(self, request: Asked, _client: _Known) -> None:
        _check_token(request)

    def query_token(self, token: str, _hint: str | None) -> _Held | None:
        return held(self.server.services, token)

    def revoke_token(self, token: _Held, _request: Asked) -> None:
        services: Services = self.server.services
        services.sessions.end(token.session.id, "revoked by the app", services.now())


def _check_token(asked: Asked) -> None:
    # A hint is a hint: tokens of both kinds are looked for whatever it says.
    if not asked.form.get("token"):
        raise InvalidRequestError("token is needed")


def held(services: Services, token: str) -> _Held | None:
    """A token of a client that is good now, be it an access token or a refresh token; None for any other."""
    claims = claims_of(services.secret, token, services.clock())
    if claims is not None:
        session = services.sessions.get(claims["sid"], services.now()) if "sid" in claims else None
    else:
        session = services.sessions.of_refresh_token(token, services.now())
    return _Held(session, claims) if session is not None else None


def introspection(services: Services, token: _Held) -> dict[str, Any]:
    """What is told of a token: https://hl7.org/fhir/smart-app-launch/STU2.2/token-introspection.html."""
    session, claims = token.session, token.claims or {}
    account = services.accounts.by_id(session.account) if session.account is not None else None
    answer = {
        "active": True,
        "client_id": session.client,
        "scope": claims.get("scope", session.scope),
        "iat": claims.get("iat", int(session.created.timestamp())),
        "exp": claims.get("exp", int(session.expires.timestamp())),
        "iss": services.issuer(),
        **session.context,
    }
    if claims:
        answer |= {"token_type": "Bearer"}
    if account is None:
        return answer | {"sub": session.client}
    return answer | {"username": account.login} | services.identity(account, session.scope)


def _redeemed(services: Services, asked: AppRequest, client: Client) -> Any:
    try:
        return services.sessions.redeem(asked, client, services.now())
    except Outcome as outcome:
        raise _invalid_grant(outcome) from None


def _invalid_grant(outcome: Outcome) -> Exception:
    if outcome.category != "unauthenticated":
        return outcome
    return InvalidGrantError(outcome.issues[0].diagnostics)  # type: ignore[no-any-return] # The library has no types.
