"""The token endpoint, introspection and revocation: the protocol is Authlib's, the rules and the storage are ours.

https://docs.authlib.org/en/stable/, https://www.rfc-editor.org/rfc/rfc6749, https://www.rfc-editor.org/rfc/rfc7523
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from authlib.oauth2.rfc6749 import AuthorizationServer
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError
from flask import Response

from fhir_server.access.apps.assertions import claimed_client
from fhir_server.outcome import Outcome

from .adapted import Asked, Known
from .grants import Challenge, CodeGrant, RefreshGrant, ServiceGrant
from .held import Introspection, Revocation
from .services import Services

_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_HEADERS: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_NOT_PROVED: Final = "The client is not known here, or has not shown that it is itself"


class Server(AuthorizationServer):  # type: ignore[misc] # The library has no types.
    """Answers what is asked of the endpoints, over the rules of the services."""

    def __init__(self, services: Services) -> None:
        """Offers the three grants, four ways to authenticate, introspection and revocation."""
        super().__init__()
        self.services = services
        self.register_client_auth_method("private_key_jwt", self._by_assertion)
        self.register_grant(CodeGrant, [Challenge(required=True)])
        self.register_grant(RefreshGrant)
        self.register_grant(ServiceGrant)
        self.register_endpoint(Introspection)
        self.register_endpoint(Revocation)

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

    def query_client(self, client_id: str) -> Known | None:
        """The client of an id, unless it is disabled."""
        found = self.services.client(client_id)
        return Known(found, self.services) if found is not None else None

    def authenticate_client(self, request: Asked, methods: list[str], endpoint: str = "token") -> Known:
        """The client, which has shown that it is itself. Raises InvalidClientError, InvalidRequestError where it shows it in two ways."""
        shown = [name for name in ("client_secret", "client_assertion") if name in request.form]
        if len(shown) + ("Authorization" in request.headers) > 1:
            raise InvalidRequestError("A client authenticates in one way")
        try:
            known: Known = super().authenticate_client(request, methods, endpoint)
        except InvalidClientError as error:
            # One answer for clients that there are and clients that there are none of; what is wrong with an assertion is for its maker.
            reason = error.description if isinstance(error, _AssertionError) else _NOT_PROVED
            raise InvalidClientError(reason, status_code=401) from None
        except ValueError:
            # What the library finds in the header is no text, or not in base 64.
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

    def _by_assertion(self, query_client: Callable[[str], Known | None], request: Asked) -> Known | None:
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


class _AssertionError(InvalidClientError):  # type: ignore[misc] # The library has no types.
    pass
