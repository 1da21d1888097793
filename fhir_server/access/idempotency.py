"""Requests that are done once however often they are sent: the answer is kept with the effect, in one transaction, and given again.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from .vault import Vault

KEPT: Final = timedelta(days=1)
LONGEST: Final = 255
"""Characters of a key."""


def check_key(key: str) -> str:
    """The key. Raises Outcome `parameter` for one that is empty, too long, or not printable ASCII."""
    if not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
        raise Outcome("parameter", f"An Idempotency-Key has 1 to {LONGEST} printable characters of ASCII")
    return key


class Idempotency:
    """What was answered within a day, in one database. Answers are sealed, for they may hold what is shown once."""

    def __init__(self, vault: Vault) -> None:
        """`vault` seals the answers, and makes digests of keys and requests."""
        self._vault = vault

    def once(self, connection: Connection, caller: str, key: str, request: str, work: Callable[[], str], now: datetime) -> tuple[str, bool]:
        """The text that `work` gives, or gave when the same `caller` used the same `key` within a day, and whether it was given before.

        `request` is all that the answer depends on. To be called in a transaction that `work` writes in too: of two at once the second waits for the
        first, and whoever raises keeps nothing. Raises Outcome `business-rule` for a key that another request was made with.
        """
        if self.begin(connection, caller, key, request, now):
            text = work()
            self.keep(connection, caller, key, text)
            return text, False
        found = self.given(connection, caller, key, request, now)
        if found is None:
            raise _under_way()
        return found, True

    def begin(self, connection: Connection, caller: str, key: str, request: str, now: datetime) -> bool:
        """Takes a key in the caller's transaction, which waits for another that has it; whether it was still to be had."""
        name, asked = self._names(caller, key, request)
        connection.execute("DELETE FROM idempotency WHERE key = %s AND at < %s", (name, now - KEPT))
        taken = "INSERT INTO idempotency (key, request, at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING 1"
        return connection.execute(taken, (name, asked, now)).fetchone() is not None

    def keep(self, connection: Connection, caller: str, key: str, text: str) -> None:
        """Keeps the answer under a key that was taken in the same transaction."""
        name, _ = self._names(caller, key, "")
        connection.execute("UPDATE idempotency SET answer = %s WHERE key = %s", (self._vault.seal(text, name.hex()), name))

    def given(self, connection: Connection, caller: str, key: str, request: str, now: datetime) -> str | None:
        """The answer that was given under a key within a day; None where there was none.

        Raises Outcome `business-rule` for a key that another request was made with, `conflict` where the same is under way.
        """
        name, asked = self._names(caller, key, request)
        row = connection.execute("SELECT request, answer FROM idempotency WHERE key = %s AND at >= %s", (name, now - KEPT)).fetchone()
        if row is None:
            return None
        kept = self._vault.open(row[1], name.hex())
        if kept is None:
            raise _under_way()
        if not hmac.compare_digest(bytes(row[0]), asked):
            raise Outcome("business-rule", "This Idempotency-Key was used for another request; take a new one")
        return kept

    def _names(self, caller: str, key: str, request: str) -> tuple[bytes, bytes]:
        return self._vault.digest("idempotency key", caller, key), self._vault.digest("idempotent request", request)


def _under_way() -> Outcome:
    return Outcome("conflict", "The same request is under way; try again", headers={"Retry-After": "1"})
