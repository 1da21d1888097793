from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from fhir_server import sms
from fhir_server.cli.doctor import _sms
from fhir_server.messaging import Messenger
from fhir_server.settings import Settings, SetupError
from fhir_server.sms import send_sms, sms_fault
from tests.listening import Handler, http_server

SECRET = "a secret that only the tests know of"
TO = "+49 170 5551234"
HEX = "0123456789abcdef" * 2


class Gateway:
    """An SMS gateway that answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.answer = b'{"result": {"status": "ok"}}'
        self.headers: dict[str, str] = {}
        self.seconds = 0.0
        self.seen: list[tuple[str, dict[str, str], str]] = []
        gateway = self

        class Takes(Handler):
            def take(self) -> None:
                gateway.seen.append((self.path, dict(self.headers), self.sent().decode()))
                time.sleep(gateway.seconds)
                self.answer(gateway.status, gateway.answer, gateway.headers)

        self.handler, self.address = Takes, ""

    @property
    def sent(self) -> Any:
        ((_, _, body),) = self.seen
        return json.loads(body)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    with http_server(made.handler) as address:
        made.address = address.removeprefix("http://")
        yield made


def test_an_own_gateway_gets_json_with_the_account_of_the_url(gateway: Gateway) -> None:
    send_sms(f"http://user:p%40ss@{gateway.address}/send?key=1", TO, "Grüße")
    ((path, headers, _),) = gateway.seen
    assert (path, gateway.sent) == ("/send?key=1", {"to": TO, "text": "Grüße"})
    assert headers["Authorization"] == "Basic dXNlcjpwQHNz"


def test_an_own_gateway_that_refuses_is_an_error(gateway: Gateway) -> None:
    gateway.status = 500
    with pytest.raises(ValueError, match="500"):
        send_sms(f"http://{gateway.address}", TO, "text")


def test_a_service_gets_number_and_text_of_each_message(gateway: Gateway) -> None:
    url = f"smseagle://the-token@{gateway.address}/{{to}}"
    send_sms(url, TO, "Grüße: 123456 & <b>\n*x*")
    sent = gateway.sent["params"]
    assert (sent["access_token"], sent["to"], sent["message"]) == ("the-token", "+491705551234", "Grüße: 123456 & <b>\n*x*")
    gateway.seen.clear()
    send_sms(url, "0170/555-99", "another")
    assert (gateway.sent["params"]["to"], gateway.sent["params"]["message"]) == ("017055599", "another")


def test_a_gateway_of_ones_own_may_have_fields_of_its_own(gateway: Gateway) -> None:
    send_sms(f"json://user:pass@{gateway.address}/send?:phone={{to}}&:message=text", TO, "123456")
    assert (gateway.sent["phone"], gateway.sent["text"]) == ("+491705551234", "123456")
    gateway.seen.clear()
    send_sms(f"form://{gateway.address}/send?:phone={{to}}", TO, "a&phone=1")
    ((path, _, body),) = gateway.seen
    fields = parse_qs(body)
    assert (path, fields["phone"], fields["message"]) == ("/send", ["+491705551234"], ["a&phone=1"])


@pytest.mark.parametrize("number", ["+1555,+49170", "+49170/../x", "+49170?x=1", "{to}", "@group", ""])
def test_a_number_is_digits_whatever_it_holds(gateway: Gateway, number: str) -> None:
    try:
        send_sms(f"json://{gateway.address}/send?:phone={{to}}", number, "text")
    except ValueError:
        assert gateway.seen == []
    else:
        ((path, _, _),) = gateway.seen
        assert path == "/send"
        assert gateway.sent["phone"].removeprefix("+").isdigit()


def test_a_service_that_refuses_is_an_error_without_number_text_and_url(gateway: Gateway) -> None:
    gateway.status = 403
    gateway.answer = b'{"error": "+491705551234 is not allowed"}'
    with pytest.raises(ValueError, match="did not take it") as caught:
        send_sms(f"smseagle://the-token@{gateway.address}/{{to}}", TO, "123456")
    assert not any(secret in repr(caught.value) for secret in ("5551234", "the-token", "123456"))
    assert caught.value.__cause__ is None


def test_a_service_does_not_lead_elsewhere(gateway: Gateway) -> None:
    gateway.status = 307
    gateway.headers = {"Location": f"http://{gateway.address}/elsewhere"}
    with pytest.raises(ValueError, match="did not take it"):
        send_sms(f"smseagle://the-token@{gateway.address}/{{to}}", TO, "123456")
    assert len(gateway.seen) == 1


def test_a_service_that_does_not_answer_is_left(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sms, "_SECONDS", 0.2)
    gateway.seconds = 1.5
    begun = time.monotonic()
    with pytest.raises(ValueError, match="did not take it"):
        send_sms(f"smseagle://the-token@{gateway.address}/{{to}}?rto=3600&cto=3600&retry=5", TO, "123456")
    assert time.monotonic() - begun < 1.4
    assert len(gateway.seen) == 1


@pytest.mark.parametrize("status", [200, 403])
def test_nothing_of_a_message_is_logged_at_any_level(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, tmp_path: Path, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    gateway.status = status
    caplog.set_level(1)
    url = f"smseagle://the-token@{gateway.address}/{{to}}"
    messenger = Messenger(Settings(tmp_path, SECRET, sms_url=url))
    assert messenger.texts
    assert messenger.sms(TO, "123456")
    messenger._workers.shutdown(wait=True)
    assert len(gateway.seen) == 1
    written = caplog.text + str(capfd.readouterr())
    assert not any(secret in written for secret in ("5551234", "the-token", "123456"))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO] == (
        [] if status == 200 else ["SMS could not be sent: ValueError"]
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.example.org/send",
        f"twilio://AC{HEX}:{HEX}@15551234567/{{to}}",
        "bulksms://account:secret@{to}",
        "voipms://secret:clinic@example.org/5551234567/{to}",
        "mobilemessage://account:secret@clinic/{to}",
        "signals://signal.example.org/15551234567/{to}",
        f"sns://AHIAJGNT76XIMXDBIJYA/{HEX}/us-east-1/{{to}}",
        "forms://gateway.example.org/send?:number={to}",
    ],
)
def test_these_urls_can_be_used(url: str, tmp_path: Path) -> None:
    assert sms_fault(url) is None
    if not url.startswith("https:"):
        assert url.split(":", 1)[0] in _sms(Settings(tmp_path, SECRET, sms_url=url))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"twilio://AC{HEX}:{HEX}@15551234567/", "the URL has no {to}"),
        (f"twilio://AC{HEX}:{HEX}@15551234567/4917012345678", "the URL has no {to}"),
        (f"twilio://AC{HEX}:{HEX}@{{to}}", "does not stand where"),
        (f"twilio://AC{HEX}:{HEX}@nonsense/{{to}}", "the URL is not one as twilio:// services have it"),
        ("msgbird://hidden/15551234567/{to}", "the URL is not one as msgbird:// services have it"),
        ("nosuch://hidden/{to}", "nosuch:// is no service"),
        ("mailto://user:hidden@example.org?to={to}", "mailto:// does not send to telephone numbers"),
        ("syslog://hidden/{to}", "syslog:// does not send to telephone numbers"),
        ("discord://hidden/{to}", "discord:// does not send to telephone numbers"),
        ("file:///hidden/{to}", "file:// is no service"),
    ],
)
def test_a_bad_url_is_told_without_its_secrets(url: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="SMS_URL") as caught:
        _sms(Settings(tmp_path, SECRET, sms_url=url))
    text = str(caught.value)
    assert told in text
    assert "\n" not in text
    assert not any(secret in text for secret in ("hidden", HEX, "15551234567"))
    with pytest.raises(ValueError, match=r"\{to\}|://"):
        send_sms(url, TO, "text")
