"""The tables of accounts and sign-in, in the MetaData that the migrations must equal.

Nothing here is FHIR data. What would open an account is kept as a hash, what would tell about a person is encrypted; see `vault`.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import TIMESTAMP, BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Identity, Index, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA

from fhir_server.store.tables import metadata


def _text(name: str, *, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable, **options)


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable)


def _account() -> Column[str]:
    return Column("account", Text(collation="C"), ForeignKey("account.id"), nullable=False)


def _flag(name: str, default: str = "false") -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text(default))


def _sealed(name: str) -> Column[bytes]:
    return Column(name, BYTEA)


account: Final = Table(
    "account",
    metadata,
    _text("id", primary_key=True),
    _text("login"),
    _text("folded", unique=True),
    _text("state"),
    Column("roles", ARRAY(Text(collation="C")), nullable=False),
    # Ids of resources that this person is.
    _text("practitioner", nullable=True),
    _text("patient", nullable=True),
    _text("related_person", nullable=True),
    _sealed("email"),
    _flag("email_proved"),
    _sealed("phone"),
    _flag("phone_proved"),
    _text("password_hash"),
    _flag("password_expired"),
    _sealed("totp_secret"),
    # One that its owner has not confirmed by a code yet.
    _sealed("totp_offered"),
    # What a patient who registers tells of themselves, until the record is made from it.
    _sealed("applicant"),
    _flag("demo"),
    _moment("created"),
    CheckConstraint("state IN ('invited', 'active', 'locked', 'disabled')", name="account_state"),
)
"""Accounts are never deleted: what they did refers to them."""

challenge: Final = Table(
    "challenge",
    metadata,
    _text("id", primary_key=True),
    _account(),
    _text("purpose"),
    _moment("expires"),
    Column("tries", SmallInteger, nullable=False, server_default=text("0")),
    _flag("ended"),
    # The one code that is good now, and the way it went.
    Column("code", BYTEA),
    _text("method", nullable=True),
    _moment("sent", nullable=True),
    # The e-mail address or telephone number that the code proves, where it is not the account's yet.
    _sealed("target"),
    Index("challenge_account", "account", "purpose"),
    Index("challenge_expires", "expires"),
)

totp_use: Final = Table(
    "totp_use",
    metadata,
    Column("account", Text(collation="C"), ForeignKey("account.id"), primary_key=True),
    # Half minutes since 1970.
    Column("step", BigInteger, primary_key=True, autoincrement=False),
)
"""Each row is a time step whose code an account has used."""

attempt: Final = Table(
    "attempt",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("key", BYTEA, nullable=False),
    _moment("at"),
    # Whether it is known to have failed; until then it is under way.
    _flag("failed"),
    Index("attempt_key", "key", "at"),
    Index("attempt_at", "at"),
)
"""Tries that failed or are under way, by a digest of what they are counted for."""

session: Final = Table(
    "session",
    metadata,
    _text("id", primary_key=True),
    _account(),
    _moment("created"),
    _moment("last_seen"),
    # Where it ends unless it is refreshed before, and where it ends in any case.
    _moment("idle_at"),
    _moment("expires"),
    _text("address"),
    _text("agent"),
    _moment("ended", nullable=True),
    _text("reason", nullable=True),
    # A digest of the secret in a browser's cookie; sessions of apps have tokens instead.
    Column("browser", BYTEA, unique=True),
    Index("session_account", "account", "created"),
    Index("session_expires", "expires"),
)

refresh_token: Final = Table(
    "refresh_token",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    Column("session", Text(collation="C"), ForeignKey("session.id", ondelete="CASCADE"), nullable=False),
    _flag("used"),
    Index("refresh_token_session", "session"),
)

__all__ = ["account", "attempt", "challenge", "refresh_token", "session", "totp_use"]
