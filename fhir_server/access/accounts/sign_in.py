"""Signing in: password, then a code, then a session; and what somebody who is signed in changes about it.

Nobody learns here whether a login exists: what is unknown gets the same answers after the same work.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyotp

from fhir_server.access import audit
from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.store import Store

from . import limits, passwords
from .accounts import Account
from .challenges import LIFE, Challenge, refused
from .desk import KNOWN, Caller, Desk
from .sessions import Opened

_CLEANED: Final = 50  # One sign-in of so many takes away what nobody needs any more.


@dataclass(frozen=True, slots=True)
class Started:
    """A challenge and the ways in which its code can be had."""

    challenge: str
    methods: tuple[str, ...]
    expires_in: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sign-in between password and code.

    `methods` are the ways to have a code, `places` is as much as may be told of where each leads, `sent` the way of the last code, and `cool_down`
    the seconds until another may go. With `silent` there is no gateway, and the operator has the code.
    """

    methods: tuple[str, ...]
    places: dict[str, str]
    sent: str | None
    cool_down: int
    silent: bool


class SignIn:
    """The rules of signing in over one database. `clock` gives the time with its zone."""

    def __init__(self, store: Store, settings: Settings, messenger: Messenger, clock: Callable[[], datetime]) -> None:
        """Takes the secret and the limit per address from the settings. `desk` is for what else people do about their accounts."""
        self.desk = Desk(store, settings, messenger, clock)
        self.accounts = self.desk.accounts
        self.sessions = self.desk.sessions
        self._challenges = self.desk.challenges

    def login(self, login: str, password: str, caller: Caller) -> Started:
        """A challenge for a right password.

        Raises Outcome `unauthenticated` for a wrong password, an unknown login and an account that is not active alike, `throttled` after too many
        failures.
        """
        now = self.desk.now()
        account = self.accounts.by_login(login)
        tries = limits.enter(self.desk.database, [self.desk.of_account(account, login, caller, now), self.desk.of_address(caller)], now)
        right = passwords.matches(password, account.password_hash if account is not None else None)
        if account is not None and right and account.state == "locked":
            audit.refused(self.desk.store, account, "the account is locked", address=caller.address)
            limits.strike(self.desk.database, tries)
            raise Outcome("throttled", "The account is locked; ask at the desk", headers={"Retry-After": "900"})
        if account is None or not right or account.state != "active":
            audit.refused(self.desk.store, account, "wrong password" if not right else "the account is not active", address=caller.address)
            limits.fail(self.desk.database, tries)
            raise Outcome("unauthenticated", "The login or the password is not right", headers={"WWW-Authenticate": "Bearer"})
        limits.strike(self.desk.database, tries)
        if passwords.is_dated(account.password_hash):
            self.accounts.rehash(account, password)
        if secrets.randbelow(_CLEANED) == 0:
            clean(self.desk.store, now)
        challenge = self._challenges.open(account, "sign-in", now)
        return Started(challenge.id, self.desk.ways(account), int(LIFE.total_seconds()))

    def send(self, challenge_id: str, method: str) -> None:
        """Sends a code for a challenge by `email` or `sms`; nothing for `totp`, whose codes the app has.

        Raises Outcome `unauthenticated` where the challenge has ended, `invalid` for a way that the account does not have, `throttled` within the
        cool-down or after too many codes that nobody used, `unavailable` where no more messages are taken.
        """
        now = self.desk.now()
        challenge, account = self._challenge(challenge_id, now)
        if method not in self.desk.ways(account):
            raise Outcome("invalid", f"The ways of this account are {', '.join(self.desk.ways(account)) or 'none'}")
        if method == "totp" or (account.demo and not self.desk.reaches(method)):
            return
        self.desk.send_code(account, challenge, "sms" if method == "sms" else "email", now)

    def waiting(self, challenge_id: str) -> Waiting:
        """How a sign-in stands that waits for its code. Raises Outcome `unauthenticated` where the challenge has ended."""
        now = self.desk.now()
        challenge, account = self._challenge(challenge_id, now)
        places = {"email": _part_of(account.email), "sms": _part_of(account.phone)}
        ways = self.desk.ways(account)
        silent = not any(way == "totp" or self.desk.reaches(way) for way in ways)
        return Waiting(ways, places, *self._challenges.last_sent(challenge, now), silent)

    def verify(self, challenge_id: str, code: str, caller: Caller) -> tuple[Account, Opened]:
        """Opens a session by a right code. Raises Outcome `unauthenticated` for a wrong one, `throttled` after too many of them."""
        account = self.prove(challenge_id, code, caller)
        return account, self.sessions.begin(account, caller.address, caller.agent, self.desk.now())

    def prove(self, challenge_id: str, code: str, caller: Caller) -> Account:
        """The account that a right code is of, for a session to be opened. Raises as `verify`."""
        now = self.desk.now()
        challenge, account = self._challenge(challenge_id, now)
        tries = limits.enter(self.desk.database, [*self.desk.of_codes(account), self.desk.of_address(caller)], now)
        if self._challenges.use(challenge, account, code, now) is None:
            audit.refused(self.desk.store, account, "wrong code", address=caller.address)
            limits.fail(self.desk.database, tries)
            raise refused()
        limits.strike(self.desk.database, tries)
        self.desk.code_was_used(account)
        return account

    def change_password(self, account: Account, current: str, new: str, caller: Caller) -> None:
        """Sets another password and ends every session. Raises Outcome `forbidden` where the current one is not right, `invalid` for the new one."""
        now = self.desk.now()
        tries = limits.enter(self.desk.database, [self.desk.of_account(account, account.login, caller, now), self.desk.of_address(caller)], now)
        if not passwords.matches(current, account.password_hash):
            audit.refused(self.desk.store, account, "wrong password, to change it", address=caller.address)
            limits.fail(self.desk.database, tries)
            raise Outcome("forbidden", "The current password is not right", expression="current")
        limits.strike(self.desk.database, tries)
        if new == current:
            raise Outcome("invalid", "The new password is the current one", expression="password")
        self.accounts.set_password(account, new, now)

    def enroll_totp(self, account: Account) -> str:
        """A secret for an authenticator app, in base 32; it counts once `confirm_totp` has seen a code of it."""
        secret = pyotp.random_base32()
        self.accounts.offer_totp(account, secret)
        return secret

    def confirm_totp(self, account: Account, code: str, caller: Caller) -> None:
        """Makes the offered secret the second factor. Raises Outcome `invalid` for a wrong code, and where none was offered."""
        now = self.desk.now()
        tries = limits.enter(self.desk.database, [*self.desk.of_codes(account), self.desk.of_address(caller)], now)
        if not self._challenges.use_totp(account, account.totp_offered, code, now):
            limits.fail(self.desk.database, tries)
            raise Outcome("invalid", "The code is not one that the new secret shows now", expression="code")
        limits.strike(self.desk.database, tries)
        self.accounts.accept_totp(account)

    def code_for_shell(self, account: Account) -> str | None:
        """A code for whatever of the account waits for one, the newest first, for whoever has shell access; None where nothing does."""
        now = self.desk.now()
        found = self._challenges.latest(account, None, now)
        return self._challenges.new_code(found, "shell", now) if found is not None else None

    def unlock(self, account: Account) -> None:
        """Makes a locked account active, and forgets its failures."""
        now = self.desk.now()
        if account.state == "locked":
            self.accounts.set_state(account.id, "active", now)
        with self.desk.database.connection() as connection:
            self.desk.forgive(connection, account, now)

    def now(self) -> datetime:
        """The time by which all of this goes."""
        return self.desk.now()

    def _challenge(self, identity: str, now: datetime) -> tuple[Challenge, Account]:
        challenge = self._challenges.find(identity, now)
        account = self.accounts.by_id(challenge.account) if challenge is not None else None
        if challenge is None or account is None or account.state != "active":
            raise refused()
        return challenge, account


def _part_of(place: str | None) -> str:
    """As much of an address or a number as its owner needs to know which it is."""
    if place is None:
        return ""
    name, at, domain = place.partition("@")
    # With word joiners, so that no line breaks within.
    return f"{name[0]}…\u2060@{domain}" if at else f"…\u00a0{place[-3:]}"


def clean(store: Store, now: datetime) -> None:
    """Takes away what nobody needs any more: old challenges, failures, used time steps, and sessions a month after their end."""
    with store.database.connection() as connection:
        connection.execute("DELETE FROM challenge WHERE expires < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM attempt WHERE at < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM idempotency WHERE at < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM totp_use WHERE step < %s", (int(now.timestamp()) // 30 - 10,))
        connection.execute("DELETE FROM session WHERE expires < %s", (now - KNOWN,))
        # A backend service has one for every token.
        connection.execute("DELETE FROM session WHERE account IS NULL AND expires < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM app_request WHERE expires < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM launch WHERE expires < %s", (now,))
