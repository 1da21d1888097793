"""SMS by the gateway that SMS_URL names: one of its own at http(s), else a service that the library Apprise knows.

https://github.com/caronc/apprise/wiki#sms-notifications
"""

from __future__ import annotations

import http.client
import json
import logging
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from apprise import NotifyBase

PLACE: Final = "{to}"
"""Where the URL of a service has the number of whoever gets the message."""
_SECONDS: Final = 10
_OWN: Final = ("http", "https")
_FOR_GOOD: Final = frozenset({400, 404, 410, 413, 415, 422})  # Others are about the account, or pass.
_GENERAL: Final = frozenset({"form", "forms", "json", "jsons", "xml", "xmls"})  # Any gateway's own address; the number is where the URL puts it.
_TARGETS: Final = ("targets", "target_phones", "phone")  # Where Apprise's services keep whom they send to.
_LOCAL: Final = 7  # Digits that a service leaves of a number, the country's and others aside.
_EXAMPLES: Final = ("+4917012345678", "+15555550100", "+61491570006")  # Some services know the numbers of their own country only.


class Refused(ValueError):  # noqa: N818 - said of a message
    """The gateway has looked at the message and will not take it, however often it is asked."""


def send_sms(url: str, to: str, text: str, key: str | None = None) -> None:
    """Sends an SMS: to an own gateway a POST of `{"to", "text"}`, with Basic authentication where the URL has an account, to a service what it wants.

    An own gateway gets the `key` as Idempotency-Key: the same again is the same message.

    Raises OSError, http.client.HTTPException or ValueError where the gateway does not take it, Refused where it never will; none of them tells
    number, text or URL.
    Each step of the conversation has ten seconds.
    """
    if urlsplit(url).scheme in _OWN:
        _post(url, to, text, key)
        return
    service = _service(url, to)
    service.socket_connect_timeout = min(service.socket_connect_timeout, _SECONDS)
    service.socket_read_timeout = min(service.socket_read_timeout, _SECONDS)
    try:
        taken = service.notify(body=text)
    except Exception as error:  # noqa: BLE001 - a hundred services, each with its own
        raise ValueError(f"the service failed with {type(error).__name__}") from None
    if not taken:
        raise ValueError("the service did not take it")


def sms_fault(url: str) -> str | None:
    """What keeps the URL from being used, without showing any of it but its scheme; None where nothing does. Sends nothing."""
    if urlsplit(url).scheme in _OWN:
        return None
    faults = []
    for number in _EXAMPLES:
        try:
            _service(url, number)
        except ValueError as fault:
            faults.append(str(fault))
        else:
            return None
    return faults[0]


def _post(url: str, to: str, text: str, key: str | None) -> None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key is not None else {})
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, json.dumps({"to": to, "text": text}), headers)
        answer = connection.getresponse()
        answer.read(4096)
        if answer.status in _FOR_GOOD:
            raise Refused(f"the gateway answered {answer.status}")
        if answer.status >= http.client.BAD_REQUEST:
            raise ValueError(f"the gateway answered {answer.status}")
    finally:
        connection.close()


def _service(url: str, to: str) -> NotifyBase:
    """Apprise's service for one message. Raises ValueError with what is wrong."""
    # Apprise and the library below it log URLs, numbers and texts on all levels.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Late: it reads the modules of all services, which takes 0.3 s and few servers need.
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415
    from apprise.manager_plugins import NotificationManager  # noqa: PLC0415

    scheme = urlsplit(url).scheme
    known = NotificationManager()  # type: ignore[no-untyped-call]
    if scheme not in known:
        raise ValueError(f"{scheme}:// is no service that Apprise knows")
    if scheme not in _GENERAL and not any(name.startswith("target_phone") for name in known[scheme].template_tokens):
        raise ValueError(f"{scheme}:// does not send to telephone numbers")
    if PLACE not in url:
        raise ValueError(f"the URL has no {PLACE} in the place of the number that a message goes to")
    number = re.sub("[^0-9]", "", to)
    # Without a number some services send to the sender's own.
    if not number:
        raise ValueError("there is no number to send to")
    try:
        made = Apprise.instantiate(
            url.replace(PLACE, quote("+" * to.startswith("+") + number)), asset=AppriseAsset(http_redirects=False), suppress_exceptions=False
        )
    except Exception:  # noqa: BLE001 - their texts hold what is secret
        made = None
    if made is None:
        raise ValueError(f"the URL is not one as {scheme}:// services have it; see Apprise's page of that service")
    if scheme not in _GENERAL and not any(number[-_LOCAL:] in repr(getattr(made, name, "")) for name in _TARGETS):
        raise ValueError(f"{PLACE} does not stand where {scheme}:// has the number that a message goes to, or the service knows no such numbers")
    return made
