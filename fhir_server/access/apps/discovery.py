"""What clients are told in advance: where the server takes requests, and what it can do.

https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html, https://www.rfc-editor.org/rfc/rfc8414, https://openid.net/specs/openid-connect-discovery-1_0.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from fhir_server.access.scopes import MESSAGES
from fhir_server.outcome import Outcome

from .assertions import ALGORITHMS
from .keys import ALGORITHM
from .registration import AUTH_METHODS, GRANT_TYPES
from .words import CONTEXT, IDENTITY, LASTING

CAPABILITIES: Final = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)
"""https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html#capability-sets"""
SCOPES: Final = (
    *IDENTITY,
    *CONTEXT,
    *LASTING,
    "patient/*.cruds",
    "user/*.cruds",
    "system/*.cruds",
    "patient/*.read",
    "user/*.read",
    "user/*.*",
    MESSAGES,
)

_HOST: Final = re.compile(r"[A-Za-z0-9.\-_]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_PLACES: Final = {
    "authorization_endpoint": "authorize",
    "token_endpoint": "token",
    "introspection_endpoint": "introspect",
    "revocation_endpoint": "revoke",
    "registration_endpoint": "register",
    "userinfo_endpoint": "userinfo",
    "jwks_uri": "jwks",
}


def issuer_of(public_url: str | None, environ: Mapping[str, Any]) -> str:
    """The address of this server as the caller knows it, without a slash at its end: PUBLIC_URL, or else that of the request (a WSGI environment).

    Raises Outcome `malformed` where the request names a host that can be none.
    """
    if public_url is not None:
        return public_url
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    if not _HOST.fullmatch(host):
        raise Outcome("malformed", "The Host header is not the name of a host")
    return f"{environ['wsgi.url_scheme']}://{host}"


def endpoints(issuer: str) -> dict[str, str]:
    """The addresses of what there is for OAuth, by the names of RFC 8414."""
    return {name: f"{issuer}/oauth/{place}" for name, place in _PLACES.items()}


def openid_configuration(issuer: str) -> dict[str, Any]:
    """What an OAuth or OpenID Connect client is told at the issuer."""
    places = endpoints(issuer)
    return {
        "issuer": issuer,
        **places,
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": list(AUTH_METHODS[1:]),
        "introspection_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "revocation_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "fhirUser", "preferred_username", "profile"],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "claims_parameter_supported": False,
    }


def smart_configuration(issuer: str) -> dict[str, Any]:
    """What a SMART app is told below the FHIR base."""
    # Where people see and end what apps have.
    return openid_configuration(issuer) | {"capabilities": list(CAPABILITIES), "management_endpoint": f"{issuer}/account"}
