"""The tables of accounts and sign-in, in the MetaData that the migrations must equal.

Nothing here is FHIR data. What would open an account is kept as a hash, what would tell about a person is encrypted; see `vault`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, SmallInteger, Table, text
from sqlalchemy.dialects.postgresql import BYTEA

from fhir_server.store.tables import metadata
from fhir_server.store.tables.columns import flag, moment, serial, string, strings


def _account() -> Column[str]:
    return string("account", ForeignKey("account.id"))


def _client() -> Column[str]:
    return string("client", ForeignKey("client.id"))


def _sealed(name: str) -> Column[bytes]:
    return Column(name, BYTEA)


account: Final = Table(
    "account",
    metadata,
    string("id", primary_key=True),
    string("login"),
    string("folded", unique=True),
    string("state"),
    strings("roles"),
    # Ids of resources that this person is.
    string("practitioner", nullable=True),
    string("patient", nullable=True),
    string("related_person", nullable=True),
    _sealed("email"),
    flag("email_proved"),
    _sealed("phone"),
    flag("phone_proved"),
    string("password_hash"),
    flag("password_expired"),
    _sealed("totp_secret"),
    # One that its owner has not confirmed by a code yet.
    _sealed("totp_offered"),
    # What a patient who registers tells of themselves, until the record is made from it.
    _sealed("applicant"),
    flag("demo"),
    moment("created"),
    # Which messages its owner wants besides codes and warnings.
    flag("notify_email", "true"),
    flag("notify_sms"),
    CheckConstraint("state IN ('invited', 'active', 'locked', 'disabled')", name="account_state"),
    Index("account_patient", "patient", postgresql_where=text("patient IS NOT NULL")),
)
"""Accounts are never deleted: what they did refers to them."""

message_refusal: Final = Table(
    "message_refusal",
    metadata,
    string("patient", primary_key=True),
    string("channel", primary_key=True),
    moment("at"),
)
"""Who has stopped messages by the link in one of them; whoever has an account decides there."""

challenge: Final = Table(
    "challenge",
    metadata,
    string("id", primary_key=True),
    _account(),
    string("purpose"),
    moment("expires"),
    Column("tries", SmallInteger, nullable=False, server_default=text("0")),
    flag("ended"),
    # The one code that is good now, and the way it went.
    Column("code", BYTEA),
    string("method", nullable=True),
    moment("sent", nullable=True),
    # The e-mail address or telephone number that the code proves, where it is not the account's yet.
    _sealed("target"),
    Index("challenge_account", "account", "purpose"),
    Index("challenge_expires", "expires"),
)

totp_use: Final = Table(
    "totp_use",
    metadata,
    string("account", ForeignKey("account.id"), primary_key=True),
    # Half minutes since 1970.
    Column("step", BigInteger, primary_key=True, autoincrement=False),
)
"""Each row is a time step whose code an account has used."""

attempt: Final = Table(
    "attempt",
    metadata,
    serial(),
    Column("key", BYTEA, nullable=False),
    moment("at"),
    # Whether it is known to have failed; until then it is under way.
    flag("failed"),
    Index("attempt_key", "key", "at"),
    Index("attempt_at", "at"),
)
"""Tries that failed or are under way, by a digest of what they are counted for."""

client: Final = Table(
    "client",
    metadata,
    string("id", primary_key=True),
    string("name"),
    string("auth_method"),
    Column("secret", BYTEA),
    strings("redirect_uris"),
    # From where its scripts may call, as `https://app.example.org`.
    strings("origins"),
    string("launch_uri", nullable=True),
    strings("grant_types"),
    string("scope"),
    string("jwks", nullable=True),
    string("jwks_uri", nullable=True),
    moment("created"),
    # The login of an admin, or how it came to be registered.
    string("created_by"),
    moment("disabled", nullable=True),
    CheckConstraint("auth_method IN ('none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt')", name="client_auth_method"),
    Index("client_origins", "origins", postgresql_using="gin"),
)
"""Apps and backend services. They are never deleted: what they did refers to them."""

session: Final = Table(
    "session",
    metadata,
    string("id", primary_key=True),
    # None where a backend service acts for itself.
    string("account", ForeignKey("account.id"), nullable=True),
    # The app that holds the session's tokens, None where people sign in themselves; what it was let in to; the session that it ends with.
    string("client", ForeignKey("client.id"), nullable=True),
    string("scope", nullable=True),
    string("patient", nullable=True),
    string("encounter", nullable=True),
    string("parent", ForeignKey("session.id", ondelete="CASCADE"), nullable=True),
    moment("created"),
    moment("last_seen"),
    # Where it ends unless it is refreshed before, and where it ends in any case.
    moment("idle_at"),
    moment("expires"),
    string("address"),
    string("agent"),
    moment("ended", nullable=True),
    string("reason", nullable=True),
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
    string("session", ForeignKey("session.id", ondelete="CASCADE")),
    flag("used"),
    Index("refresh_token_session", "session"),
)

app_request: Final = Table(
    "app_request",
    metadata,
    string("id", primary_key=True),
    _client(),
    _account(),
    # The session of the browser that asks.
    string("browser", ForeignKey("session.id", ondelete="CASCADE")),
    string("redirect_uri"),
    string("scope"),
    string("state", nullable=True),
    string("nonce", nullable=True),
    string("challenge"),
    string("patient", nullable=True),
    string("encounter", nullable=True),
    string("address"),
    moment("expires"),
    # What was left of the scopes, and the code for it, once the person has let the app in; and the session that the code has opened.
    string("granted", nullable=True),
    Column("code", BYTEA, unique=True),
    string("session", nullable=True),
    Index("app_request_browser", "browser"),
    Index("app_request_expires", "expires"),
)
"""What apps ask people for, from the first page to the use of the code."""

app_consent: Final = Table(
    "app_consent",
    metadata,
    string("account", ForeignKey("account.id"), primary_key=True),
    string("client", ForeignKey("client.id"), primary_key=True),
    string("scope"),
    moment("given"),
)
"""The last decision of a person on an app."""

launch: Final = Table(
    "launch",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    string("client", ForeignKey("client.id"), nullable=True),
    _account(),
    string("patient"),
    string("encounter", nullable=True),
    moment("expires"),
    Index("launch_expires", "expires"),
)
"""Patients for whom an app was opened from within the clinic; each row is taken by the app that it was made for."""

signing_key: Final = Table(
    "signing_key",
    metadata,
    string("id", primary_key=True),
    Column("private", BYTEA, nullable=False),
    string("public"),
    moment("created"),
)
"""Keys that ID tokens are signed with; the newest signs."""

assertion_use: Final = Table(
    "assertion_use",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    moment("expires"),
    Index("assertion_use_expires", "expires"),
)
"""Signed statements by which clients have shown who they are; each is good once."""

initial_token: Final = Table(
    "initial_token",
    metadata,
    Column("hash", BYTEA, primary_key=True),
    string("created_by"),
    moment("expires"),
)
"""Tokens that an admin has handed out, each for the registration of one app."""

policy: Final = Table(
    "policy",
    metadata,
    string("name", primary_key=True),
    string("value"),
)
"""What an admin decides while the server runs, where it is not the default."""

idempotency: Final = Table(
    "idempotency",
    metadata,
    # A digest of the caller and of the key that they gave.
    Column("key", BYTEA, primary_key=True),
    Column("request", BYTEA, nullable=False),
    _sealed("answer"),
    moment("at"),
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
