"""What a Subscription may not show once it is stored: the values of its channel's headers, and the secret that its notifications are signed with.

They are sealed in their place, for the endpoint that they were given for: whoever reads the resource can write it back, but not send them elsewhere.

https://hl7.org/fhir/R4/subscription-definitions.html#Subscription.channel.header
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON

Json = dict[str, Any]

SECRET: Final = f"{CANON}/StructureDefinition/subscription-secret"
MAX_HEADERS: Final = 20
_MOST: Final = 4_000  # Characters of a header.
_MARK: Final = "sealed:"
_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~\-]{1,100}):[ \t]*([\x20-\x7e]*)", re.ASCII)
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type", "x-signature", "expect", "upgrade", "te"})
_SHORTEST: Final = 16


def concealed(subscription: Json, vault: Vault) -> Json:
    """The resource with its secrets sealed, those that are already left as they are. Raises Outcome `invalid` for headers that cannot be sent."""
    channel = dict(subscription.get("channel", {}))
    headers = channel.get("header", ())
    if len(headers) > MAX_HEADERS:
        raise Outcome("invalid", f"A channel has up to {MAX_HEADERS} headers", expression="Subscription.channel.header")
    if headers:
        channel["header"] = [_sealed_header(text, channel, vault) for text in headers]
    if "extension" in channel:
        channel["extension"] = [_sealed_secret(each, channel, vault) if each.get("url") == SECRET else each for each in channel["extension"]]
    return subscription | {"channel": channel} if channel else subscription


def headers_of(channel: Json, vault: Vault) -> dict[str, str]:
    """The headers in the clear; those that cannot be opened are left out."""
    found = {}
    for text in channel.get("header", ()):
        name, _, value = text.partition(": ")
        opened = _opened(value, channel, vault)
        if opened is not None:
            found[name] = opened
    return found


def secret_of(channel: Json, vault: Vault) -> str | None:
    """The secret that the subscriber has brought; None where there is none."""
    found = next((each.get("valueString") for each in channel.get("extension", ()) if each.get("url") == SECRET), None)
    return _opened(found, channel, vault) if isinstance(found, str) else None


def _sealed_header(text: str, channel: Json, vault: Vault) -> str:
    match = _HEADER.fullmatch(text)
    if match is None or len(text) > _MOST or match[1].lower() in _OURS:
        # The text itself may be secret.
        said = "A header is as 'Name: value', in ASCII, and none that the server sets itself"
        raise Outcome("invalid", said, expression="Subscription.channel.header")
    return f"{match[1]}: {_seal(match[2], channel, vault, 'Subscription.channel.header')}"


def _sealed_secret(extension: Json, channel: Json, vault: Vault) -> Json:
    value = extension.get("valueString")
    if not isinstance(value, str) or len(value) < _SHORTEST or len(value) > _MOST:
        raise Outcome("invalid", f"The secret is a valueString of at least {_SHORTEST} characters", expression="Subscription.channel.extension")
    return extension | {"valueString": _seal(value, channel, vault, "Subscription.channel.extension")}


def _seal(value: str, channel: Json, vault: Vault, place: str) -> str:
    if value.startswith(_MARK):
        if _opened(value, channel, vault) is None:
            said = "What is sealed was given for another endpoint, or by another server: give it anew in the clear"
            raise Outcome("invalid", said, expression=place)
        return value
    return _MARK + urlsafe_b64encode(vault.seal(value, _for(channel))).decode()


def _opened(value: str, channel: Json, vault: Vault) -> str | None:
    if not value.startswith(_MARK):
        return None
    try:
        return vault.open(urlsafe_b64decode(value.removeprefix(_MARK)), _for(channel))
    except ValueError:
        return None


def _for(channel: Json) -> str:
    return f"subscription {channel.get('endpoint', '')}"
