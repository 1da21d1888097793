"""Signing in: password, then a code, then a session; and how a patient registers.

Nobody learns here whether a login exists: what is unknown gets the same answers after the same work. Failures are counted in the database
(`limits`): five in 15 minutes for an account, or for a login that there is none of. So that strangers cannot keep somebody out, an address from
which the account has been signed in to within 30 days has a count of its own, and all other addresses share one.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any, Final

import pyotp

from fhir_server.messaging import Messenger
from fhir_server.outcome import Outcome
from fhir_server.settings import Settings
from fhir_server.store import Store

from . import limits, passwords
from .accounts import Account, Accounts, NewAccount, check_login, folded
from .challenges import LIFE, Challenge, Challenges, Method, refused
from .limits import Limit
from .sessions import Opened, Sessions
from .vault import Vault

FAILURES: Final = 5
_WRONG_CODES: Final = 20
_WRONG_CODES_A_DAY: Final = 60
_UNUSED_CODES: Final = 10
_REGISTRATIONS: Final = 20
_KNOWN: Final = timedelta(days=30)
_ABANDONED: Final = timedelta(days=1)
_CLEANED: Final = 50  # One sign-in of so many takes away what nobody needs any more.
_EMAIL: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f]{1,64}@[A-Za-z0-9.\-]{1,190}")
_PHONE: Final = re.compile(r"\+?[0-9][0-9 ()/\-]{4,30}")


@dataclass(frozen=True, slots=True)
class Started:
    """A challenge and the ways in which its code can be had."""

    challenge: str
    methods: tuple[str, ...]
    expires_in: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from: address and `User-Agent`."""

    address: str
    agent: str = ""


class SignIn:
    """The rules of signing in over one database. `clock` gives the time with its zone."""

    def __init__(self, store: Store, settings: Settings, messenger: Messenger, clock: Callable[[], datetime]) -> None:
        """Takes the secret and the limit per address from the settings."""
        self._store = store
        self._vault = Vault(settings.jwt_secret)
        self._messenger = messenger
        self._clock = clock
        self._most_of_address = settings.auth_address_limit
        self.accounts = Accounts(store, self._vault)
        self.sessions = Sessions(store, self._vault)
        self.challenges = Challenges(store, self._vault)

    def login(self, login: str, password: str, caller: Caller) -> Started:
        """A challenge for a right password.

        Raises Outcome `unauthenticated` for a wrong password, an unknown login and an account that is not active alike, `throttled` after too many
        failures.
        """
        now = self._clock()
        account = self.accounts.by_login(login)
        tries = limits.enter(self._store.database, [self._of_account(account, login, caller, now), self._of_address(caller)], now)
        right = passwords.matches(password, account.password_hash if account is not None else None)
        if account is not None and right and account.state == "locked":
            limits.strike(self._store.database, tries)
            raise Outcome("throttled", "The account is locked; ask at the desk", headers={"Retry-After": "900"})
        if account is None or not right or account.state != "active":
            limits.fail(self._store.database, tries)
            raise Outcome("unauthenticated", "The login or the password is not right", headers={"WWW-Authenticate": "Bearer"})
        limits.strike(self._store.database, tries)
        if passwords.is_dated(account.password_hash):
            self.accounts.rehash(account, password)
        if secrets.randbelow(_CLEANED) == 0:
            clean(self._store, now)
        challenge = self.challenges.open(account, "sign-in", now)
        return Started(challenge.id, self._methods(account), int(LIFE.total_seconds()))

    def send(self, challenge_id: str, method: str) -> None:
        """Sends a code for a challenge by `email` or `sms`; nothing for `totp`, whose codes the app has.

        Raises Outcome `unauthenticated` where the challenge has ended, `invalid` for a way that the account does not have, `throttled` within the
        cool-down or after too many codes that nobody used, `unavailable` where no more messages are taken.
        """
        now = self._clock()
        challenge, account = self._challenge(challenge_id, now)
        if method not in self._methods(account):
            raise Outcome("invalid", f"The ways of this account are {', '.join(self._methods(account)) or 'none'}")
        if method == "totp" or (account.demo and not self._reaches(method)):
            return  # The code of a demo account without a gateway is shown by `fhir-server user otp`.
        self._send(account, challenge, "sms" if method == "sms" else "email", now)

    def verify(self, challenge_id: str, code: str, caller: Caller) -> tuple[Account, Opened]:
        """Opens a session by a right code. Raises Outcome `unauthenticated` for a wrong one, `throttled` after too many of them."""
        now = self._clock()
        challenge, account = self._challenge(challenge_id, now)
        tries = limits.enter(self._store.database, [*self._of_codes(account), self._of_address(caller)], now)
        if self.challenges.use(challenge, account, code, now) is None:
            limits.fail(self._store.database, tries)
            raise refused()
        limits.strike(self._store.database, tries)
        with self._store.database.connection() as connection:
            limits.forget(connection, [self._key("unused codes", account.id)])
        return account, self.sessions.begin(account, caller.address, caller.agent, now)

    def change_password(self, account: Account, current: str, new: str, caller: Caller) -> None:
        """Sets another password and ends every session. Raises Outcome `forbidden` where the current one is not right, `invalid` for the new one."""
        now = self._clock()
        tries = limits.enter(self._store.database, [self._of_account(account, account.login, caller, now), self._of_address(caller)], now)
        if not passwords.matches(current, account.password_hash):
            limits.fail(self._store.database, tries)
            raise Outcome("forbidden", "The current password is not right")
        limits.strike(self._store.database, tries)
        if new == current:
            raise Outcome("invalid", "The new password is the current one")
        self.accounts.set_password(account, new, now)

    def enroll_totp(self, account: Account) -> str:
        """A secret for an authenticator app, in base 32; it counts once `confirm_totp` has seen a code of it."""
        secret = pyotp.random_base32()
        self.accounts.offer_totp(account, secret)
        return secret

    def confirm_totp(self, account: Account, code: str, caller: Caller) -> None:
        """Makes the offered secret the second factor. Raises Outcome `invalid` for a wrong code, and where none was offered."""
        now = self._clock()
        tries = limits.enter(self._store.database, [*self._of_codes(account), self._of_address(caller)], now)
        if not self.challenges.use_totp(account, account.totp_offered, code, now):
            limits.fail(self._store.database, tries)
            raise Outcome("invalid", "The code is not one that the new secret shows now")
        limits.strike(self._store.database, tries)
        self.accounts.accept_totp(account)

    def register(self, new: NewAccount, caller: Caller) -> None:
        """Takes a registration and sends a code to prove e-mail or phone; for a login that is taken it does the same work and sends none.

        A registration may be repeated with the same password, and after a day by anybody. Without a gateway the code is had at the desk, by
        `fhir-server user otp`. Raises Outcome `invalid` for what cannot be taken, `throttled` after too many from one address.
        """
        now = self._clock()
        check_contact(new)
        limit = Limit(self._key("registrations", _network(caller.address)), _REGISTRATIONS)
        limits.fail(self._store.database, limits.enter(self._store.database, [limit], now))
        account = self.accounts.by_login(new.login)
        account = self.accounts.add(new, now) if account is None else self._unproved(account, new, now)
        if account is not None:
            challenge = self.challenges.latest(account, "registration", now) or self.challenges.open(account, "registration", now)
            if not (self._messenger.mails or (self._messenger.texts and account.phone is not None)):
                return
            try:
                self._send(account, challenge, "email" if self._messenger.mails else "sms", now)
            except Outcome as outcome:
                # Within the cool-down: the code is on its way, and a stranger is told nothing.
                if outcome.category != "throttled":
                    raise

    def confirm(self, login: str, code: str, caller: Caller) -> Account:
        """The account whose registration a right code proves; `welcome` makes it active. Raises Outcome `unauthenticated` for any other."""
        now = self._clock()
        account = self.accounts.by_login(login)
        tries = limits.enter(self._store.database, [self._of_account(account, login, caller, now), self._of_address(caller)], now)
        challenge = self.challenges.latest(account, "registration", now) if account is not None else None
        method = self.challenges.use(challenge, account, code, now) if challenge is not None and account is not None else None
        if account is None or method is None or account.state != "invited" or account.applicant is None:
            limits.fail(self._store.database, tries)
            raise refused()
        limits.strike(self._store.database, tries)
        self.accounts.prove(account, method)
        return account

    def code_for_shell(self, account: Account) -> str | None:
        """A code for the account's newest open challenge, for whoever has shell access; None where none is open."""
        now = self._clock()
        found = self.challenges.latest(account, "sign-in", now) or self.challenges.latest(account, "registration", now)
        return self.challenges.new_code(found, "shell", now) if found is not None else None

    def unlock(self, account: Account) -> None:
        """Makes a locked account active, and forgets its failures."""
        now = self._clock()
        if account.state == "locked":
            self.accounts.set_state(account.id, "active", now)
        keys = [self._key("account", folded(account.login)), self._key("codes", account.id), self._key("unused codes", account.id)]
        keys.append(self._key("codes of a day", account.id))
        with self._store.database.connection() as connection:
            rows = connection.execute("SELECT DISTINCT address FROM session WHERE account = %s AND created > %s", (account.id, now - _KNOWN))
            keys += [self._key("account", folded(account.login), address) for (address,) in rows.fetchall()]
            limits.forget(connection, keys)

    def now(self) -> datetime:
        """The time by which all of this goes."""
        return self._clock()

    def _challenge(self, identity: str, now: datetime) -> tuple[Challenge, Account]:
        challenge = self.challenges.find(identity, now)
        account = self.accounts.by_id(challenge.account) if challenge is not None else None
        if challenge is None or account is None or account.state != "active":
            raise refused()
        return challenge, account

    def _unproved(self, account: Account, new: NewAccount, now: datetime) -> Account | None:
        """The registration that waits for its proof: the same person's, or one given up, which another takes the place of."""
        right = passwords.matches(new.password, account.password_hash)
        if account.state != "invited" or account.applicant is None:
            return None
        if not right and account.created < now - _ABANDONED:
            self.accounts.replace_applicant(account, new, now)
            return self.accounts.by_login(new.login)
        return account if right else None

    def _send(self, account: Account, challenge: Challenge, method: Method, now: datetime) -> None:
        unused = Limit(self._key("unused codes", account.id), _UNUSED_CODES)
        tries = limits.enter(self._store.database, [unused], now)
        try:
            code = self.challenges.new_code(challenge, method, now)
        except Outcome:
            limits.strike(self._store.database, tries)
            raise
        limits.fail(self._store.database, tries)
        text = f"Your code is\n\n{code}\n\nIt is good for 10 minutes and for one use.\nNobody of the clinic will ever ask you for it.\n"
        if method == "email":
            taken = account.email is not None and self._messenger.mail(account.email, "Your code", text)
        else:
            taken = account.phone is not None and self._messenger.sms(account.phone, f"{code} is your code. It is good for 10 minutes.")
        if not taken:
            raise Outcome("unavailable", "The code cannot be sent now; try again", headers={"Retry-After": "10"})

    def _methods(self, account: Account) -> tuple[str, ...]:
        email = account.email is not None and account.email_proved and (account.demo or self._messenger.mails)
        sms = account.phone is not None and account.phone_proved and (account.demo or self._messenger.texts)
        ways = (("totp", account.totp_secret is not None), ("email", email), ("sms", sms))
        return tuple(name for name, there in ways if there)

    def _reaches(self, method: str) -> bool:
        return self._messenger.texts if method == "sms" else self._messenger.mails

    def _of_account(self, account: Account | None, login: str, caller: Caller, now: datetime) -> Limit:
        # Asked for logins that there is none of too: the time is the same.
        if self.sessions.is_known(account.id if account is not None else None, caller.address, now - _KNOWN):
            return Limit(self._key("account", folded(login), caller.address), FAILURES)
        return Limit(self._key("account", folded(login)), FAILURES)

    def _of_address(self, caller: Caller) -> Limit:
        return Limit(self._key("address", _network(caller.address)), self._most_of_address)

    def _of_codes(self, account: Account) -> tuple[Limit, Limit]:
        # A challenge has five tries, but whoever knows the password opens as many challenges as they like.
        key = self._key("codes", account.id)
        return Limit(key, _WRONG_CODES), Limit(self._key("codes of a day", account.id), _WRONG_CODES_A_DAY, limits.KEPT)

    def _key(self, *parts: str) -> bytes:
        return self._vault.digest("limit", *parts)


def check_contact(new: NewAccount) -> None:
    """Raises Outcome `invalid` for a login, password, e-mail address or telephone number that cannot be."""
    check_login(new.login)
    passwords.check(new.password, new.login)
    if new.email is not None and not _EMAIL.fullmatch(new.email):
        raise Outcome("invalid", "The e-mail address is not one as name@example.org")
    if new.phone is not None and not _PHONE.fullmatch(new.phone):
        raise Outcome("invalid", "The telephone number is not one as +49 170 1234567")


def _network(address: str) -> str:
    """What counts as one address: of IPv6 the 64 bits that a household has."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return str(known) if known.version == 4 else str(ip_network((known, 64), strict=False))  # noqa: PLR2004 - the version


def clean(store: Store, now: datetime) -> None:
    """Takes away what nobody needs any more: old challenges, failures, used time steps, and sessions a month after their end."""
    with store.database.connection() as connection:
        connection.execute("DELETE FROM challenge WHERE expires < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM attempt WHERE at < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM totp_use WHERE step < %s", (int(now.timestamp()) // 30 - 10,))
        connection.execute("DELETE FROM session WHERE expires < %s", (now - _KNOWN,))
        # A backend service has one for every token.
        connection.execute("DELETE FROM session WHERE account IS NULL AND expires < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM app_request WHERE expires < %s", (now - limits.KEPT,))
        connection.execute("DELETE FROM launch WHERE expires < %s", (now,))


def applicant_resource(account: Account) -> dict[str, Any]:
    """The Patient of what somebody who registers has told of themselves."""
    told = json.loads(account.applicant or "{}")
    telecom = [{"system": kind, "value": value} for kind, value in (("email", account.email), ("phone", account.phone)) if value is not None]
    name = {"family": told["family"], "given": [told["given"]]}
    return {"resourceType": "Patient", "name": [name], "telecom": telecom, "birthDate": told["birthDate"]}
