"""What is given at the token endpoint for a code, a refresh token, and a backend service's own word.

https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3, https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html
"""

from __future__ import annotations

from typing import Any, Final

from authlib.oauth2.rfc6749.errors import InvalidGrantError, InvalidRequestError, InvalidScopeError, UnauthorizedClientError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant, RefreshTokenGrant
from authlib.oauth2.rfc7636 import CodeChallenge

from fhir_server.access.apps import Client
from fhir_server.access.apps.requests import AppRequest
from fhir_server.access.apps.words import covered, grantable
from fhir_server.outcome import Outcome

from .adapted import METHODS, Known
from .services import Services


class Challenge(CodeChallenge):  # type: ignore[misc] # The library has no types.
    """PKCE with S256 and no other."""

    SUPPORTED_CODE_CHALLENGE_METHOD: Final = ["S256"]


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc] # The library has no types.
    """By a code that a person's answer has given."""

    TOKEN_ENDPOINT_AUTH_METHODS: Final = METHODS

    def query_authorization_code(self, code: str, client: Known) -> _Code | None:
        """What a code was given for; None for one that is not this client's."""
        services: Services = self.server.services
        asked = services.requests.by_code(code)
        if asked is None or asked.client != client.client.id:
            return None
        if asked.session is not None:
            # Whoever shows it once more, and with whatever verifier: what it has opened ends.
            _redeemed(services, asked, client.client)
        return _Code(asked)

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        """Status, answer and headers. Raises the library's errors."""
        services: Services = self.server.services
        asked: AppRequest = self.request.authorization_code.asked
        answer = services.token_answer(_redeemed(services, asked, self.request.client.client))
        if "openid" in (asked.granted or "").split():
            answer["id_token"] = services.id_token(asked, answer["access_token"])
        return 200, answer, []


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc] # The library has no types.
    """By a refresh token, good once."""

    TOKEN_ENDPOINT_AUTH_METHODS: Final = METHODS

    def validate_token_request(self) -> None:
        """Raises the library's errors for a request that is refused without a look at whether its token is good."""
        services: Services = self.server.services
        token = self.request.form.get("refresh_token")
        if not token:
            raise InvalidRequestError("refresh_token is needed")
        known = self._client(services, token)
        self.request.client = known
        if not known.check_grant_type("refresh_token"):
            raise UnauthorizedClientError("The client is not registered for refresh_token")
        session = services.sessions.of_refresh_token(token, services.now())
        if session is not None and not covered(self._wanted(), session.scope.split()):
            raise InvalidScopeError("More is asked for than was granted")

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        """Status, answer and headers. Raises the library's errors."""
        services: Services = self.server.services
        try:
            opened = services.sessions.refresh(self.request.form["refresh_token"], self.request.client.client, services.now())
        except Outcome as outcome:
            raise _invalid_grant(outcome) from None
        # Blanks alone are no scope: what was granted holds.
        return 200, services.token_answer(opened, " ".join(self._wanted()) or None), []

    def _wanted(self) -> list[str]:
        return str(self.request.form.get("scope", "")).split()

    def _client(self, services: Services, token: str) -> Known:
        form = self.request.form
        if not {"client_id", "client_assertion"} & set(form) and "Authorization" not in self.request.headers:
            # SMART does not ask apps without a secret to name themselves here, and its JavaScript library does not; the token tells whose it is.
            name = services.sessions.holder(token)
            known: Known | None = self.server.query_client(name) if name is not None else None
            if known is not None and not known.client.confidential:
                return known
        found: Known = self.authenticate_token_endpoint_client()
        return found


class ServiceGrant(ClientCredentialsGrant):  # type: ignore[misc] # The library has no types.
    """By a backend service's own word."""

    TOKEN_ENDPOINT_AUTH_METHODS: Final = ["private_key_jwt"]

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        """Status, answer and headers. Raises the library's errors."""
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


class _Code:
    """A code as the library asks it: of what it was given for."""

    def __init__(self, asked: AppRequest) -> None:
        self.asked = asked
        self.code_challenge = asked.challenge
        self.code_challenge_method = "S256"

    def get_redirect_uri(self) -> str:
        return self.asked.redirect_uri


def _redeemed(services: Services, asked: AppRequest, client: Client) -> Any:
    try:
        return services.sessions.redeem(asked, client, services.now())
    except Outcome as outcome:
        raise _invalid_grant(outcome) from None


def _invalid_grant(outcome: Outcome) -> Exception:
    if outcome.category != "unauthenticated":
        return outcome
    return InvalidGrantError(outcome.issues[0].diagnostics)  # type: ignore[no-any-return] # The library has no types.
