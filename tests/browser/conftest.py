"""A whole server with its demo clinic, and Chromium to look at it with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, ViewportSize, sync_playwright

from tests.web.conftest import Outside, outside

__all__ = ["outside"]

PROGRAM: Final = Path(sys.executable).with_name("fhir-server")
PHONE: Final[ViewportSize] = {"width": 360, "height": 740}
DESK: Final[ViewportSize] = {"width": 1280, "height": 800}
EVIL: Final = "http://evil.test/"
# Chromium says of each page whose status is not 200 that a resource could not be loaded.
_STATUS: Final = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d \(.*\)")


@dataclass
class Server:
    base: str
    outside: Outside
    accounts: dict[str, dict[str, str]]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed, and no page has been looked at")
        pytest.skip("Chromium is not installed: install it to have the pages looked at")
    with sync_playwright() as playwright:
        quiet = [
            "--disable-features=LocalNetworkAccessChecks",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
        ]
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *quiet])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, outside: Outside) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("browser") / "data"
    log = data.with_name("serve.log")
    command = [str(PROGRAM), "serve", "--demo", "--data", str(data), "--port", "0", "--mllp-port", "0", "--processes", "1"]
    environ = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "JWT_SECRET", "PUBLIC_URL"}}
    environ |= {"SMTP_URL": outside.smtp_url, "SMS_URL": outside.sms_url}
    with log.open("wb") as stream, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], log.read_text()
            listed = json.loads((data / "demo-accounts.json").read_text())
            yield Server(words[1].removesuffix("/fhir"), outside, {each["role"]: each for each in listed})
        finally:
            process.terminate()


@dataclass
class Visit:
    """One person's browser window, and all that its console has said."""

    page: Page
    context: BrowserContext
    server: Server
    said: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.server.base}{path}")

    def listen(self, message: ConsoleMessage) -> None:
        if not _STATUS.fullmatch(message.text):
            self.said.append(message.text)

    def press_until(self, identity: str) -> None:
        """Goes on with the Tab key until an input, a button or a link has the focus, by its id or text."""
        for _ in range(30):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("[document.activeElement.id, document.activeElement.textContent.trim()]").count(identity):
                return
        raise AssertionError(f"the Tab key does not lead to {identity}")

    def open_evil(self, html: str) -> None:
        """Opens a page of another site."""

        def fulfill(route: Route) -> None:
            route.fulfill(content_type="text/html", body=html)

        self.page.unroute_all()
        self.page.route(f"{EVIL}**", fulfill)
        self.page.goto(EVIL)

    def sign_in(self, role: str, next_path: str = "/account") -> None:
        self.open(f"/sign-in?next={next_path}")
        self.fill_in(role)

    def fill_in(self, role: str) -> None:
        """Fills in the pages for signing in, from the one that is open."""
        account = self.server.accounts[role]
        self.page.get_by_label("Login").fill(account["login"])
        self.page.get_by_label("Password").fill(account["password"])
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Send a code by e-mail").click()
        self.page.get_by_label("Code").fill(self.server.outside.mailed_code(account["email"]))
        self.page.get_by_role("button", name="Sign in").click()


@contextmanager
def visiting(chromium: Browser, server: Server) -> Iterator[Visit]:
    """A browser window of its own, from which everything that goes wrong is heard; no mail waits when it opens."""
    while not server.outside.mails.empty():
        server.outside.mails.get()
    context = chromium.new_context(viewport=DESK, locale="en-GB")
    context.set_default_timeout(15_000)
    found = Visit(context.new_page(), context, server)
    found.page.on("console", found.listen)
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    yield found
    context.close()


@pytest.fixture
def visit(chromium: Browser, server: Server) -> Iterator[Visit]:
    asked: list[str] = []
    with visiting(chromium, server) as found:
        found.page.on("request", lambda request: asked.append(request.url))
        yield found
    # Scripts or styles that the policy refuses, faults of any kind, and whatever is fetched from elsewhere.
    assert found.said == []
    assert [url for url in asked if not url.startswith((server.base, "data:", EVIL))] == []
