"""How a patient registers: an account that is invited until its e-mail or telephone is proved, and the record that it gets then.

Nobody learns here whether a login exists: for one that is taken there is the same answer after the same work.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.outcome import Outcome

from . import limits, passwords
from .accounts import Account, NewAccount, check_login
from .challenges import refused
from .desk import Caller, Desk, check_email, check_phone, network
from .limits import Limit

_REGISTRATIONS: Final = 20
_ABANDONED: Final = timedelta(days=1)


class Registration:
    """The rules of registering."""

    def __init__(self, desk: Desk) -> None:
        """Works with what `desk` has."""
        self._desk = desk

    def register(self, new: NewAccount, caller: Caller) -> None:
        """Takes a registration and sends a code to prove e-mail or phone; for a login that is taken it does the same work and sends none.

        A registration may be repeated with the same password, and after a day by anybody. Without a gateway the code is had at the desk, by
        `fhir-server user otp`. Raises Outcome `invalid` for what cannot be taken, `throttled` after too many from one address, `unavailable` where
        no more messages are taken.
        """
        desk = self._desk
        now = desk.now()
        check_contact(new)
        limit = Limit(desk.key("registrations", network(caller.address)), _REGISTRATIONS)
        limits.fail(desk.database, limits.enter(desk.database, [limit], now))
        account = desk.accounts.by_login(new.login)
        account = desk.accounts.add(new, now) if account is None else self._unproved(account, new, now)
        # Later, so that the answer takes as long for a login that is taken.
        if not desk.messenger.later(lambda: self._send(account)):
            raise Outcome("unavailable", "The code cannot be sent now; try again", headers={"Retry-After": "10"})

    def confirm(self, login: str, code: str, caller: Caller) -> Account:
        """The account whose registration a right code proves; `welcome` makes it active. Raises Outcome `unauthenticated` for any other."""
        desk = self._desk
        now = desk.now()
        account = desk.accounts.by_login(login)
        tries = limits.enter(desk.database, [desk.of_account(account, login, caller, now), desk.of_address(caller)], now)
        challenge = desk.challenges.latest(account, "registration", now) if account is not None else None
        method = desk.challenges.use(challenge, account, code, now) if challenge is not None and account is not None else None
        if account is None or method is None or account.state != "invited" or account.applicant is None:
            limits.fail(desk.database, tries)
            raise refused()
        limits.strike(desk.database, tries)
        desk.accounts.prove(account, method)
        return account

    def _send(self, account: Account | None) -> None:
        desk = self._desk
        if account is None:
            return
        now = desk.now()
        challenge = desk.challenges.standing(account, "registration", now)
        if not (desk.messenger.mails or (desk.messenger.texts and account.phone is not None)):
            return
        try:
            desk.send_code(account, challenge, "email" if desk.messenger.mails else "sms", now)
        except Outcome as outcome:
            # Within the cool-down: the code is on its way.
            if outcome.category != "throttled":
                raise

    def _unproved(self, account: Account, new: NewAccount, now: datetime) -> Account | None:
        """The registration that waits for its proof: the same person's, or one given up, which another takes the place of."""
        right = passwords.matches(new.password, account.password_hash)
        if account.state != "invited" or account.applicant is None:
            return None
        if not right and account.created < now - _ABANDONED:
            self._desk.accounts.replace_applicant(account, new, now)
            return self._desk.accounts.by_login(new.login)
        return account if right else None


def check_contact(new: NewAccount) -> None:
    """Raises Outcome `invalid` for a login, password, e-mail address or telephone number that cannot be."""
    check_login(new.login)
    passwords.check(new.password, new.login)
    if new.email is not None:
        check_email(new.email)
    if new.phone is not None:
        check_phone(new.phone)


def applicant_resource(account: Account) -> dict[str, Any]:
    """The Patient of what somebody who registers has told of themselves."""
    told = json.loads(account.applicant or "{}")
    telecom = [{"system": kind, "value": value} for kind, value in (("email", account.email), ("phone", account.phone)) if value is not None]
    name = {"family": told["family"], "given": [told["given"]]}
    return {"resourceType": "Patient", "name": [name], "telecom": telecom, "birthDate": told["birthDate"]}
