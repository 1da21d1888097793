"""Mail and SMS, as SMTP_URL and SMS_URL say.

https://www.rfc-editor.org/rfc/rfc5321, https://www.rfc-editor.org/rfc/rfc5322
"""

from __future__ import annotations

import http.client
import logging
import smtplib
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import formatdate, make_msgid
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.sms import send_sms, sms_fault

_SECONDS: Final = 10
_WAITING: Final = 100  # Messages that may be on their way in one process.
_FROM: Final = "fhir-server@localhost"

_log = logging.getLogger("fhir_server.messaging")


class _Policy(EmailPolicy):
    """The usual rules, but that headers about lists, which hold addresses of the web, stay on one line: folded, these would be encoded."""

    def fold(self, name: str, value: Any) -> str:
        if name.lower().startswith("list-"):
            return f"{name}: {value}{self.linesep}"
        return str(super().fold(name, value))

    def fold_binary(self, name: str, value: Any) -> bytes:
        if name.lower().startswith("list-"):
            return self.fold(name, value).encode("ascii")
        return bytes(super().fold_binary(name, value))


_POLICY: Final = _Policy()


class Messenger:
    """Sends in the background. A message that cannot be sent is logged without its text and without its address."""

    def __init__(self, settings: Settings) -> None:
        """Takes SMTP_URL and SMS_URL; an SMS_URL with a fault (`sms.sms_fault`) counts as none."""
        self._smtp_url = settings.smtp_url
        self._sms_url = settings.sms_url if settings.sms_url and sms_fault(settings.sms_url) is None else None
        self._room = threading.BoundedSemaphore(_WAITING)
        self._workers = ThreadPoolExecutor(2, "messages")

    @property
    def mails(self) -> bool:
        """Whether mail can be sent."""
        return self._smtp_url is not None

    @property
    def texts(self) -> bool:
        """Whether SMS can be sent."""
        return self._sms_url is not None

    def mail(self, to: str, subject: str, text: str) -> bool:
        """Takes a mail to send; False where none can be sent, or too many wait already."""
        url = self._smtp_url
        return url is not None and self._queue("mail", lambda: send_mail(url, to, subject, text))

    def sms(self, to: str, text: str) -> bool:
        """Takes an SMS to send; False where none can be sent, or too many wait already."""
        url = self._sms_url
        return url is not None and self._queue("SMS", lambda: send_sms(url, to, text))

    def later(self, work: Callable[[], object]) -> bool:
        """Takes work that ends in a message, for what has to be answered before it is done; False where too much waits already."""
        return self._queue("message", work)

    def _queue(self, kind: str, send: Callable[[], object]) -> bool:
        if not self._room.acquire(blocking=False):
            return False

        def work() -> None:
            try:
                send()
            except (OSError, smtplib.SMTPException, http.client.HTTPException, ValueError, Outcome) as error:
                # Their texts may hold addresses.
                _log.error("%s could not be sent: %s", kind, type(error).__name__)
            finally:
                self._room.release()

        self._workers.submit(work)
        return True


def send_mail(url: str, to: str, subject: str, text: str) -> None:
    """Sends one mail of plain text; see `deliver`."""
    deliver(url, mail_of(sender_of(url), to, subject, text))


def sender_of(url: str) -> str:
    """Whom mails are from: `from` in the URL, else the account of the mail server where that is an address."""
    parts = urlsplit(url)
    account = unquote(parts.username or "")
    return parse_qs(parts.query).get("from", [account if "@" in account else _FROM])[0]


def mail_of(sender: str, to: str, subject: str, text: str, *, identity: str | None = None) -> EmailMessage:
    """A mail of plain text, to which parts and headers may be added; an `identity` is its Message-ID. Raises ValueError for bad addresses."""
    message = EmailMessage(_POLICY)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = identity or make_msgid(domain="fhir-server.local")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message


def deliver(url: str, message: EmailMessage, taken: Callable[[], object] = lambda: None) -> None:
    """Sends one mail by `smtp://user:password@host:port?from=address` (STARTTLS where the server has it) or `smtps://`.

    `taken` is called as soon as the mail server has taken it, before the farewell, for which it may let us wait.

    Raises OSError, smtplib.SMTPException or ValueError where it cannot be sent, after ten seconds without an answer at the latest.
    A password is sent over TLS only, or to this machine.
    """
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    if parts.scheme == "smtps":
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=_SECONDS, context=_trusted())
    else:
        client = smtplib.SMTP(host, parts.port or 25, timeout=_SECONDS)
    try:
        secure = parts.scheme == "smtps" or host in ("localhost", "127.0.0.1", "::1")
        if parts.scheme == "smtp":
            client.ehlo()
            if client.has_extn("starttls"):
                client.starttls(context=_trusted())
                secure = True
        if parts.username:
            if not secure:
                raise smtplib.SMTPException("the server offers no TLS, and the password is not sent without")
            client.login(unquote(parts.username), unquote(parts.password or ""))
        client.send_message(message)
        taken()
    except BaseException:
        client.close()
        raise
    # What becomes of the farewell changes nothing: the mail is taken.
    with suppress(OSError, smtplib.SMTPException):
        client.quit()


@cache
def _trusted() -> ssl.SSLContext:
    # Once: reading the certificates takes 20 ms of CPU, by which the answers of other threads would tell that a message goes out.
    return ssl.create_default_context()
