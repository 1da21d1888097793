"""How somebody who has forgotten the password gets another: a code to what is proved to be theirs, then the new password.

Nobody learns here whether a login exists: what depends on that is done after the answer.
https://cheatsheetseries.owasp.org/cheatsheets/Forgot_Password_Cheat_Sheet.html
"""

from __future__ import annotations

from typing import Final

from fhir_server.access import audit
from fhir_server.outcome import Outcome

from . import limits, passwords
from .accounts import Account, folded
from .challenges import Method, refused
from .desk import Caller, Desk, network
from .limits import Limit

_REQUESTS: Final = 20
"""Codes that one address may ask for in 15 minutes, whatever the logins."""
_WRONG_CODES_A_DAY: Final = 60


class Recovery:
    """The rules of setting a password that has been forgotten."""

    def __init__(self, desk: Desk) -> None:
        """Works with what `desk` has."""
        self._desk = desk

    def forgot(self, login: str, caller: Caller) -> None:
        """Has a code sent to the account's proved e-mail address, else to its proved telephone; nothing for a login that there is none of.

        Raises Outcome `throttled` after five requests for a login in 15 minutes, whether or not there is one, and after 20 from one address.
        """
        desk = self._desk
        now = desk.now()
        account = desk.accounts.by_login(login)
        every = Limit(desk.key("recoveries", network(caller.address)), _REQUESTS)
        limits.fail(desk.database, limits.enter(desk.database, [desk.of_account(account, login, caller, now, "recovery"), every], now))
        # Later, so that the answer takes as long for a login that there is none of.
        desk.messenger.later(lambda: self._send(account))

    def reset(self, login: str, code: str, new: str, caller: Caller, *, totp: str = "") -> None:
        """Sets another password by a right code, ends every session, and forgets the failures before.

        An account with an authenticator app needs its code too, in `totp`: mail alone opens no account that has a second factor.
        Raises Outcome `unauthenticated` for any other code of either, and for a login that there is none of, `invalid` for what cannot be a password
        (the codes stay good), `throttled` after too many failures.
        """
        desk = self._desk
        passwords.check(new, login)
        now = desk.now()
        account = desk.accounts.by_login(login)
        of_day = Limit(desk.key("resets of a day", folded(login)), _WRONG_CODES_A_DAY, limits.KEPT)
        tries = limits.enter(desk.database, [desk.of_account(account, login, caller, now, "reset"), of_day, desk.of_address(caller)], now)
        challenge = desk.challenges.latest(account, "recovery", now)
        used = account is not None and challenge is not None and desk.challenges.use(challenge, account, code, now, totp=totp) is not None
        if challenge is None:
            desk.challenges.pretend()
        if account is None or not used or account.state != "active":
            audit.refused(desk.store, account, "wrong code, to set another password", address=caller.address)
            limits.fail(desk.database, tries)
            raise refused()
        limits.strike(desk.database, tries)
        desk.code_was_used(account)
        desk.accounts.set_password(account, new, now)
        desk.forget_failures(account, now)
        desk.tell(account, "Your password was changed", "Your password at the clinic was changed. If that was not you, tell the clinic at once.\n")

    def _send(self, account: Account | None) -> None:
        desk = self._desk
        ways = desk.ways(account) if account is not None and account.state == "active" else ()
        method: Method | None = "email" if "email" in ways else "sms" if "sms" in ways else None
        if account is None or method is None:
            return
        now = desk.now()
        challenge = desk.challenges.standing(account, "recovery", now)
        if desk.reaches(method):
            try:
                desk.send_code(account, challenge, method, now)
            except Outcome as outcome:
                # Within the cool-down the code is on its way.
                if outcome.category != "throttled":
                    raise
