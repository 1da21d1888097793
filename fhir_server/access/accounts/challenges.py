"""Challenges and their one-time codes: what stands between a right password and a session, and between a registration and an account.

A code is 6 digits, kept as a digest that is bound to account, challenge and purpose; a further one supersedes it. https://www.rfc-editor.org/rfc/rfc6238
"""

from __future__ import annotations

import hmac
import math
import secrets
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import pyotp

from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from .accounts import Account

Purpose = Literal["sign-in", "registration", "recovery", "email", "phone", "invitation"]
Method = Literal["email", "sms", "shell"]

LIFE: Final = timedelta(minutes=10)
INVITED: Final = timedelta(days=7)
"""How long an invitation may wait."""
TRIES: Final = 5
COOL_DOWN: Final = timedelta(seconds=30)
DIGITS: Final = 6

_STEP: Final = 30  # Seconds that a code of an authenticator app is shown.
_SLIP: Final = 1  # Steps that its clock may be off, either way.


@dataclass(frozen=True, slots=True)
class Challenge:
    """An open challenge. `target` is the e-mail address or telephone number that it is to prove, where that is not the account's yet."""

    id: str
    account: str
    purpose: Purpose
    target: str | None = None


class Challenges:
    """The challenges of one database."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """Works on the store's database; `vault` opens what is sealed there."""
        self._store = store
        self._vault = vault

    def open(self, account: Account, purpose: Purpose, now: datetime, target: str | None = None) -> Challenge:
        """A new challenge. Any but one of a sign-in takes the place of those before it."""
        with self._store.database.connection() as connection, connection.transaction():
            return self.opened(connection, account, purpose, now, target)

    def opened(self, connection: Connection, account: Account, purpose: Purpose, now: datetime, target: str | None = None) -> Challenge:
        """`open` within a transaction of the caller's."""
        identity = secrets.token_urlsafe(24)
        sealed = None if target is None else self._vault.seal(target, f"{identity} target")
        if purpose != "sign-in":
            connection.execute("UPDATE challenge SET ended = true WHERE account = %s AND purpose = %s", (account.id, purpose))
        ends = now + (INVITED if purpose == "invitation" else LIFE)
        connection.execute(
            "INSERT INTO challenge (id, account, purpose, expires, target) VALUES (%s, %s, %s, %s, %s)", (identity, account.id, purpose, ends, sealed)
        )
        return Challenge(identity, account.id, purpose, target)

    def standing(self, account: Account, purpose: Purpose, now: datetime) -> Challenge:
        """The account's open challenge of a purpose, a new one where there is none: of any number of calls at once one makes it."""
        with self._store.database.connection() as connection, connection.transaction():
            connection.execute("SELECT 1 FROM account WHERE id = %s FOR UPDATE", (account.id,))
            found = self._one("account = %s AND purpose = %s", (account.id, purpose), now, connection)
            return found or self.opened(connection, account, purpose, now)

    def find(self, identity: str, now: datetime) -> Challenge | None:
        """The sign-in challenge of an id, where it is still open."""
        return self._one("id = %s AND purpose = 'sign-in'", (identity,), now)

    def latest(self, account: Account | None, purpose: Purpose | None, now: datetime) -> Challenge | None:
        """The account's newest open challenge of a purpose, or of any; None, after the same search, where there is no account."""
        identity = account.id if account is not None else ""
        return self._one("account = %s AND (purpose = %s OR %s::text IS NULL)", (identity, purpose, purpose), now)

    def last_sent(self, challenge: Challenge, now: datetime) -> tuple[str | None, int]:
        """The way the last code went, None before the first, and the seconds until another may go."""
        with self._store.database.connection() as connection:
            row = connection.execute("SELECT method, sent FROM challenge WHERE id = %s", (challenge.id,)).fetchone()
        if row is None or row[1] is None:
            return None, 0
        return row[0], max(0, math.ceil((row[1] + COOL_DOWN - now).total_seconds())) if row[0] != "shell" else 0

    def new_code(self, challenge: Challenge, method: Method, now: datetime) -> str:
        """The code that is good from now on in place of any before.

        Raises Outcome `throttled` within the cool-down, `unauthenticated` where the challenge has ended meanwhile.
        """
        with self._store.database.connection() as connection, connection.transaction():
            return self.coded(connection, challenge, method, now)

    def coded(self, connection: Connection, challenge: Challenge, method: Method, now: datetime) -> str:
        """`new_code` within a transaction of the caller's."""
        code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
        row = connection.execute("SELECT sent, ended, method FROM challenge WHERE id = %s FOR UPDATE", (challenge.id,)).fetchone()
        if row is None or row[1]:
            raise refused()
        # Whoever has shell access floods nobody.
        if row[0] is not None and "shell" not in (method, row[2]) and now < row[0] + COOL_DOWN:
            raise too_soon(row[0], now)
        connection.execute(
            "UPDATE challenge SET code = %s, method = %s, sent = %s WHERE id = %s", (self._digest(challenge, code), method, now, challenge.id)
        )
        return code

    def use(self, challenge: Challenge, account: Account, code: str, now: datetime, *, totp: str = "") -> str | None:
        """Uses the challenge up by a right code: the way it went (`totp`, `email`, `sms`, `shell`); None for a wrong one, which costs a try.

        A recovery of an account with an authenticator app takes its code too, in `totp`. Of any number of uses at once one succeeds.
        """
        with self._store.database.connection() as connection, connection.transaction():
            row = connection.execute("SELECT code, method, tries, ended, expires FROM challenge WHERE id = %s FOR UPDATE", (challenge.id,)).fetchone()
            if row is None:
                return None
            kept, method, tries, ended, expires = row
            if ended or now >= expires:
                return None
            right = kept is not None and hmac.compare_digest(bytes(kept), self._digest(challenge, code))
            if right and (challenge.purpose != "recovery" or _is_second(connection, account, totp, now)):
                connection.execute("UPDATE challenge SET ended = true, code = NULL WHERE id = %s", (challenge.id,))
                return str(method)
            # An authenticator app proves who signs in; it says nothing of an address, nor may it replace a password.
            if challenge.purpose == "sign-in" and _use_totp(connection, account, account.totp_secret, code, now):
                connection.execute("UPDATE challenge SET ended = true, code = NULL WHERE id = %s", (challenge.id,))
                return "totp"
            connection.execute("UPDATE challenge SET tries = %s, ended = %s WHERE id = %s", (tries + 1, tries + 1 >= TRIES, challenge.id))
        return None

    def pretend(self) -> None:
        """Takes as long as `use` of a wrong code, where there is no challenge: so the time does not tell whether there is one."""
        with self._store.database.connection() as connection, connection.transaction():
            connection.execute("SELECT code, method, tries, ended, expires FROM challenge WHERE id = %s FOR UPDATE", ("",))
            # Something to be made durable, as the count of tries is, that is kept in no table.
            connection.execute("SELECT pg_logical_emit_message(true, '', '')")

    def use_totp(self, account: Account, secret: str | None, code: str, now: datetime) -> bool:
        """Whether the code is one of the secret at this time, and its first use by the account."""
        with self._store.database.connection() as connection:
            return _use_totp(connection, account, secret, code, now)

    def _one(self, condition: str, values: tuple[str | None, ...], now: datetime, connection: Connection | None = None) -> Challenge | None:
        statement = (
            f"SELECT id, account, purpose, target FROM challenge WHERE {condition} AND NOT ended AND expires > %s ORDER BY expires DESC LIMIT 1"  # noqa: S608 - our conditions
        )
        with nullcontext(connection) if connection is not None else self._store.database.connection() as asked:
            row = asked.execute(statement, (*values, now)).fetchone()
        return None if row is None else Challenge(row[0], row[1], row[2], self._vault.open(row[3], f"{row[0]} target"))

    def _digest(self, challenge: Challenge, code: str) -> bytes:
        # The challenge stands for its purpose too: no two have one id.
        return self._vault.digest("code", challenge.account, challenge.id, code)


def _is_second(connection: Connection, account: Account, code: str, now: datetime) -> bool:
    """Whether the code is one of the account's authenticator app, or it has none."""
    # Asked anew: one that was set up meanwhile counts, and one whose secret cannot be opened any more is still one.
    row = connection.execute("SELECT totp_secret IS NULL FROM account WHERE id = %s", (account.id,)).fetchone()
    return (row is not None and row[0]) or _use_totp(connection, account, account.totp_secret, code, now)


def _use_totp(connection: Connection, account: Account, secret: str | None, code: str, now: datetime) -> bool:
    step = totp_step(secret, code, now)
    if step is None:
        return False
    statement = "INSERT INTO totp_use (account, step) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1"
    return connection.execute(statement, (account.id, step)).fetchone() is not None


def totp_step(secret: str | None, code: str, now: datetime) -> int | None:
    """The half minute since 1970 that a code of an authenticator app is of; None for one that is not of about now."""
    if secret is None or len(code) != DIGITS:
        return None
    totp = pyotp.TOTP(secret)
    current = int(now.timestamp()) // _STEP
    found = None
    for step in range(current - _SLIP, current + _SLIP + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode()):
            found = step
    return found


def too_soon(sent: datetime, now: datetime) -> Outcome:
    """What is said of another code within the cool-down."""
    wait = math.ceil((sent + COOL_DOWN - now).total_seconds())
    return Outcome("throttled", "A code was sent a moment ago; wait before the next", headers={"Retry-After": str(wait)})


def refused() -> Outcome:
    """What is said of a challenge or a code that is not good, whatever the reason."""
    return Outcome("unauthenticated", "The code is not right, or its challenge has ended", expression="code", headers={"WWW-Authenticate": "Bearer"})
