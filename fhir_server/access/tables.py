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


def _client() -> Column[str]:
    return Column("client", Text(collation="C"), ForeignKey("client.id"), nullable=False)


def _texts(name: str) -> Column[Any]:
    return Column(name, ARRAY(Text(collation="C")), nullable=False)


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
    _texts("roles"),
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
    # Which messages its owner wants besides codes and warnings.
    _flag("notify_email", "true"),
    _flag("notify_sms"),
    CheckConstraint("state IN ('invited', 'active', 'locked', 'disabled')", name="account_state"),
    Index("account_patient", "patient", postgresql_where=text("patient IS NOT NULL")),
)
"""Accounts are never deleted: what they did refers to them."""

message_refusal: Final = Table(
    "message_refusal",
    metadata,
    _text("patient", primary_key=True),
    _text("channel", primary_key=True),
    _moment("at"),
)
"""Who has stopped messages by the link in one of them; whoever has an account decides there."""

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

client: Final = Table(
    "client",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _text("auth_method"),
    Column("secret", BYTEA),
    _texts("redirect_uris"),
    # From where its scripts may call, as `https://app.example.org`.
    _texts("origins"),
    _text("launch_uri", nullable=True),
    _texts("grant_types"),
    _text("scope"),
    _text("jwks", nullable=True),
    _text("jwks_uri", nullable=True),
    _moment("created"),
    # The login of an admin, or how it came to be registered.
    _text("created_by"),
    _moment("disabled", nullable=True),
    CheckConstraint("auth_method IN ('none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt')", name="client_auth_method"),
    Index("client_origins", "origins", postgresql_using="gin"),
)
"""Apps and backend services. They are never deleted: what they did refers to them."""

session: Final = Table(
    "session",
    metadata,
    _text("id", primary_key=True),
    # None where a backend service acts for itself.
    Column("account", Text(collation="C"), ForeignKey("account.id")),
    # The app that holds the session's tokens, None where people sign in themselves; what it was let in to; the session that it ends with.
    Column("client", Text(collation="C"), ForeignKey("client.id")),
    _text("scope", nullable=True),
    _text("patient", nullable=True),
    _text("encounter", nullable=True),
    Column("parent", Text(collation="C"), ForeignKey("session.id", ondelete="CASCADE")),
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
    Index("session_client", "client", "created"),
    Index("session_parent", "parent"),
    Index("session_open", "created", "id", postgresql_where=text("ended IS NULL")),
)

refresh_token: Final = Table(
    "refresh_token",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    Column("session", Text(collation="C"), ForeignKey("session.id", ondelete="CASCADE"), nullable=False),
    _flag("used"),
    Index("refresh_token_session", "session"),
)

app_request: Final = Table(
    "app_request",
    metadata,
    _text("id", primary_key=True),
    _client(),
    _account(),
    # The session of the browser that asks.
    Column("browser", Text(collation="C"), ForeignKey("session.id", ondelete="CASCADE"), nullable=False),
    _text("redirect_uri"),
    _text("scope"),
    _text("state", nullable=True),
    _text("nonce", nullable=True),
    _text("challenge"),
    _text("patient", nullable=True),
    _text("encounter", nullable=True),
    _text("address"),
    _moment("expires"),
    # What was left of the scopes, and the code for it, once the person has let the app in; and the session that the code has opened.
    _text("granted", nullable=True),
    Column("code", BYTEA, unique=True),
    _text("session", nullable=True),
    Index("app_request_browser", "browser"),
    Index("app_request_expires", "expires"),
)
"""What apps ask people for, from the first page to the use of the code."""

app_consent: Final = Table(
    "app_consent",
    metadata,
    Column("account", Text(collation="C"), ForeignKey("account.id"), primary_key=True),
    Column("client", Text(collation="C"), ForeignKey("client.id"), primary_key=True),
    _text("scope"),
    _moment("given"),
)
"""The last decision of a person on an app."""

launch: Final = Table(
    "launch",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    Column("client", Text(collation="C"), ForeignKey("client.id")),
    _account(),
    _text("patient"),
    _text("encounter", nullable=True),
    _moment("expires"),
    Index("launch_expires", "expires"),
)
"""Patients for whom an app was opened from within the clinic; each row is taken by the app that it was made for."""

signing_key: Final = Table(
    "signing_key",
    metadata,
    _text("id", primary_key=True),
    Column("private", BYTEA, nullable=False),
    _text("public"),
    _moment("created"),
)
"""Keys that ID tokens are signed with; the newest signs."""

assertion_use: Final = Table(
    "assertion_use",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    _moment("expires"),
    Index("assertion_use_expires", "expires"),
)
"""Signed statements by which clients have shown who they are; each is good once."""

initial_token: Final = Table(
    "initial_token",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    _text("created_by"),
    _moment("expires"),
)
"""Tokens that an admin has handed out, each for the registration of one app."""

policy: Final = Table(
    "policy",
    metadata,
    _text("name", primary_key=True),
    _text("value"),
)
"""What an admin decides while the server runs, where it is not the default."""

idempotency: Final = Table(
    "idempotency",
    metadata,
    # A digest of the caller and of the key that they gave.
    Column("key", BYTEA, primary_key=True),
    Column("request", BYTEA, nullable=False),
    _sealed("answer"),
    _moment("at"),
    Index("idempotency_at", "at"),
)
"""What was answered to a request that may be sent again; see `idempotency`."""

__all__ = [
    "account",
    "app_consent",
    "app_request",
    "assertion_use",
    "attempt",
    "challenge",
    "client",
    "idempotency",
    "initial_token",
    "launch",
    "message_refusal",
    "policy",
    "refresh_token",
    "session",
    "signing_key",
    "totp_use",
]
