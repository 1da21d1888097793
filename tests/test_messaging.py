from __future__ import annotations

import json
import logging
import smtplib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fhir_server.messaging import Messenger, send_mail, send_sms
from fhir_server.settings import Settings

SECRET = "a secret that only the tests know of"


class Gateway:
    """An SMS gateway that answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                gateway.seen.append((self.path, dict(self.headers), body))
                self.send_response(gateway.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_an_sms_is_json_with_the_account_of_the_url(gateway: Gateway) -> None:
    send_sms(f"http://user:p%40ss@{gateway.address}/send?key=1", "+49 170 555", "Grüße")
    ((path, headers, body),) = gateway.seen
    assert (path, body) == ("/send?key=1", {"to": "+49 170 555", "text": "Grüße"})
    assert headers["Authorization"] == "Basic dXNlcjpwQHNz"


def test_a_gateway_that_refuses_is_an_error(gateway: Gateway) -> None:
    gateway.status = 500
    with pytest.raises(ValueError, match="500"):
        send_sms(f"http://{gateway.address}", "+49 170 555", "text")


@pytest.mark.parametrize(
    "changes",
    [{}, {"sms_url": "twilio://account:token@sender"}],
)
def test_without_a_gateway_nothing_is_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    messenger = Messenger(Settings(tmp_path, SECRET, **changes))
    assert (messenger.mails, messenger.texts) == (False, False)
    assert not messenger.mail("a@example.org", "subject", "text")
    assert not messenger.sms("+49 170 555", "text")


def test_a_failure_is_logged_without_address_and_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Nobody listens on port 1.
    messenger = Messenger(Settings(tmp_path, SECRET, smtp_url="smtp://127.0.0.1:1", sms_url="http://127.0.0.1:1"))
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
