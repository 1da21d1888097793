"""From planned messages to sent ones: each is claimed by one worker, looked at once more, and sent.

A worker holds a session lock on what it has at hand, which its death gives back; what is marked as being sent then may have left or not, and goes out
again with the same Message-ID or Idempotency-Key: at least once, never not at all. https://www.rfc-editor.org/rfc/rfc8058, https://www.rfc-editor.org/rfc/rfc2369
"""

from __future__ import annotations

import http.client
import json
import logging
import random
import smtplib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from fhir_server.access.accounts.notifications import Choices
from fhir_server.messaging import deliver, mail_of, sender_of
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON, Settings
from fhir_server.sms import Refused, send_sms, sms_fault
from fhir_server.store import Store
from fhir_server.store.database import Connection, exclusive

from . import rows
from .calendar import Entry
from .events import CHANNELS, Channel
from .recipients import Recipient, is_alive, recipient
from .rows import LOCK, Message, New, Settled
from .rules import Rules, rules_of
from .templates import Rendered
from .wording import Links, Scene, entry_of, scene_of, still_true, worded

ATTEMPTS: Final = 6
"""So often a message is tried until it is dead: over about half an hour."""
STOP: Final = "/messages/stop/"
"""The path at which messages are stopped, before the token."""

_FIRST: Final = 30.0  # Seconds until the second try; then twice as long each time.
_AHEAD: Final = 20  # Numbers that are looked up at a time.
_TOLD: Final = 500  # Characters of an SMS that are kept.
_HOST: Final = urlsplit(CANON).hostname
_FAULTS: Final = (OSError, smtplib.SMTPException, http.client.HTTPException, ValueError)

Became = Literal["sent", "again", "suppressed", "revoked", "expired", "dead"]
BECAME: Final[tuple[Became, ...]] = get_args(Became)

_log = logging.getLogger("fhir_server.messages")


@dataclass(frozen=True, slots=True)
class _Ended:
    """What is to become of a message without its being sent."""

    state: Settled
    reason: str


class Sender:
    """Sends what is due. Safe to share between threads."""

    def __init__(self, store: Store, settings: Settings, choices: Choices, leaving: threading.Event) -> None:
        """`leaving` is set when the process is to end: then no further message is begun."""
        self._store = store
        self._settings = settings
        self._choices = choices
        self._leaving = leaving
        self._sms_url = settings.sms_url if settings.sms_url and sms_fault(settings.sms_url) is None else None

    def pump(self, more: Callable[[int], bool] = lambda _: True) -> Counter[Became]:
        """Sends what is due, one after the other, until nothing is, `more` says no of the number done, or the process is to end.

        What became of how many. Several at once, in any processes, do not meet. Raises Outcome `unavailable`.
        """
        done: Counter[Became] = Counter()
        with self._store.database.connection() as connection:
            while True:
                before = done.total()
                for identity in rows.due(connection, self._store.clock(), _AHEAD):
                    if self._leaving.is_set() or not more(done.total()):
                        return done
                    with exclusive(connection, LOCK, str(identity)) as mine:
                        message = rows.claim(connection, identity, self._store.clock()) if mine else None
                        if message is not None:
                            done[self._handle(connection, message)] += 1
                if done.total() == before:
                    return done

    def recover(self) -> int:
        """Lets those wait again that a worker had at hand that has died; how many."""
        count = 0
        with self._store.database.connection() as connection:
            for identity in rows.abandoned(connection):
                with exclusive(connection, LOCK, str(identity)) as mine:
                    if mine:
                        rows.again(connection, identity, self._store.clock(), "the process that sent it has ended; it may have arrived")
                        count += 1
        return count

    def _handle(self, connection: Connection, message: Message) -> Became:
        try:
            return self._sent(connection, message)
        except Outcome as outcome:
            if outcome.category == "unavailable":
                raise
            return self._failed(connection, message, outcome.issues[0].diagnostics, for_good=True)
        except Exception as error:  # noqa: BLE001 - it must not hold up those behind it
            _log.exception("a message could not be made", extra={"message_id": message.id, "event_name": message.event})
            return self._failed(connection, message, f"it could not be made ({type(error).__name__})", for_good=True)

    def _sent(self, connection: Connection, message: Message) -> Became:
        now, zone = self._store.clock(), self._settings.clinic_timezone
        rules = rules_of(self._store, connection)
        scene = scene_of(self._store, message)
        choice = self._choices.of(connection, [message.patient])[message.patient]
        reached = recipient(scene.patient or {}, choice, now, zone)
        ended = self._ended(message, scene, reached, rules, now)
        if ended is not None:
            rows.settle(connection, message.id, ended.state, now, reason=ended.reason)
            if ended.state == "suppressed":
                self._fall_back(connection, message, reached, now)
            return ended.state
        due = rules.allowed(message.event, message.channel, now, message.start, zone)
        if due > now:
            rows.again(connection, message.id, due, "quiet hours")
            return "again"
        links = self._links(message)
        made = worded(connection, self._store, message, scene, links, rules, zone)
        to = reached.address(message.channel)
        assert to is not None
        # Without the link that stops messages, which is good for whoever reads it.
        told = made.subject or made.text.replace(links.stop or "\0", "…")[:_TOLD]

        def taken() -> None:
            rows.settle(connection, message.id, "sent", self._store.clock(), told=told)

        try:
            self._leave(message, scene, made, links, to, taken)
        except _FAULTS as error:
            return self._failed(connection, message, type(error).__name__, for_good=is_for_good(error), reached=reached)
        return "sent"

    def _ended(self, message: Message, scene: Scene, reached: Recipient, rules: Rules, now: datetime) -> _Ended | None:
        """Why a message does not leave, by what is so now; None where it does."""
        revoked = message.request is not None and self._is_revoked(message.request)
        faults: tuple[tuple[bool, Settled, str], ...] = (
            (message.event in rules.silent, "revoked", "silent"),
            (not still_true(message, scene, self._settings.clinic_timezone), "revoked", "changed"),
            (revoked, "revoked", "revoked"),
            (message.expires is not None and message.expires <= now, "expired", "too-late"),
            (scene.patient is None or not is_alive(scene.patient), "suppressed", "no-patient"),
            (message.channel not in reached.welcome, "suppressed", "not-wanted"),
            (reached.address(message.channel) is None, "suppressed", "no-address"),
            (not self._works(message.channel), "suppressed", "not-set-up"),
        )
        return next((_Ended(state, reason) for is_so, state, reason in faults if is_so), None)

    def _leave(self, message: Message, scene: Scene, made: Rendered, links: Links, to: str, taken: Callable[[], None]) -> None:
        """Sends it; `taken` is called at once when the other side has taken it, and nothing else is waited for in between."""
        key = f"message-{message.id}.{int(message.created.timestamp())}"
        if message.channel == "sms":
            send_sms(str(self._sms_url), to, made.text, key)
            taken()
            return
        url = str(self._settings.smtp_url)
        sender = sender_of(url)
        try:
            mail = mail_of(sender, to, made.subject or "", made.text, identity=f"<{key}@{_HOST}>")
        except ValueError:
            raise Refused("the address is none") from None
        if links.stop:
            mail["List-Unsubscribe"] = f"<{links.stop}>"
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        entry = entry_of(message, scene, made, links, sender, to, self._store.clock(), self._settings.clinic_timezone)
        if entry is not None:
            _attach(mail, entry)
        deliver(url, mail, taken)

    def _failed(self, connection: Connection, message: Message, fault: str, *, for_good: bool, reached: Recipient | None = None) -> Became:
        now = self._store.clock()
        wait = _FIRST * 2 ** (message.attempts - 1) * random.uniform(0.75, 1.0)  # noqa: S311 - no secret
        due = now + timedelta(seconds=wait)
        in_time = message.expires is None or due < message.expires
        if not for_good and message.attempts < ATTEMPTS and in_time:
            rows.again(connection, message.id, due, fault)
            return "again"
        # A sentence may repeat what is in the message; the name of an error does not.
        reason = fault if fault.isidentifier() else "refused"
        _log.error("a message is dead", extra={"message_id": message.id, "event_name": message.event, "channel": message.channel, "reason": reason})
        rows.settle(connection, message.id, "dead", now, reason="refused" if for_good else "failed", fault=fault)
        if reached is not None:
            self._fall_back(connection, message, reached, now)
        return "dead"

    def _fall_back(self, connection: Connection, message: Message, reached: Recipient, now: datetime) -> None:
        """Plans the same by the other channel, where that is welcome and works; one that was planned at first stays as it is."""
        other = next(each for each in CHANNELS if each != message.channel)
        if other in reached.channels and self._works(other):
            details = json.loads(message.details) if message.details else None
            names = (message.event, message.focus, message.about, message.occurrence)
            rows.plan(connection, [New(*names, other, message.patient, now, message.expires, message.start, details)], now)

    def _works(self, channel: Channel) -> bool:
        return (self._settings.smtp_url if channel == "email" else self._sms_url) is not None

    def _links(self, message: Message) -> Links:
        base = self._settings.public_url or next((each.removesuffix("/fhir") for each in self._store.bases), "")
        if not base:
            return Links("", "")
        return Links(f"{base}/", f"{base}{STOP}{self._choices.token(message.patient, message.channel)}")

    def _is_revoked(self, request: str) -> bool:
        """Whether somebody has revoked what the record says is planned."""
        with self._store.latest(SYSTEM) as db:
            found = db.read("CommunicationRequest", request)
        return found is None or found.body is None or b'"status":"revoked"' in found.body.replace(b" ", b"")


def is_for_good(error: Exception) -> bool:
    """Whether it makes no sense to try again: recipient or message are refused. What is wrong with our own account may be mended."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())  # noqa: PLR2004 - RFC 5321: permanent
    if isinstance(error, smtplib.SMTPDataError):
        return error.smtp_code >= 500  # noqa: PLR2004 - the same
    return isinstance(error, Refused)


def _attach(mail: EmailMessage, entry: Entry) -> None:
    """Adds the entry as another form of the text, which is where calendars look for it."""
    text = entry.text()
    mail.add_alternative(text, subtype="calendar", params={"method": entry.method, "name": "appointment.ics"})
