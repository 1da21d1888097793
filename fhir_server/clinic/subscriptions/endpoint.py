"""Where notifications go: one POST to an address that was looked at first, signed, without redirects, and over within half a minute.

https://www.rfc-editor.org/rfc/rfc2104, https://owasp.org/www-community/attacks/Server_Side_Request_Forgery
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

SIGNATURE: Final = "X-Signature"
"""`t=<seconds since 1970>,v1=<hex>`: HMAC-SHA256 under the subscription's secret over the seconds, a full stop, and the body."""

_SECONDS: Final = 10.0
_ALTOGETHER: Final = 30.0
_PORTS: Final = {"http": 80, "https": 443}


class Unreachable(Exception):  # noqa: N818 - said of an endpoint, for people
    """Why a notification could not be handed over; the text has no secret in it."""


def fault_of(url: str) -> str | None:
    """What keeps a URL from being an endpoint; None where nothing does. Looks nothing up."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the endpoint is no URL"
    if parts.scheme not in _PORTS or not parts.hostname:
        return "the endpoint is a URL that begins with https:// or http://"
    if parts.username is not None or parts.password is not None:
        return "the endpoint has no account in its URL; use channel.header"
    return "the endpoint has port 0" if port == 0 else None


def signature(secret: str, seconds: int, body: bytes) -> str:
    """The value of the header SIGNATURE."""
    told = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={told}"


def post(url: str, headers: Mapping[str, str], body: bytes, *, anywhere: bool) -> int:
    """Posts to an endpoint; the status of the answer, of which nothing else is looked at. Raises Unreachable.

    Unless it may go `anywhere`, each address that the name has must be one of the internet. It connects to what was looked at.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    address = _looked_up(host, port, anywhere=anywhere)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        sock = socket.create_connection((address, port), timeout=_SECONDS)
        if parts.scheme == "https":
            sock = _trusted().wrap_socket(sock, server_hostname=host)
        connection.sock = sock
        # A peer that sends a byte every few seconds would hold the thread for ever.
        watch = threading.Timer(_ALTOGETHER, _hang_up, (sock,))
        watch.daemon = True
        watch.start()
        try:
            # Port 443 over TLS needs no mention, which the library would make of its own port 80.
            named = f"[{host}]" if ":" in host else host
            shown = named if port == _PORTS[parts.scheme] else f"{named}:{port}"
            connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": shown, **headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            return connection.getresponse().status
        finally:
            watch.cancel()
    except ssl.SSLCertVerificationError:
        raise Unreachable("its certificate is not good for its name") from None
    except TimeoutError:
        raise Unreachable("it did not answer in time") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"it could not be reached ({type(error).__name__})") from None
    finally:
        connection.close()


def _looked_up(host: str, port: int, *, anywhere: bool) -> str:
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise Unreachable("its name is not known") from None
    if not found:
        raise Unreachable("its name has no address")
    if not anywhere and not all(_is_public(each) for each in found):
        raise Unreachable("it is in this network or on this machine; an administrator may allow that by the policy `subscriptions`")
    return found[0]


def _is_public(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()
