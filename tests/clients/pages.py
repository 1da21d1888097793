"""A person at the server's pages, without a browser: what each form asks is filled in and sent."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from urllib.parse import urljoin

import requests


class Person:
    """Signs in, and answers what an app asks."""

    def __init__(self, login: str, password: str, code: Callable[[], str]) -> None:
        self._login, self._password, self._code = login, password, code
        self._session = requests.Session()

    def let_in(self, url: str, name: str | None = None, without: tuple[str, ...] = ()) -> str:
        """Where the person is led to after letting in the app behind `url`, for the first patient of a `name`, `without` some scopes."""
        page = self._open(url)
        if "/sign-in" in page.url:
            page = self._send(page, {"login": self._login, "password": self._password})
            page = self._send(page, {"code": self._code()})
            page = self._open(url)
        if name is not None:
            page = self._choose(self._open(f"{page.url}?name={name}"))
        boxes = [html.unescape(each) for each in re.findall(r'name="scope" value="([^"]*)"', page.text)]
        answer = self._send(page, {"answer": "allow", "scope": [each for each in boxes if each not in without]}, follow=False)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def open_app(self, server: str, client: str, name: str) -> str:
        """Where the person is led to after opening an app for the first patient of a name."""
        place = f"{server}/launch?client={client}&name={name}"
        page = self._open(place)
        if "/sign-in" in page.url:
            page = self._send(page, {"login": self._login, "password": self._password})
            self._send(page, {"code": self._code()})
            page = self._open(place)
        return self._choose(page, follow=False).headers["Location"]

    def _choose(self, page: requests.Response, *, follow: bool = True) -> requests.Response:
        found = re.search(r'name="patient" value="([^"]+)"', page.text)
        assert found is not None, page.text
        return self._send(page, {"patient": found[1]}, follow=follow)

    def _open(self, url: str) -> requests.Response:
        page = self._session.get(url, timeout=30)
        page.raise_for_status()
        return page

    def _send(self, page: requests.Response, fields: dict[str, str | list[str]], *, follow: bool = True) -> requests.Response:
        (form, *_) = [each for each in re.findall(r"<form.*?</form>", page.text, re.DOTALL) if all(f'name="{name}"' in each for name in fields)]
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
        action = re.search(r'action="([^"]*)"', form)
        assert action is not None
        sent = {name: html.unescape(value) for name, value in hidden.items()} | fields
        return self._session.post(urljoin(page.url, html.unescape(action[1])), data=sent, timeout=30, allow_redirects=follow)
