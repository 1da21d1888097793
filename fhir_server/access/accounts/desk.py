"""What signing in, registering, resetting and changing have in common: whose failures count where, and how a code reaches its owner.

Failures are counted in the database (`limits`): five in 15 minutes for an account, or for a login that there is none of. So that strangers cannot
keep somebody out, an address from which the account has been signed in to within 30 days has a count of its own, and all other addresses share one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

from fhir_server.access.vault import Vault
from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.store import Store
from fhir_server.store.database import Connection, Database

from . import limits
from .accounts import Account, Accounts, folded
from .challenges import Challenge, Challenges, Method, Purpose
from .limits import Limit
from .sessions import Sessions

FAILURES: Final = 5
KNOWN: Final = timedelta(days=30)
_WRONG_CODES: Final = 20
_WRONG_CODES_A_DAY: Final = 60
_UNUSED_CODES: Final = 10
_EMAIL: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f]{1,64}@[A-Za-z0-9.\-]{1,190}")
_PHONE: Final = re.compile(r"\+?[0-9][0-9 ()/\-]{4,30}")
_PURPOSES: Final[dict[Purpose, str]] = {
    "sign-in": "to sign in",
    "registration": "to register",
    "recovery": "to set another password",
    "email": "to prove your e-mail address",
    "phone": "to prove your telephone number",
    "invitation": "to choose a password",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from: address and `User-Agent`."""

    address: str
    agent: str = ""


class Desk:
    """Accounts, sessions and challenges of one database, with what is counted and sent on the way. `clock` gives the time with its zone."""

    def __init__(self, store: Store, settings: Settings, messenger: Messenger, clock: Callable[[], datetime]) -> None:
        """Takes the secret and the limit per address from the settings."""
        self.vault = Vault.of(settings)
        self._most_of_address = settings.auth_address_limit
        self.store = store
        self.messenger = messenger
        self.now = clock
        self.accounts = Accounts(store, self.vault)
        self.sessions = Sessions(store, self.vault)
        self.challenges = Challenges(store, self.vault)

    @property
    def database(self) -> Database:
        """Where accounts and limits are kept."""
        return self.store.database

    def ways(self, account: Account) -> tuple[str, ...]:
        """How the account's owner comes by a code: `totp`, `email`, `sms`."""
        email = account.email is not None and account.email_proved and (account.demo or self.messenger.mails)
        sms = account.phone is not None and account.phone_proved and (account.demo or self.messenger.texts)
        listed = (("totp", account.totp_secret is not None), ("email", email), ("sms", sms))
        return tuple(name for name, there in listed if there)

    def reaches(self, method: str) -> bool:
        """Whether there is a gateway for `email` or `sms`. The codes of a demo account without one are shown by `fhir-server user otp`."""
        return self.messenger.texts if method == "sms" else self.messenger.mails

    def send_code(self, account: Account, challenge: Challenge, method: Method, now: datetime) -> None:
        """Sends a code to what the challenge is to prove, else to the account's e-mail or telephone (`sms`).

        Raises Outcome `throttled` within the cool-down and after too many codes that nobody used, `unavailable` where no more messages are taken.
        """
        tries = limits.enter(self.database, [Limit(self.key("unused codes", account.id), _UNUSED_CODES)], now)
        try:
            code = self.challenges.new_code(challenge, method, now)
        except Outcome:
            limits.strike(self.database, tries)
            raise
        limits.fail(self.database, tries)
        purpose = _PURPOSES[challenge.purpose]
        # Told here, to the owner: a page that told it would tell everybody.
        both = " You need the code that your authenticator app shows too." if challenge.purpose == "recovery" and account.totp_secret else ""
        if method == "email":
            to = challenge.target or account.email
            text = (
                f"Your code {purpose} is\n\n{code}\n\nIt is good for 10 minutes and for one use.{both}\n"
                "Nobody of the clinic will ever ask you for it.\n"
            )
            taken = to is not None and self.messenger.mail(to, f"Your code {purpose}", text)
        else:
            to = challenge.target or account.phone
            taken = to is not None and self.messenger.sms(to, f"{code} is your code {purpose}. It is good for 10 minutes.{both}")
        if not taken:
            raise Outcome("unavailable", "The code cannot be sent now; try again", headers={"Retry-After": "10"})

    def tell(self, account: Account, subject: str, text: str) -> None:
        """Tells the account's owner by mail, else by SMS, of what has changed; nothing where neither is proved."""
        if account.email is not None and account.email_proved and self.messenger.mail(account.email, subject, text):
            return
        if account.phone is not None and account.phone_proved:
            self.messenger.sms(account.phone, text)

    def code_was_used(self, account: Account) -> None:
        """A code has reached its owner: those before it do not count as sent in vain any more."""
        with self.database.connection() as connection:
            limits.forget(connection, [self.key("unused codes", account.id)])

    def forget_failures(self, account: Account, now: datetime) -> None:
        """No password was ever wrong for the account, from wherever."""
        with self.database.connection() as connection:
            limits.forget(connection, self._failures(connection, account, now))

    def forgive(self, connection: Connection, account: Account, now: datetime) -> None:
        """No password and no code was ever wrong for the account, and no code sent in vain; within a transaction of the caller's."""
        codes = [self.key(name, account.id) for name in ("codes", "unused codes", "codes of a day")]
        codes += [self.key(name, folded(account.login)) for name in ("resets of a day", "invitation")]
        limits.forget(connection, [*self._failures(connection, account, now), *codes])

    def _failures(self, connection: Connection, account: Account, now: datetime) -> list[bytes]:
        login = folded(account.login)
        rows = connection.execute("SELECT DISTINCT address FROM session WHERE account = %s AND created > %s", (account.id, now - KNOWN))
        return [self.key("account", login), *(self.key("account", login, address) for (address,) in rows.fetchall())]

    def of_account(self, account: Account | None, login: str, caller: Caller, now: datetime, kind: str = "account") -> Limit:
        """The limit of failures of one kind for a login, whether or not there is one."""
        # Asked for logins that there is none of too: the time is the same.
        if self.sessions.is_known(account.id if account is not None else None, caller.address, now - KNOWN):
            return Limit(self.key(kind, folded(login), caller.address), FAILURES)
        return Limit(self.key(kind, folded(login)), FAILURES)

    def of_address(self, caller: Caller) -> Limit:
        """The limit of failures from where somebody calls."""
        return Limit(self.key("address", network(caller.address)), self._most_of_address)

    def of_codes(self, account: Account) -> tuple[Limit, Limit]:
        """The limits of wrong codes."""
        # A challenge has five tries, but whoever knows the password opens as many challenges as they like.
        key = self.key("codes", account.id)
        return Limit(key, _WRONG_CODES), Limit(self.key("codes of a day", account.id), _WRONG_CODES_A_DAY, limits.KEPT)

    def key(self, *parts: str) -> bytes:
        """What a limit is counted under."""
        return self.vault.digest("limit", *parts)


def check_email(text: str) -> None:
    """Raises Outcome `invalid` for what cannot be an e-mail address."""
    if not _EMAIL.fullmatch(text):
        raise Outcome("invalid", "The e-mail address is not one as name@example.org", expression="email")


def check_phone(text: str) -> None:
    """Raises Outcome `invalid` for what cannot be a telephone number."""
    if not _PHONE.fullmatch(text):
        raise Outcome("invalid", "The telephone number is not one as +49 170 1234567", expression="phone")


def network(address: str) -> str:
    """What counts as one address: of IPv6 the 64 bits that a household has."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return str(known) if known.version == 4 else str(ip_network((known, 64), strict=False))  # noqa: PLR2004 - the version
