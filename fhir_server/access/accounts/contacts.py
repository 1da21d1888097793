"""How an account gets another e-mail address or telephone number: a code to the new one proves it."""

from __future__ import annotations

from typing import Final, Literal

from fhir_server.access import audit
from fhir_server.outcome import Outcome

from . import limits, passwords
from .accounts import Account
from .challenges import Method
from .desk import Caller, Desk, check_email, check_phone

Kind = Literal["email", "phone"]
_METHODS: Final[dict[Kind, Method]] = {"email": "email", "phone": "sms"}
_CHANGED: Final[dict[Kind, str]] = {"email": "e-mail address", "phone": "telephone number"}


class Contacts:
    """The rules of changing what codes are sent to."""

    def __init__(self, desk: Desk) -> None:
        """Works with what `desk` has."""
        self._desk = desk

    def offer(self, account: Account, kind: Kind, target: str, password: str, caller: Caller) -> None:
        """Sends a code to the new address or number; the one before stays until `confirm` has seen it. A further offer takes the place of this one.

        Without a gateway the code is had at the desk, by `fhir-server user otp`. Raises Outcome `forbidden` where the password is not right,
        `invalid` for what cannot be an address or a number, `throttled` after too many failures or codes that nobody used.
        """
        desk = self._desk
        (check_email if kind == "email" else check_phone)(target)
        now = desk.now()
        tries = limits.enter(desk.database, [desk.of_account(account, account.login, caller, now), desk.of_address(caller)], now)
        if not passwords.matches(password, account.password_hash):
            audit.refused(desk.store, account, f"wrong password, to change the {_CHANGED[kind]}", address=caller.address)
            limits.fail(desk.database, tries)
            raise Outcome("forbidden", "The password is not right", expression="current")
        limits.strike(desk.database, tries)
        challenge = desk.challenges.open(account, kind, now, target)
        if desk.reaches(_METHODS[kind]):
            desk.send_code(account, challenge, _METHODS[kind], now)

    def waiting(self, account: Account, kind: Kind) -> str | None:
        """The address or number that waits for its code."""
        challenge = self._desk.challenges.latest(account, kind, self._desk.now())
        return challenge.target if challenge is not None else None

    def confirm(self, account: Account, kind: Kind, code: str, caller: Caller) -> None:
        """Makes the offered address or number the account's by a right code, and tells whoever reads the one before.

        Raises Outcome `invalid` for a wrong code, and where none was offered, `throttled` after too many of them.
        """
        desk = self._desk
        now = desk.now()
        tries = limits.enter(desk.database, [*desk.of_codes(account), desk.of_address(caller)], now)
        challenge = desk.challenges.latest(account, kind, now)
        if challenge is None or challenge.target is None or desk.challenges.use(challenge, account, code, now) is None:
            audit.refused(desk.store, account, f"wrong code, to change the {_CHANGED[kind]}", address=caller.address)
            limits.fail(desk.database, tries)
            raise Outcome("invalid", "The code is not right, or is too old", expression="code")
        limits.strike(desk.database, tries)
        desk.code_was_used(account)
        desk.accounts.set_contact(account, kind, challenge.target)
        text = f"The {_CHANGED[kind]} of your account at the clinic was changed. If that was not you, tell the clinic at once.\n"
        desk.tell(account, f"Your {_CHANGED[kind]} was changed", text)
