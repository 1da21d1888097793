"""Sessions of apps and backend services: what a code or a client's own word opens, and what ends it for every process at once.

An app's session that does not outlive the browser's names that as its parent, and is over when the parent is; see `access.accounts.sessions`.
https://www.rfc-editor.org/rfc/rfc9700#section-4.14, https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-a-refresh-token
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from .clients import Client
from .requests import AppRequest

TOKEN_LIFE: Final = timedelta(hours=1)
"""How long an access token is good where there is no refresh token for another one."""
REFRESHED_LIFE: Final = timedelta(minutes=15)
"""How long it is good where there is one."""
SERVICE_LIFE: Final = timedelta(minutes=5)
OFFLINE: Final = timedelta(days=90)
OFFLINE_IDLE: Final = timedelta(days=30)

_MOST: Final = 20  # Sessions of one account with one app; the oldest ends when another begins.
_COLUMNS: Final = "id, account, client, scope, patient, encounter, created, expires"


@dataclass(frozen=True, slots=True)
class AppSession:
    """A session of a client; `account` is None where it acts for itself."""

    id: str
    account: str | None
    client: str
    scope: str
    patient: str | None
    encounter: str | None
    created: datetime
    expires: datetime

    @property
    def context(self) -> dict[str, str]:
        """What the app was opened for, as token and answer tell it."""
        return {name: value for name, value in (("patient", self.patient), ("encounter", self.encounter)) if value is not None}


@dataclass(frozen=True, slots=True)
class Opened:
    """A session, its one refresh token where it has one, and the seconds that an access token may last now."""

    session: AppSession
    refresh_token: str | None = field(repr=False)
    ttl: int


class AppSessions:
    """The sessions of clients in one database."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """Works on the store's database; `vault` makes the digests of refresh tokens."""
        self._store = store
        self._vault = vault

    def redeem(self, request: AppRequest, client: Client, now: datetime) -> Opened:
        """Opens a session by the code of an allowed request, which is used up.

        Raises Outcome `unauthenticated` for a code that is too old, or whose person or browser is not signed in any more. One that was used before
        ends what it has opened: somebody holds a copy, and nobody can tell who.
        """
        opened = None
        with self._store.database.connection() as connection, connection.transaction():
            # Locked in the order in which a change of rights locks, so that it is either seen here or finds this session to end.
            account = connection.execute("SELECT state FROM account WHERE id = %s FOR UPDATE", (request.account,)).fetchone()
            enabled = connection.execute("SELECT 1 FROM client WHERE id = %s AND disabled IS NULL FOR SHARE", (client.id,)).fetchone()
            row = connection.execute("SELECT session, expires FROM app_request WHERE id = %s FOR UPDATE", (request.id,)).fetchone()
            parent = self._parent(connection, request.browser, now)
            if row is not None and row[0] is not None:
                self._end(connection, row[0], "reused token", now)
            elif row is not None and now < row[1] and account == ("active",) and enabled is not None and parent is not None:
                opened = self._open(connection, request, client, parent, now)
        # After the commit, which an exception inside would have undone.
        if opened is None:
            raise _void("The code is used up, too old, or its session has ended")
        return opened

    def refresh(self, token: str, client: Client, now: datetime) -> Opened:
        """The session goes on under a new refresh token; the one given is used up.

        Raises Outcome `unauthenticated` for a token that is none of this client's, or whose session has ended; one that was used before ends it.
        """
        opened = None
        with self._store.database.connection() as connection, connection.transaction():
            row = connection.execute(
                "SELECT s.id, s.ended, s.idle_at, s.parent, a.state FROM refresh_token t JOIN session s ON s.id = t.session"
                " JOIN account a ON a.id = s.account WHERE t.hash = %s AND s.client = %s FOR UPDATE OF s",
                (self._hash(token), client.id),
            ).fetchone()
            if row is not None and row[1] is None:
                identity, _, idle_at, parent, state = row
                # Read anew: another refresh may have used it while this one waited for the session.
                statement = "UPDATE refresh_token SET used = true WHERE hash = %s AND NOT used RETURNING 1"
                if connection.execute(statement, (self._hash(token),)).fetchone() is None:
                    self._end(connection, identity, "reused token", now)
                elif now >= idle_at or state != "active" or (parent is not None and self._parent(connection, parent, now) is None):
                    self._end(connection, identity, "idle" if now >= idle_at else "signed out", now)
                else:
                    opened = self._renewed(connection, identity, now)
        if opened is None:
            raise _void("The refresh token is used up, not of this client, or its session has ended")
        return opened

    def begin_service(self, client: Client, scope: str, now: datetime) -> Opened:
        """Opens the session of a backend service, for one access token. Raises Outcome `unauthenticated` where it was disabled meanwhile."""
        with self._store.database.connection() as connection, connection.transaction():
            # Locked, so that whoever disables it either is seen here or finds this session to end.
            if connection.execute("SELECT 1 FROM client WHERE id = %s AND disabled IS NULL FOR SHARE", (client.id,)).fetchone() is None:
                raise _void("The client is disabled")
            row = connection.execute(
                "INSERT INTO session (id, client, scope, created, last_seen, idle_at, expires, address, agent)"  # noqa: S608 - our names
                f" VALUES (%s, %s, %s, %s, %s, %s, %s, '', %s) RETURNING {_COLUMNS}",
                (secrets.token_urlsafe(16), client.id, scope, now, now, now + SERVICE_LIFE, now + SERVICE_LIFE, _shown(client)),
            ).fetchone()
        assert row is not None
        return Opened(AppSession(*row), None, int(SERVICE_LIFE.total_seconds()))

    def get(self, identity: str, now: datetime) -> AppSession | None:
        """A client's session that is open, of an id."""
        return self._one("s.id = %s", identity, now)

    def of_refresh_token(self, token: str, now: datetime) -> AppSession | None:
        """The open session that a refresh token is good for, without using it."""
        clause = "s.id = (SELECT session FROM refresh_token WHERE hash = %s AND NOT used) AND s.idle_at > to_timestamp(%s)"
        return self._one(clause, self._hash(token), now.timestamp(), now)

    def holder(self, token: str) -> str | None:
        """The id of the client that a refresh token was given to, used or not."""
        with self._store.database.connection() as connection:
            statement = "SELECT s.client FROM refresh_token t JOIN session s ON s.id = t.session WHERE t.hash = %s"
            row = connection.execute(statement, (self._hash(token),)).fetchone()
        return None if row is None else row[0]

    def signed_in(self, browser: str) -> datetime | None:
        """When the person has signed in with a browser."""
        with self._store.database.connection() as connection:
            row = connection.execute("SELECT created FROM session WHERE id = %s", (browser,)).fetchone()
        return None if row is None else row[0]

    def end(self, identity: str, reason: str, now: datetime) -> None:
        """Ends a session; its tokens fail from the commit on."""
        with self._store.database.connection() as connection:
            self._end(connection, identity, reason, now)

    def _one(self, clause: str, *values: object) -> AppSession | None:
        *given, now = values
        columns = ", ".join(f"s.{name}" for name in _COLUMNS.split(", "))
        with self._store.database.connection() as connection:
            row = connection.execute(
                f"SELECT {columns} FROM session s LEFT JOIN session p ON p.id = s.parent WHERE {clause} AND s.client IS NOT NULL"  # noqa: S608 - our names
                " AND s.ended IS NULL AND s.expires > %s AND (s.parent IS NULL OR (p.ended IS NULL AND p.expires > %s))",
                (*given, now, now),
            ).fetchone()
        return None if row is None else AppSession(*row)

    def _open(self, connection: Connection, request: AppRequest, client: Client, parent: datetime, now: datetime) -> Opened:
        scope = request.granted or ""
        words = scope.split()
        refreshed = "refresh_token" in client.grant_types and ("offline_access" in words or "online_access" in words)
        offline = refreshed and "offline_access" in words
        expires = now + OFFLINE if offline else parent if refreshed else min(parent, now + TOKEN_LIFE)
        identity = secrets.token_urlsafe(16)
        row = connection.execute(
            "INSERT INTO session (id, account, client, scope, patient, encounter, parent, created, last_seen, idle_at, expires, address, agent)"  # noqa: S608 - our names
            f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}",
            (
                identity,
                request.account,
                client.id,
                scope,
                request.patient,
                request.encounter,
                None if offline else request.browser,
                now,
                now,
                now + OFFLINE_IDLE if offline else expires,
                expires,
                request.address,
                _shown(client),
            ),
        ).fetchone()
        assert row is not None
        connection.execute("UPDATE app_request SET session = %s WHERE id = %s", (identity, request.id))
        connection.execute(
            "UPDATE session SET ended = %s, reason = 'too many' WHERE id IN"
            " (SELECT id FROM session WHERE client = %s AND account = %s AND ended IS NULL ORDER BY created DESC, id OFFSET %s)",
            (now, client.id, request.account, _MOST),
        )
        token = self._new_token(connection, identity) if refreshed else None
        return _opened(AppSession(*row), token, now)

    def _renewed(self, connection: Connection, identity: str, now: datetime) -> Opened:
        statement = (
            "UPDATE session SET last_seen = %s, idle_at = CASE WHEN parent IS NULL THEN least(expires, %s) ELSE expires END"  # noqa: S608 - our names
            f" WHERE id = %s RETURNING {_COLUMNS}"
        )
        row = connection.execute(statement, (now, now + OFFLINE_IDLE, identity)).fetchone()
        assert row is not None
        return _opened(AppSession(*row), self._new_token(connection, identity), now)

    def _new_token(self, connection: Connection, identity: str) -> str:
        token = secrets.token_urlsafe(32)
        connection.execute("INSERT INTO refresh_token (hash, session) VALUES (%s, %s)", (self._hash(token), identity))
        return token

    def _hash(self, token: str) -> bytes:
        # Of another kind than those of people's own sessions: neither is good in the place of the other.
        return self._vault.digest("refresh token of an app", token)

    @staticmethod
    def _parent(connection: Connection, identity: str, now: datetime) -> datetime | None:
        """When the browser's session ends in any case; None where it has ended, or nobody has used it for too long."""
        statement = "SELECT expires FROM session WHERE id = %s AND ended IS NULL AND idle_at > %s AND expires > %s"
        row = connection.execute(statement, (identity, now, now)).fetchone()
        return None if row is None else row[0]

    @staticmethod
    def _end(connection: Connection, identity: str, reason: str, now: datetime) -> None:
        connection.execute("UPDATE session SET ended = %s, reason = %s WHERE id = %s AND ended IS NULL", (now, reason, identity))


def _opened(session: AppSession, refresh_token: str | None, now: datetime) -> Opened:
    life = REFRESHED_LIFE if refresh_token is not None else TOKEN_LIFE
    return Opened(session, refresh_token, max(1, int(min(life, session.expires - now).total_seconds())))


def _void(reason: str) -> Outcome:
    return Outcome("unauthenticated", reason)


def _shown(client: Client) -> str:
    """What a person's sessions call it: with a prefix, since an app may be named like a browser."""
    return f"App: {client.name}"
