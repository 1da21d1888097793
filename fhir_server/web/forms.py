"""Forms that only pages of this server can send: a token in each form, bound to a cookie of the browser, and a look at where the request comes from.

https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html, https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

from flask import Response, after_this_request, g, request

from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings

from .exchange import read_body

TOKEN: Final = "form_token"  # noqa: S105 - the name of a field
"""The hidden field that every form has."""
_MOST_FIELDS: Final = 200
_LONGEST: Final = 8000  # Characters of a field: the address to go on to after a sign-in is the longest.
_SEED: Final = re.compile(r"[A-Za-z0-9_\-]{32}")
_OWN: Final = ("same-origin", "none")


class Cookies:
    """Cookies that scripts do not see, that other sites do not send along with a form, and that go over TLS only where the pages do."""

    def __init__(self, settings: Settings) -> None:
        """Takes from PUBLIC_URL whether the pages are had over TLS; without it each request tells."""
        self._public = settings.public_url

    @property
    def secure(self) -> bool:
        """Whether the pages are had over TLS."""
        return urlsplit(self._public).scheme == "https" if self._public is not None else request.scheme == "https"

    def get(self, name: str) -> str | None:
        """The value that the browser sent."""
        return request.cookies.get(self._full(name))

    def set(self, response: Response, name: str, value: str, seconds: int | None = None) -> None:
        """Has the browser keep a value until it is closed, or for so long."""
        response.set_cookie(self._full(name), value, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="Lax")

    def drop(self, response: Response, name: str) -> None:
        """Has the browser forget a value."""
        response.delete_cookie(self._full(name), path="/", secure=self.secure, httponly=True, samesite="Lax")

    def _full(self, name: str) -> str:
        # With this prefix no neighbour under the same domain can set it.
        return f"__Host-{name}" if self.secure else name


class FormGuard:
    """Makes and checks what a form carries; works before the sign-in too. Holds no state: any process checks what another has made."""

    def __init__(self, settings: Settings) -> None:
        """Takes the key from `jwt_secret`, and the own origin from PUBLIC_URL."""
        self._vault = Vault.of(settings)
        self._cookies = Cookies(settings)
        self._public = settings.public_url

    def token(self) -> str:
        """What the hidden field TOKEN of every form in this answer holds; gives the browser its cookie where it has none."""
        seed = g.get("form_seed") or self._sent_seed()
        if seed is None:
            seed = secrets.token_urlsafe(24)
            self._keep(seed)
        return self._token(seed)

    def renew(self) -> None:
        """Gives the browser another cookie, so that forms from before do not count any more: for sign-in and sign-out."""
        self._keep(secrets.token_urlsafe(24))

    def read(self, *needed: str, optional: Sequence[str] = ()) -> dict[str, str]:
        """The fields of a form that was sent from a page of this server; those that are optional only where they are filled in.

        Nothing with an effect may be done before. Raises Outcome `forbidden` where the form is from elsewhere or its page too old, `media-type`,
        `too-large`, `malformed` for what is no form, `parameter` for a field that is missing or repeated.
        """
        found = self._fields()
        read: dict[str, str] = {}
        for name in (*needed, *optional):
            values = found.get(name, [])
            if len(values) > 1:
                raise Outcome("parameter", f"'{name}' stands there more than once")
            if values and values[0]:
                read[name] = values[0]
            elif name in needed:
                raise Outcome("parameter", "Please fill in every field that is not marked as optional")
        return read

    def read_all(self, *names: str) -> dict[str, list[str]]:
        """The values of fields that may be repeated, as check boxes are; an empty list where there are none. Raises as `read`."""
        found = self._fields()
        return {name: [value for value in found.get(name, []) if value] for name in names}

    def _fields(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] | None = g.get("form_fields")
        if found is None:
            found = _parsed(read_body("application/x-www-form-urlencoded"))
            self._check(found.get(TOKEN, [""])[0])
            g.form_fields = found
        return found

    def _check(self, token: str) -> None:
        seed = self._sent_seed()
        if seed is None or not hmac.compare_digest(token.encode(), self._token(seed).encode()) or not self._from_here():
            raise Outcome(
                "forbidden", "This form was not sent from a page of ours, or the page was open for too long. Open the page again and repeat"
            )

    def _from_here(self) -> bool:
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in _OWN
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        if self._public is not None:
            own = urlsplit(self._public)
            return origin == f"{own.scheme}://{own.netloc}"
        # Behind a proxy that does TLS the scheme is another one there.
        return urlsplit(origin).netloc == request.host

    def _sent_seed(self) -> str | None:
        seed = self._cookies.get("form")
        return seed if seed is not None and _SEED.fullmatch(seed) else None

    def _keep(self, seed: str) -> None:
        first = "form_seed" not in g
        g.form_seed = seed
        if first:

            @after_this_request
            def _(response: Response) -> Response:
                self._cookies.set(response, "form", g.form_seed)
                return response

    def _token(self, seed: str) -> str:
        return self._vault.digest("form", seed).hex()


def _parsed(data: bytes) -> dict[str, list[str]]:
    try:
        found = parse_qs(data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Outcome("malformed", "The form cannot be read") from None
    for name, values in found.items():
        if any(len(value) > _LONGEST or "\0" in value for value in values):
            raise Outcome("parameter", f"'{name[:80]}' is too long, or has characters that are none")
    return found
