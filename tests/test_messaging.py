from __future__ import annotations

import logging
import smtplib
from pathlib import Path
from typing import Any

import pytest

from fhir_server.messaging import Messenger, deliver, mail_of, send_mail
from fhir_server.settings import Settings
from tests.listening import MailServer

SECRET = "a secret that only the tests know of"


@pytest.mark.parametrize(
    "changes",
    [{}, {"sms_url": "twilio://account:token@sender"}, {"sms_url": "nosuch://account/{to}"}],
)
def test_without_a_gateway_nothing_is_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    messenger = Messenger(Settings(tmp_path, SECRET, **changes))
    assert (messenger.mails, messenger.texts) == (False, False)
    assert not messenger.mail("a@example.org", "subject", "text")
    assert not messenger.sms("+49 170 555", "text")


@pytest.mark.parametrize("sms_url", ["http://127.0.0.1:1", "smseagle://token@127.0.0.1:1/{to}"])
def test_a_failure_is_logged_without_address_and_text(tmp_path: Path, caplog: pytest.LogCaptureFixture, sms_url: str) -> None:
    # Nobody listens on port 1.
    messenger = Messenger(Settings(tmp_path, SECRET, smtp_url="smtp://127.0.0.1:1", sms_url=sms_url))
    assert messenger.mail("somebody@example.org", "subject", "123456")
    assert messenger.sms("+49 170 555", "123456")
    messenger._workers.shutdown(wait=True)
    assert sorted(record.getMessage().split()[0] for record in caplog.records) == ["SMS", "mail"]
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    assert not any(secret in caplog.text for secret in ("somebody", "555", "123456"))


def test_a_password_is_not_sent_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    class Plain(smtplib.SMTP):
        def connect(self, *_: Any, **__: Any) -> tuple[int, bytes]:
            return 220, b"ready"

        def ehlo(self, *_: Any) -> tuple[int, bytes]:
            self.esmtp_features = {"auth": "PLAIN"}
            return 250, b""

        def login(self, user: str, *_: Any, **__: Any) -> tuple[int, bytes]:
            sent.append(user)
            return 235, b""

        def __exit__(self, *_: object) -> None:
            self.close()

    monkeypatch.setattr(smtplib, "SMTP", Plain)
    with pytest.raises(smtplib.SMTPException, match="TLS"):
        send_mail("smtp://user:password@mail.example.org", "a@example.org", "subject", "text")
    assert sent == []


def test_a_mail_is_known_to_be_taken_before_the_server_says_farewell() -> None:
    told: list[str] = []

    class Slow:
        async def handle_DATA(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802 - the library's name
            return "250 taken"

        async def handle_QUIT(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802 - the library's name
            told.append("farewell")
            return "221 bye"

    server = MailServer(Slow())
    server.start()
    try:
        mail = mail_of("a@example.org", "b@example.org", "subject", "text")
        deliver(f"smtp://127.0.0.1:{server.port}", mail, lambda: told.append("taken"))
    finally:
        server.stop()
    assert told == ["taken", "farewell"]
