"""Tokens that somebody holds: what they are told to be, and their end.

https://www.rfc-editor.org/rfc/rfc7662, https://www.rfc-editor.org/rfc/rfc7009
"""

from __future__ import annotations

from typing import Any, Final

from authlib.oauth2.rfc6749.errors import InvalidRequestError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from fhir_server.access.apps.registration import AUTH_METHODS
from fhir_server.access.apps.sessions import AppSession
from fhir_server.access.tokens import claims_of
from fhir_server.outcome import Outcome

from .adapted import METHODS, Asked, Known
from .services import Services


class Held:
    """A token that somebody holds, and the session it is of."""

    def __init__(self, session: AppSession, claims: dict[str, Any] | None) -> None:
        """Takes the claims of an access token, None for a refresh token."""
        self.session = session
        self.claims = claims

    def check_client(self, client: Known) -> bool:
        """Whether it was given to a client."""
        return self.session.client == client.client.id

    def is_expired(self) -> bool:
        """Never: only tokens that are good are found."""
        return False

    is_revoked = is_expired


class Introspection(IntrospectionEndpoint):  # type: ignore[misc] # The library has no types.
    """What a token is, for the client that it was given to."""

    CLIENT_AUTH_METHODS: Final = list(AUTH_METHODS[:0:-1])

    def check_params(self, request: Asked, _client: Known) -> None:
        """Raises InvalidRequestError where no token is there."""
        _check_token(request)

    def query_token(self, token: str, _hint: str | None) -> Held | None:
        """The token, of either kind; None where it is not good."""
        return held(self.server.services, token)

    def check_permission(self, token: Held, client: Known, _request: Asked) -> bool:
        """Whether a client is told of a token: of its own."""
        return token.check_client(client)

    def introspect_token(self, token: Held) -> dict[str, Any]:
        """What is told."""
        return introspection(self.server.services, token)


class Revocation(RevocationEndpoint):  # type: ignore[misc] # The library has no types.
    """The end of a token, at the wish of the client that it was given to."""

    CLIENT_AUTH_METHODS: Final = METHODS

    def check_params(self, request: Asked, _client: Known) -> None:
        """Raises InvalidRequestError where no token is there."""
        _check_token(request)

    def query_token(self, token: str, _hint: str | None) -> Held | None:
        """The token, of either kind; None where it is not good."""
        return held(self.server.services, token)

    def revoke_token(self, token: Held, _request: Asked) -> None:
        """Ends the session that it is of, and so all its tokens."""
        services: Services = self.server.services
        services.sessions.end(token.session.id, "revoked by the app", services.now())


def held(services: Services, token: str) -> Held | None:
    """A token of a client that is good now, be it an access token or a refresh token; None for any other."""
    claims = claims_of(services.secret, token, services.clock())
    if claims is not None:
        session = services.sessions.get(claims["sid"], services.now()) if "sid" in claims else None
    else:
        session = services.sessions.of_refresh_token(token, services.now())
    return Held(session, claims) if session is not None else None


def introspection(services: Services, token: Held) -> dict[str, Any]:
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


def own_token(services: Services, token: str) -> dict[str, Any] | None:
    """What is told of a good token that no client holds: one that somebody has by signing in, or from the shell. None for any other."""
    claims = claims_of(services.secret, token, services.clock())
    if claims is None or "client_id" in claims:
        return None
    try:
        grant = services.grant_of(token)
    except Outcome as outcome:
        if outcome.category != "unauthenticated":
            raise
        return None
    told = {name: claims[name] for name in ("scope", "iat", "exp")}
    whose = {"sub": grant.account or grant.actor, "username": grant.actor, "roles": sorted(grant.roles)}
    return {"active": True, "token_type": "Bearer", **told, "iss": services.issuer(), **whose}


def _check_token(asked: Asked) -> None:
    # A hint is a hint: tokens of both kinds are looked for whatever it says.
    if not asked.form.get("token"):
        raise InvalidRequestError("token is needed")
