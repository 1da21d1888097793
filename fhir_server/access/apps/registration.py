"""What a client is registered with, and what cannot be registered.

https://www.rfc-editor.org/rfc/rfc7591#section-2, https://www.rfc-editor.org/rfc/rfc8252#section-7, https://www.rfc-editor.org/rfc/rfc9700#section-2.1
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from fhir_server.outcome import Outcome

from .words import DEFAULT, LONGEST, known, read_word

AuthMethod = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]
AUTH_METHODS: Final[tuple[AuthMethod, ...]] = get_args(AuthMethod)
GRANT_TYPES: Final = ("authorization_code", "refresh_token", "client_credentials")

_LONGEST_NAME: Final = 100
_LONGEST_ADDRESS: Final = 500
_MOST_ADDRESSES: Final = 20
_MOST_KEYS: Final = 10
_RSA_BITS: Final = 2048
_LONGEST_KEYS: Final = 12 * 1024  # Characters.
# One's own domain backwards, as com.example.app: what has no dot may be any program's.
_PRIVATE_USE: Final = re.compile(r"(?=.{1,60}$)[a-z][a-z0-9+\-]*(?:\.[a-z0-9+\-]+)+")
_HOST: Final = re.compile(r"[a-z0-9.\-]{1,253}|[0-9a-f:.]{2,45}")
_ADDRESS: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class NewClient:
    """What a client is made from; see `check`. `jwks` is a JSON Web Key Set as text, `origins` are those of redirect URIs where none are given."""

    name: str
    auth_method: str
    grant_types: tuple[str, ...]
    scope: str = DEFAULT
    redirect_uris: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    launch_uri: str | None = None
    jwks: str | None = field(default=None, repr=False)
    jwks_uri: str | None = None


class Unfit(Outcome):
    """A registration that is refused. `error` is the code of RFC 7591 for it."""

    def __init__(self, error: str, text: str) -> None:
        """Takes the code and a text for people."""
        super().__init__("invalid", text)
        self.error = error


def read_metadata(given: dict[str, Any]) -> NewClient:
    """A client from the metadata that a registration brings; members that mean nothing here are passed over.

    Raises Unfit for members of a wrong kind; what they say is for `check`.
    """
    redirect_uris = _texts(given, "redirect_uris")
    grant_types = _texts(given, "grant_types") or (("authorization_code", "refresh_token") if redirect_uris else ("authorization_code",))
    if any(each != "code" for each in _texts(given, "response_types")):
        raise _unfit("The response type here is code")
    keys = given.get("jwks")
    if keys is not None and not isinstance(keys, dict):
        raise _unfit("'jwks' is an object with 'keys'")
    scope = _text(given, "scope")
    wanted = known(scope[: 2 * LONGEST]) if scope is not None else DEFAULT
    if "client_credentials" not in grant_types:
        wanted = " ".join(each for each in wanted.split() if not each.startswith("system/"))
    return NewClient(
        _text(given, "client_name") or "An app without a name",
        _text(given, "token_endpoint_auth_method") or "client_secret_basic",
        grant_types,
        wanted,
        redirect_uris,
        _texts(given, "allowed_origins") or tuple(dict.fromkeys(filter(None, map(origin_of, redirect_uris)))),
        _text(given, "initiate_login_uri") or _text(given, "launch_uri"),
        json.dumps(keys) if keys is not None else None,
        _text(given, "jwks_uri"),
    )


def check(new: NewClient) -> None:
    """Raises Unfit, an Outcome `invalid`, for what cannot be registered.

    Redirect URIs are https, http on this machine's loopback, or of a private-use scheme; they are compared letter by letter later, so there are no
    wildcards. A backend service shows who it is by a key.
    """
    if not (0 < len(new.name) <= _LONGEST_NAME and new.name.isprintable()):
        raise _unfit(f"A name has 1 to {_LONGEST_NAME} characters")
    if new.auth_method not in AUTH_METHODS:
        raise _unfit(f"A client authenticates by {', '.join(AUTH_METHODS)}")
    if not new.grant_types or any(each not in GRANT_TYPES for each in new.grant_types):
        raise _unfit(f"The grant types are {', '.join(GRANT_TYPES)}")
    if len(new.scope) > LONGEST:
        raise _unfit(f"The scopes together have more than {LONGEST} characters")
    _check_addresses(new)
    _check_keys(new)
    system = any(word is not None and word.level == "system" for word in map(read_word, new.scope.split()))
    if "client_credentials" in new.grant_types and (new.auth_method != "private_key_jwt" or not system):
        raise _unfit("A backend service authenticates by private_key_jwt and has scopes that begin with system/")
    if system and "client_credentials" not in new.grant_types:
        raise _unfit("Scopes that begin with system/ are for the grant type client_credentials")


def origin_of(address: str) -> str | None:
    """The origin that a browser names for pages at a web address; None for addresses of another kind."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, usual) else "")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_keys(keys: Any) -> list[dict[str, Any]]:
    """The keys of a JSON Web Key Set. Raises Unfit for what is none, for private keys, and for keys too weak for RS384 or ES384."""
    found = keys.get("keys") if isinstance(keys, dict) else None
    if not isinstance(found, list) or not 0 < len(found) <= _MOST_KEYS:
        raise _unfit(f"A JSON Web Key Set has 1 to {_MOST_KEYS} keys")
    for each in found:
        if not isinstance(each, dict) or each.get("kty") not in ("RSA", "EC"):
            raise _unfit("Keys are of type RSA or EC")
        if any(name in each for name in ("d", "p", "q", "k")):
            raise _unfit("A private key was sent: replace it, for it is one no longer")
        _check_strength(each)
    return found


def _check_strength(key: dict[str, Any]) -> None:
    try:
        made: Any = PyJWK(key, "RS384" if key["kty"] == "RSA" else "ES384").key
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise _unfit("A key cannot be read") from None
    if key["kty"] == "RSA" and made.key_size < _RSA_BITS:
        raise _unfit(f"RSA keys have {_RSA_BITS} bits or more")
    if key["kty"] == "EC" and key.get("crv") != "P-384":
        raise _unfit("Keys of type EC are on the curve P-384, for ES384")


def _check_addresses(new: NewClient) -> None:
    if ("authorization_code" in new.grant_types) != bool(new.redirect_uris):
        raise Unfit("invalid_redirect_uri", "Redirect URIs go with the grant type authorization_code; at least one is needed there")
    if len(new.redirect_uris) > _MOST_ADDRESSES or len(new.origins) > _MOST_ADDRESSES:
        raise Unfit("invalid_redirect_uri", f"There are {_MOST_ADDRESSES} addresses at the most")
    for address in new.redirect_uris:
        if not _is_redirect(address):
            text = "A redirect URI is https, http on 127.0.0.1, [::1] or localhost, or of a private-use scheme as com.example.app:/back"
            raise Unfit("invalid_redirect_uri", f"{text}; it has no fragment and no wildcard")
    for address in new.origins:
        if not _is_web(address) or origin_of(address) != address:
            raise _unfit("An origin is as https://app.example.org, or http on the loopback")
    if new.launch_uri is not None and not _is_web(new.launch_uri):
        raise _unfit("The address to launch an app at is https, or http on the loopback")
    if new.jwks_uri is not None and not _is_web(new.jwks_uri):
        raise _unfit("'jwks_uri' is https, or http on the loopback")


def _check_keys(new: NewClient) -> None:
    if new.jwks is not None and new.jwks_uri is not None:
        raise _unfit("'jwks' and 'jwks_uri' do not go together")
    if new.auth_method == "private_key_jwt" and new.jwks is None and new.jwks_uri is None:
        raise _unfit("private_key_jwt needs 'jwks' or 'jwks_uri'")
    if new.jwks is not None:
        if len(new.jwks) > _LONGEST_KEYS:
            raise _unfit(f"'jwks' is longer than {_LONGEST_KEYS} characters")
        try:
            keys = json.loads(new.jwks)
        except (ValueError, RecursionError):
            raise _unfit("'jwks' is not JSON") from None
        check_keys(keys)


def _is_redirect(address: str) -> bool:
    if _is_web(address):
        return True
    scheme, _, rest = address.partition(":")
    return _is_plain(address) and _PRIVATE_USE.fullmatch(scheme) is not None and bool(rest)


def _is_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return False
    if not _is_plain(address) or host is None or not _HOST.fullmatch(host) or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def _is_plain(address: str) -> bool:
    # A semicolon, comma or quote would mean something in the policy that names the app's origin to a browser.
    return len(address) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(address) is not None and not any(each in address for each in "#*\\\"'<>,;")


def _text(given: dict[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise _unfit(f"'{name}' is a text")
    return value


def _texts(given: dict[str, Any], name: str) -> tuple[str, ...]:
    value = given.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or any(not isinstance(each, str) for each in value):
        raise _unfit(f"'{name}' is a list of texts")
    return tuple(dict.fromkeys(value))


def _unfit(text: str) -> Unfit:
    return Unfit("invalid_client_metadata", text)
