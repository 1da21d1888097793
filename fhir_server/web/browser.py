"""A browser's session: a secret in a cookie, looked up at each request, so that a session which has ended is over with the next click.

https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html#cookies
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from flask import Response, g, request

from fhir_server.access.accounts.accounts import Account, Accounts
from fhir_server.access.accounts.desk import Caller
from fhir_server.access.accounts.sessions import Sessions
from fhir_server.access.vault import Vault
from fhir_server.search import Grant
from fhir_server.settings import Settings
from fhir_server.store import Store

from .forms import Cookies, FormGuard
from .pages import Pages, local_path, onward

_COOKIE: Final = "session"


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """Who has signed in with this browser: the session's id, and the account as it is now."""

    id: str
    account: Account

    @property
    def by(self) -> Grant:
        """Who they are, for the audit trail to tell; a grant that opens nothing."""
        account = self.account
        return Grant(account.login, frozenset(account.roles), (), account=account.id, session=self.id, user=account.fhir_user)


class Browser:
    """Who the browser of this request has signed in as."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float]) -> None:
        """Looks sessions up in the store's database. `clock` gives seconds since 1970."""
        vault = Vault.of(settings)
        self._sessions = Sessions(store, vault)
        self._accounts = Accounts(store, vault)
        self._cookies = Cookies(settings)
        self._forms = FormGuard(settings)
        self._pages = Pages(settings)
        self._clock = clock

    def current(self) -> BrowserSession | None:
        """The session; None where there is none, or it has ended. Asks the database once a request: three statements at the most."""
        if "browser_session" not in g:
            g.browser_session = self._found()
        found: BrowserSession | None = g.browser_session
        return found

    def require(self, next_path: str | None = None, *, expired: bool = False) -> BrowserSession | Response:
        """The session, or a redirect to the sign-in page, which leads on to `next_path`: by default the page that was asked for.

        Whoever has to change the password first is led to that, except where `expired` passwords are good enough.
        """
        wanted = next_path if next_path is not None else request.full_path.removesuffix("?") if request.method == "GET" else None
        wanted = local_path(wanted)
        found = self.current()
        if found is None:
            return self._pages.redirect(onward("/sign-in", wanted))
        if found.account.password_expired and not expired:
            return self._pages.redirect(onward("/account/password", wanted))
        return found

    def sign_in(self, response: Response, account: Account) -> None:
        """Opens a session for the account, whose second factor has been seen, and gives its secret to the browser; a session from before ends.

        Raises Outcome `unauthenticated` where the account has changed meanwhile.
        """
        now = self._now()
        before = self.current()
        secret = self._sessions.begin_in_browser(account, caller().address, caller().agent, now)
        if before is not None:
            self._sessions.end(before.id, before.account.id, "signed in anew", now)
        self._cookies.set(response, _COOKIE, secret)
        self._forms.renew()

    def sign_out(self, response: Response) -> None:
        """Ends the session, where there is one, and takes the secret from the browser."""
        found = self.current()
        if found is not None:
            self._sessions.end(found.id, found.account.id, "logged out", self._now())
        g.browser_session = None
        self._cookies.drop(response, _COOKIE)
        self._forms.renew()

    def _found(self) -> BrowserSession | None:
        secret = self._cookies.get(_COOKIE)
        known = self._sessions.of_browser(secret, self._now()) if secret else None
        account = self._accounts.by_id(known[1]) if known is not None else None
        if known is None or account is None or account.state != "active":
            return None
        return BrowserSession(known[0], account)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def caller() -> Caller:
    """Where the request comes from."""
    return Caller(request.environ.get("REMOTE_ADDR", ""), request.headers.get("User-Agent", ""))
