"""A clinic whose clock the test sets, with a mail server and an SMS gateway that keep what they are given."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fhir_server import admin, rest, web
from fhir_server.access.accounts.accounts import Account, NewAccount
from fhir_server.access.accounts.administration import Administration
from fhir_server.access.accounts.sign_in import SignIn
from fhir_server.hl7v2.service import open_inbox
from fhir_server.interactions import Engine
from fhir_server.messaging import Messenger
from fhir_server.operations import names
from fhir_server.settings import Settings
from fhir_server.store import Store
from tests.listening import Handler, MailServer, http_server

SECRET = "a secret that only the tests know of"
PASSWORD = "correct horse battery"

Json = dict[str, Any]

NO_OBJECTS = [
    (b"", "application/json", 400),
    (b"{", "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b"[" * 10_000, "application/json", 400),
    (b"9" * 10_000, "application/json", 400),
    (b"{}", "text/plain", 415),
    (b"login=a&password=b", "application/x-www-form-urlencoded", 415),
    (b" " * 70_000, "application/json", 413),
]
"""Bodies that no address takes, with their types and what they are answered."""


class Clock:
    """Seconds since 1970, as the test has them."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


@dataclass
class Outside:
    """What mail server and SMS gateway were given."""

    mails: queue.Queue[Message] = field(default_factory=queue.Queue)
    texts: queue.Queue[Json] = field(default_factory=queue.Queue)
    smtp_url: str = ""
    sms_url: str = ""

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - the library's name
        self.mails.put(message_from_bytes(envelope.content))
        return "250 taken"

    def mailed_code(self, to: str) -> str:
        message = self.mails.get(timeout=10)
        assert message["To"] == to
        payload = message.get_payload(decode=True)
        assert isinstance(payload, bytes)
        (code,) = re.findall(r"^([0-9]{6})\r?$", payload.decode(), re.MULTILINE)
        return str(code)


@dataclass
class Clinic:
    """Callers of the application, and the rules below it."""

    app: Flask
    store: Store
    settings: Settings
    clock: Clock
    sign_in: SignIn
    outside: Outside
    engine: Engine
    url: str
    address: str = "192.0.2.1"

    def __call__(self, method: str, path: str, body: Any = None, token: str | None = None, **rest_of: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        given = {"json": body} if body is not None else {}
        client = self.app.test_client(use_cookies=False)
        base: Json = {"environ_overrides": {"REMOTE_ADDR": self.address}, "headers": headers | {"User-Agent": "test"}}
        return client.open(path, method=method, **(base | given | rest_of))

    def change(self, account: Account, **changes: Any) -> None:
        """What an administrator changes of an account."""
        with self.store.database.connection() as connection, connection.transaction():
            Administration(self.store, self.sign_in.accounts).change(connection, account, changes, self.clock.now())

    def post(self, path: str, token: str | None = None, /, **body: Any) -> TestResponse:
        return self("POST", f"/auth/{path}", body, token)

    def ok(self, path: str, token: str | None = None, /, **body: Any) -> Json:
        answer = self.post(path, token, **body)
        assert answer.status_code == 200, answer.text
        found: Json = json.loads(answer.data)
        return found

    def listed(self, token: str) -> list[Json]:
        found: list[Json] = json.loads(self("GET", "/auth/sessions", token=token).data)
        return found

    def account(self, *roles: str, **fields: Any) -> Account:
        login = f"{uuid.uuid4().hex}@example.org"
        patient = {"patient": "p1"} if "patient" in roles else {}
        made = self.sign_in.accounts.add(NewAccount(login, PASSWORD, roles or ("doctor",), **{"email": login, **patient, **fields}), self.clock.now())
        assert made is not None
        return made

    def challenge(self, account: Account, password: str = PASSWORD) -> str:
        return str(self.ok("login", login=account.login, password=password)["challenge"])

    def code(self, challenge: str, account: Account) -> str:
        answer = self.post("otp/send", challenge=challenge, method="email")
        assert answer.status_code == 202, answer.text
        assert account.email is not None
        return self.outside.mailed_code(account.email)

    def session(self, account: Account, password: str = PASSWORD) -> Json:
        challenge = self.challenge(account, password)
        return self.ok("otp", challenge=challenge, code=self.code(challenge, account))


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    found = Outside()

    class Gateway(Handler):
        def take(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            found.texts.put(json.loads(self.sent()))
            self.answer(202)

    mail = MailServer(found)
    mail.start()
    found.smtp_url = f"smtp://127.0.0.1:{mail.port}?from=clinic@example.org"
    with http_server(Gateway) as address:
        found.sms_url = f"{address}/send"
        yield found
    # A test ends when it has its mail; the conversation that brought it ends a moment later.
    deadline = time.monotonic() + 10
    while asyncio.all_tasks(mail.loop) and time.monotonic() < deadline:
        time.sleep(0.02)
    mail.stop()


@pytest.fixture(scope="module")
def make_clinic(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, outside: Outside) -> Iterator[Callable[..., Clinic]]:
    """Clinics over one database; each stands for a process of its own."""
    url = fresh_database()
    stores: list[Store] = []
    lives: list[web.Live] = []

    def make(**options: Any) -> Clinic:
        store = Store(url, zone=ZoneInfo("UTC"), connections=8)
        stores.append(store)
        known = {"smtp_url": outside.smtp_url, "sms_url": outside.sms_url}
        settings = Settings(**{"data": Path(tmp_path_factory.mktemp("data")), "jwt_secret": SECRET, **known, **options})
        clock = Clock()
        engine = Engine.build(store, settings, names())
        app = Flask(__name__, static_folder=None)
        messenger = Messenger(settings)
        app.register_blueprint(rest.blueprint(engine, settings, messenger, clock, web.elsewhere(settings)))
        live = app.extensions["live"] = web.Live(store)
        lives.append(live)
        app.register_blueprint(web.blueprint(engine, settings, messenger, live, clock))
        intake, inbox = open_inbox(engine, settings)
        app.register_blueprint(rest.messages(engine, settings, intake.answer, clock))
        admin.register(app, engine, settings, messenger, inbox, clock)
        return Clinic(app, store, settings, clock, SignIn(store, settings, messenger, clock.now), outside, engine, url)

    yield make
    for live in lives:
        live.close()
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def shared(make_clinic: Callable[..., Clinic]) -> Clinic:
    return make_clinic()


@pytest.fixture
def clinic(shared: Clinic) -> Clinic:
    """The shared clinic, a caller at an address that nobody else has, and nothing in its letter box."""
    shared.address = str(uuid.uuid4())
    while not shared.outside.mails.empty():
        shared.outside.mails.get()
    return shared
