"""Invitations: a code by mail or SMS that lets somebody set the password of an account that was made for them.

The code is a one-time code as in `challenges`, good for a week. Without a gateway it is had from `fhir-server user otp`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from . import limits, passwords
from .accounts import Account
from .challenges import COOL_DOWN, INVITED, refused, too_soon
from .desk import Caller, Desk

Way = Literal["email", "sms"]

_DAYS: Final = INVITED.days


@dataclass(frozen=True, slots=True)
class Letter:
    """An invitation to send once its transaction is committed."""

    way: Way
    to: str = field(repr=False)
    login: str
    code: str = field(repr=False)


class Invitations:
    """The rules of inviting, and of taking an invitation up."""

    def __init__(self, desk: Desk, public_url: str | None = None) -> None:
        """Works with what `desk` has. `public_url` is where people find the server, for letters; None where nobody has set it."""
        self._desk = desk
        self._public_url = public_url

    def write(self, connection: Connection, account: Account, now: datetime) -> Letter | None:
        """An invitation in place of any before, within a transaction of the caller's; None where neither mail nor SMS reaches the account.

        Raises Outcome `conflict` for an account that is not invited, `throttled` within 30 seconds of the last.
        """
        if account.state != "invited" or account.applicant is not None:
            raise Outcome("conflict", f"The account is {account.state}; invitations are for accounts that were made without a password")
        last = "SELECT max(sent) FROM challenge WHERE account = %s AND purpose = 'invitation' AND method <> 'shell'"
        row = connection.execute(last, (account.id,)).fetchone()
        if row is not None and row[0] is not None and now < row[0] + COOL_DOWN:
            raise too_soon(row[0], now)
        challenges = self._desk.challenges
        challenge = challenges.opened(connection, account, "invitation", now)
        ways: tuple[tuple[Way, str | None], ...] = (("email", account.email), ("sms", account.phone))
        for way, to in ways:
            if to is not None and self._desk.reaches(way):
                return Letter(way, to, account.login, challenges.coded(connection, challenge, way, now))
        return None

    def send(self, letter: Letter) -> None:
        """Sends it in the background. One that is lost on its way is written anew by another invitation."""
        messenger = self._desk.messenger
        page = f"{self._public_url}/invitation" if self._public_url else None
        if letter.way == "email":
            text = (
                f"An account was made for you. Your login is {letter.login}. Your code to choose a password is\n\n{letter.code}\n\n"
                + (f"Choose it at\n\n{page}\n\n" if page else "")
                + f"The code is good for {_DAYS} days and for one use.\nNobody of the clinic will ever ask you for it.\n"
            )
            messenger.mail(letter.to, "Your account", text)
        else:
            at = f" at {page}" if page else ""
            messenger.sms(letter.to, f"{letter.code} is your code to choose a password for {letter.login}{at}. It is good for {_DAYS} days.")

    def accept(self, login: str, code: str, password: str, caller: Caller) -> None:
        """Takes an invitation up: the account is active, under a password of its owner's own.

        Raises Outcome `invalid` for a password that cannot be, before the code is looked at, `unauthenticated` for a wrong code and a login that
        nobody is invited by, `throttled` after too many of them.
        """
        desk = self._desk
        now = desk.now()
        passwords.check(password, login)
        account = desk.accounts.by_login(login)
        tries = limits.enter(desk.database, [desk.of_account(account, login, caller, now, "invitation"), desk.of_address(caller)], now)
        challenge = desk.challenges.latest(account, "invitation", now) if account is not None else None
        method = desk.challenges.use(challenge, account, code, now) if challenge is not None and account is not None else None
        if account is None or method is None or not desk.accounts.accept(account, password, method, now):
            limits.fail(desk.database, tries)
            raise refused()
        limits.strike(desk.database, tries)
