"""Passwords: Argon2id hashes, and what a password has to be.

https://www.rfc-editor.org/rfc/rfc9106, https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
"""

from __future__ import annotations

import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fhir_server.outcome import Outcome

SHORTEST: Final = 8
LONGEST: Final = 256
"""Characters. There are no other rules: what people are made to put into passwords makes them no harder to guess."""

# 19 MiB, two passes, one lane: 25 ms here. Three requests at a time make 57 MiB a process.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODYS: Final = _HASHER.hash(secrets.token_urlsafe(16))


def hashed(password: str) -> str:
    """The hash to keep, salt and parameters in it."""
    return _HASHER.hash(password.encode())


def matches(password: str, kept: str | None) -> bool:
    """Whether the password is the one of the hash. Without a hash it takes the same time and is False."""
    try:
        _HASHER.verify(_NOBODYS if kept is None else kept, password.encode())
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


def is_dated(kept: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(kept)


def check(password: str, login: str) -> None:
    """Raises Outcome `invalid` for a password that is too short, too long, or the login again."""
    if len(password) < SHORTEST:
        raise Outcome("invalid", f"A password has {SHORTEST} characters at the least", expression="password")
    if len(password) > LONGEST:
        raise Outcome("invalid", f"A password has {LONGEST} characters at the most", expression="password")
    if password.casefold() == login.casefold() or len(set(password)) == 1:
        raise Outcome("invalid", "A password is neither the login nor one character repeated", expression="password")


def random_password() -> str:
    """One that nobody guesses and that can be typed: 80 bits."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(4)) for _ in range(4))
