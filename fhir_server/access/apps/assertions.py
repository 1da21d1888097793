"""Signed statements by which a client shows who it is (private_key_jwt), and the keys that it has at an address of its own.

https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html, https://www.rfc-editor.org/rfc/rfc7523#section-3
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.store import Store

from .clients import Client, key_set
from .registration import check_keys, is_loopback

ALGORITHMS: Final = ("RS384", "ES384")
LONGEST_LIFE: Final = 300
"""Seconds from now that a statement may be good."""

_SKEW: Final = 60
_LONGEST: Final = 8192
_LONGEST_ID: Final = 200
_KEYS: Final = {"RS384": "RSA", "ES384": "EC"}

_TIMEOUT: Final = 5.0
_LARGEST: Final = 64 * 1024
_FRESH: Final = 60.0  # Seconds that fetched keys, or the news that there are none, are good: whoever takes a key back waits so long.
_MOST_FETCHED: Final = 256
_CARRYING: Final = tuple(map(IPv6Network, ("64:ff9b::/96", "::ffff:0:0/96", "::/96")))
_fetched: dict[str, tuple[float, list[dict[str, Any]]]] = {}
_lock = threading.Lock()
# One at a time, so that slow addresses hold one of a process's threads and not all.
_fetching = threading.Lock()


def claimed_client(assertion: str) -> str | None:
    """The id of the client that a statement says to be of, before anything is checked."""
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False}) if len(assertion) <= _LONGEST else {}
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    subject = claims.get("sub")
    return subject if isinstance(subject, str) and "\0" not in subject else None


def check_assertion(store: Store, vault: Vault, client: Client, assertion: str, audience: str, now: float) -> None:
    """Makes sure that a statement is the client's, for this `audience`, good at `now` (seconds since 1970), and used for the first time.

    Raises Outcome `unauthenticated` with the reason, `unavailable` while keys at another address are being fetched.
    """
    try:
        header = jwt.get_unverified_header(assertion)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise _refused("it cannot be read") from None
    algorithm, name = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise _refused(f"it is signed by {' or '.join(ALGORITHMS)}")
    keys = key_set(client) if client.jwks_uri is None else fetched_keys(client.jwks_uri)
    fitting = [key for key in keys if key.get("kty") == _KEYS[algorithm] and (key.get("kid") == name or (name is None and len(keys) == 1))]
    claims = _verified(assertion, algorithm, fitting, client.id, audience)
    if claims["sub"] != client.id:
        raise _refused("'iss' and 'sub' are the id of the client")
    ends, identity = claims["exp"], claims["jti"]
    if not isinstance(ends, int | float) or not now < ends <= now + LONGEST_LIFE + _SKEW:
        raise _refused(f"it is good for {LONGEST_LIFE} seconds at the most, and not any more or not for so long")
    if any(isinstance(claims.get(each), int | float) and claims[each] > now + _SKEW for each in ("iat", "nbf")):
        raise _refused("it is of the future; compare the clocks")
    if not isinstance(identity, str) or not 0 < len(identity) <= _LONGEST_ID:
        raise _refused("'jti' is a text that is never used again")
    with store.database.connection() as connection:
        connection.execute("DELETE FROM assertion_use WHERE expires < %s", (datetime.fromtimestamp(now, UTC),))
        statement = "INSERT INTO assertion_use (hash, expires) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1"
        used = (vault.digest("assertion", client.id, identity), datetime.fromtimestamp(ends, UTC))
        if connection.execute(statement, used).fetchone() is None:
            raise _refused("its 'jti' was used before")


def fetched_keys(address: str) -> list[dict[str, Any]]:
    """The keys at a client's own address, at most a minute old; none where they cannot be had.

    Takes 10 seconds at the most, and 64 kB. Redirects are not followed, and of addresses inside the house only the loopback is asked, where
    that is what was registered. Raises Outcome `unavailable` while others are being fetched.
    """
    with _lock:
        known = _fetched.get(address)
    if known is not None and time.monotonic() - known[0] < _FRESH:
        return known[1]
    if not _fetching.acquire(blocking=False):
        raise Outcome("unavailable", "The keys of another client are being fetched; try again", headers={"Retry-After": "2"})
    try:
        keys = check_keys(json.loads(_body(address)))
    except (OSError, ValueError, RecursionError, http.client.HTTPException, Outcome):
        keys = []
    finally:
        _fetching.release()
    with _lock:
        if len(_fetched) >= _MOST_FETCHED:
            _fetched.clear()
        _fetched[address] = (time.monotonic(), keys)
    return keys


def _body(address: str) -> bytes:
    parts = urlsplit(address)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    connection = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(host, port, timeout=_TIMEOUT)
    # Connected to what was looked at: a name that is looked up twice may have two answers.
    stream = socket.create_connection((_outside(host, port), port), timeout=_TIMEOUT)
    # Whoever sends a byte now and then would never be timed out.
    end = threading.Timer(2 * _TIMEOUT, lambda: connection.sock and connection.sock.shutdown(socket.SHUT_RDWR))
    try:
        end.start()
        connection.sock = ssl.create_default_context().wrap_socket(stream, server_hostname=host) if secure else stream
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError("the keys are not there")
        body = answer.read(_LARGEST + 1)
        if len(body) > _LARGEST:
            raise ValueError("the keys are too many")
        return body
    finally:
        end.cancel()
        connection.close()
        stream.close()


def _outside(host: str, port: int) -> str:
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for each in found:
        if _is_outside(ip_address(each)) or (is_loopback(host) and ip_address(each).is_loopback):
            return each
    raise ValueError("the address is inside the house")


def _is_outside(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (inner := _carried(address)) is not None:
        return _is_outside(inner)
    return address.is_global and not address.is_multicast


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The address of version 4 that a gateway takes out of one of version 6: https://www.rfc-editor.org/rfc/rfc6052, 6to4, IPv4-compatible."""
    if address.sixtofour is not None:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFFFFFF) if any(address in each for each in _CARRYING) else None


def _verified(assertion: str, algorithm: str, keys: list[dict[str, Any]], client: str, audience: str) -> dict[str, Any]:
    for key in keys:
        try:
            claims: dict[str, Any] = jwt.decode(
                assertion,
                jwt.PyJWK(key, algorithm),
                algorithms=[algorithm],
                issuer=client,
                audience=audience,
                # The times are checked against the caller's clock.
                options={"require": ["iss", "sub", "aud", "exp", "jti"], "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.InvalidAudienceError:
            raise _refused("its 'aud' is the token endpoint") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            continue
        return claims
    raise _refused("no key of the client has signed it, or a claim is missing: iss, sub, aud, exp, jti")


def _refused(reason: str) -> Outcome:
    return Outcome("unauthenticated", f"The client assertion is refused: {reason}")
