"""Sessions: what a sign-in opens and a sign-out, a revocation or time ends, for every process at once.

https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html, https://www.rfc-editor.org/rfc/rfc9700#section-4.14
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from .accounts import Account

TOKEN_TTL: Final = 600
"""Seconds that an access token is good."""

# Hours without a refresh, and in all; of several roles the shortest counts.
_LIMITS: Final[dict[str, tuple[float, float]]] = {"admin": (0.5, 10), "doctor": (1, 12), "staff": (1, 12), "patient": (2, 24)}
_MOST: Final = 20  # Sessions of one account; the oldest ends when another begins.
ALIVE: Final = (
    "SELECT 1 FROM session s LEFT JOIN session p ON p.id = s.parent WHERE s.id = %(id)s AND s.ended IS NULL AND s.expires > to_timestamp(%(now)s)"
    " AND (s.parent IS NULL OR (p.ended IS NULL AND p.expires > to_timestamp(%(now)s)))"
)
"""A row where the session `id` is open at `now`: an app's is over with that of the browser it was let in with, where it is tied to one."""
_LONGEST_AGENT: Final = 200
_SLIDES: Final = timedelta(minutes=1)
_OPEN: Final = "s.ended IS NULL AND s.idle_at > %s AND s.expires > %s"
_OF_ROLE: Final = "s.account IN (SELECT id FROM account WHERE %s = ANY(roles))"
_SHOWN: Final = """
SELECT s.id, s.account, a.login, s.client, s.created, s.last_seen, s.expires, s.address, s.agent
FROM session s LEFT JOIN account a ON a.id = s.account
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as its owner is shown it."""

    id: str
    created: datetime
    last_seen: datetime
    address: str
    agent: str


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session as an administrator is shown it. One of a backend service has no account, one of a person's own sign-in no client."""

    id: str
    account: str | None
    login: str | None
    client: str | None
    created: datetime
    last_seen: datetime
    expires: datetime
    address: str
    agent: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A session's id, the account it belongs to, its one refresh token, and the seconds that an access token may last now."""

    id: str
    account: str
    refresh_token: str = field(repr=False)
    ttl: int


def is_alive(store: Store, session: str, now: float) -> bool:
    """Whether a session is open at `now` (seconds since 1970), as committed at this moment. One prepared statement on the primary key."""
    with store.database.connection() as connection:
        return connection.execute(ALIVE, {"id": session, "now": now}).fetchone() is not None


def open_sessions(
    connection: Connection,
    now: datetime,
    *,
    account: str | None = None,
    client: str | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[OpenSession]:
    """So many open sessions, of an account, an app or all, the newest first, after the one begun then and of this id."""
    conditions: list[str] = [_OPEN]
    values: list[Any] = [now, now]
    for condition, value in (("s.account = %s", account), ("s.client = %s", client)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if after is not None:
        conditions.append("(s.created, s.id) < (%s, %s)")
        values += after
    statement = f"{_SHOWN} WHERE {' AND '.join(conditions)} ORDER BY s.created DESC, s.id DESC LIMIT %s"
    return [OpenSession(*row) for row in connection.execute(statement, [*values, limit]).fetchall()]


def open_session(connection: Connection, now: datetime, session: str) -> OpenSession | None:
    """The session of an id, where it is open."""
    row = connection.execute(f"{_SHOWN} WHERE {_OPEN} AND s.id = %s", (now, now, session)).fetchone()
    return None if row is None else OpenSession(*row)


def count_open(connection: Connection, now: datetime) -> int:
    """How many sessions are open."""
    ((count,),) = connection.execute(f"SELECT count(*) FROM session s WHERE {_OPEN}", (now, now)).fetchall()  # noqa: S608 - our condition
    return int(count)


def revoke(
    connection: Connection,
    now: datetime,
    *,
    session: str | None = None,
    account: str | None = None,
    role: str | None = None,
    client: str | None = None,
) -> int:
    """Ends a session, those of an account, of all accounts with a role, of an app, or all there are; how many were open.

    One statement: 1,000 sessions take 140 ms, with the event that each leaves in the audit trail.
    """
    conditions: list[str] = [_OPEN]
    values: list[Any] = [now, "revoked", now, now]
    for condition, value in (("s.id = %s", session), ("s.account = %s", account), (_OF_ROLE, role), ("s.client = %s", client)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    statement = f"UPDATE session s SET ended = %s, reason = %s WHERE {' AND '.join(conditions)}"  # noqa: S608 - our conditions
    return connection.execute(statement, values).rowcount


class Sessions:
    """The sessions of one database."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """Works on the store's database; `vault` opens what is sealed there."""
        self._store = store
        self._vault = vault

    def begin(self, account: Account, address: str, agent: str, now: datetime) -> Opened:
        """Opens a session. Raises Outcome `unauthenticated` where the account is not what it was when it was read."""
        token = _new_token()
        with self._store.database.connection() as connection, connection.transaction():
            identity, ends = _begin(connection, account, address, agent, now)
            connection.execute("INSERT INTO refresh_token (hash, session) VALUES (%s, %s)", (self._hash(token), identity))
        return Opened(identity, account.id, token, _ttl(ends, now))

    def begin_in_browser(self, account: Account, address: str, agent: str, now: datetime) -> str:
        """Opens a session that has no tokens: the secret by which `of_browser` knows it. Raises as `begin`."""
        secret = _new_token()
        with self._store.database.connection() as connection, connection.transaction():
            identity, _ = _begin(connection, account, address, agent, now)
            connection.execute("UPDATE session SET browser = %s WHERE id = %s", (self._browser_hash(secret), identity))
        return secret

    def of_browser(self, secret: str, now: datetime) -> tuple[str, str] | None:
        """The ids of the session that a browser's secret is of, and of its account; None where it has ended.

        The idle limit begins anew with each use: written once a minute at the most, since a write costs more than the question.
        """
        with self._store.database.connection() as connection:
            row = connection.execute(
                "SELECT s.id, s.account, s.last_seen, s.expires, a.roles FROM session s JOIN account a ON a.id = s.account"
                " WHERE s.browser = %s AND s.ended IS NULL AND s.idle_at > %s AND s.expires > %s",
                (self._browser_hash(secret), now, now),
            ).fetchone()
            if row is None:
                return None
            identity, account, last_seen, ends, roles = row
            if now >= last_seen + _SLIDES:
                idle = min(now + _limits(roles)[0], ends)
                connection.execute("UPDATE session SET last_seen = %s, idle_at = %s WHERE id = %s AND ended IS NULL", (now, idle, identity))
        return str(identity), str(account)

    def refresh(self, token: str, now: datetime) -> Opened:
        """The session goes on under a new refresh token; the one given is used up.

        Raises Outcome `unauthenticated` for a token that is none, or whose session has ended. One that was used before ends its session: either its
        owner or a thief holds a copy, and nobody can tell which.
        """
        kept = self._hash(token)
        fresh = _new_token()
        with self._store.database.connection() as connection, connection.transaction():
            row = connection.execute(
                "SELECT s.id, s.account, s.ended, s.idle_at, s.expires, a.state, a.roles FROM refresh_token t JOIN session s ON s.id = t.session"
                " JOIN account a ON a.id = s.account WHERE t.hash = %s FOR UPDATE OF s",
                (kept,),
            ).fetchone()
            opened = None
            if row is not None and row[2] is None:
                identity, account, _, idle_at, ends, state, roles = row
                # Read anew: another refresh may have used it while this one waited for the session.
                taken = connection.execute("UPDATE refresh_token SET used = true WHERE hash = %s AND NOT used RETURNING 1", (kept,)).fetchone()
                if taken is None:
                    connection.execute("UPDATE session SET ended = %s, reason = 'reused token' WHERE id = %s", (now, identity))
                elif now >= min(idle_at, ends) or state != "active":
                    reason = "absolute limit" if now >= ends else "idle" if now >= idle_at else state
                    connection.execute("UPDATE session SET ended = %s, reason = %s WHERE id = %s", (now, reason, identity))
                else:
                    connection.execute("INSERT INTO refresh_token (hash, session) VALUES (%s, %s)", (self._hash(fresh), identity))
                    idle = min(now + _limits(roles)[0], ends)
                    connection.execute("UPDATE session SET last_seen = %s, idle_at = %s WHERE id = %s", (now, idle, identity))
                    opened = Opened(identity, account, fresh, _ttl(ends, now))
        # After the commit, which an exception inside would have undone.
        if opened is None:
            raise Outcome("unauthenticated", "The refresh token is used up, or its session has ended; sign in again", headers=_CHALLENGE)
        return opened

    def of(self, account: str, now: datetime) -> list[Session]:
        """The open sessions of an account, newest first."""
        with self._store.database.connection() as connection:
            rows = connection.execute(
                "SELECT id, created, last_seen, address, agent FROM session"
                " WHERE account = %s AND ended IS NULL AND idle_at > %s AND (parent IS NULL OR EXISTS"
                " (SELECT FROM session p WHERE p.id = session.parent AND p.ended IS NULL AND p.expires > %s)) ORDER BY created DESC, id",
                (account, now, now),
            ).fetchall()
        return [Session(*row) for row in rows]

    def owner(self, session: str) -> str | None:
        """The id of the account that a session belongs to."""
        with self._store.database.connection() as connection:
            row = connection.execute("SELECT account FROM session WHERE id = %s", (session,)).fetchone()
        return None if row is None else str(row[0])

    def end(self, session: str, account: str, reason: str, now: datetime) -> bool:
        """Ends one session of an account; False where it has no such session that is open."""
        with self._store.database.connection() as connection:
            statement = "UPDATE session SET ended = %s, reason = %s WHERE id = %s AND account = %s AND ended IS NULL RETURNING 1"
            return connection.execute(statement, (now, reason, session, account)).fetchone() is not None

    def is_known(self, account: str | None, address: str, since: datetime) -> bool:
        """Whether the account has been signed in to from an address lately."""
        with self._store.database.connection() as connection:
            statement = "SELECT 1 FROM session WHERE account = %s AND client IS NULL AND created > %s AND address = %s LIMIT 1"
            return connection.execute(statement, (account, since, address)).fetchone() is not None

    def _hash(self, token: str) -> bytes:
        return self._vault.digest("refresh token", token)

    def _browser_hash(self, secret: str) -> bytes:
        # Of its own kind: a refresh token, which is good once, is no secret of a browser, which is good for as long as the session.
        return self._vault.digest("browser", secret)


_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


def _begin(connection: Connection, account: Account, address: str, agent: str, now: datetime) -> tuple[str, datetime]:
    """The id of a new session, and when it ends in any case."""
    identity = secrets.token_urlsafe(16)
    idle, absolute = _limits(account.roles)
    ends = now + absolute
    # Locked, so that a change of password, roles or state either is seen here or finds this session to end.
    row = connection.execute("SELECT state, password_hash, roles FROM account WHERE id = %s FOR UPDATE", (account.id,)).fetchone()
    if row is None or row[0] != "active" or row[1] != account.password_hash or tuple(row[2]) != account.roles:
        raise Outcome("unauthenticated", "The account has changed; sign in again", headers=_CHALLENGE)
    connection.execute(
        "INSERT INTO session (id, account, created, last_seen, idle_at, expires, address, agent) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (identity, account.id, now, now, min(now + idle, ends), ends, address, _shown(agent)),
    )
    connection.execute(
        "UPDATE session SET ended = %s, reason = 'too many' WHERE id IN"
        " (SELECT id FROM session WHERE account = %s AND client IS NULL AND ended IS NULL AND idle_at > %s ORDER BY created DESC, id OFFSET %s)",
        (now, account.id, now, _MOST),
    )
    return identity, ends


def _limits(roles: Sequence[str]) -> tuple[timedelta, timedelta]:
    found: list[Any] = [_LIMITS[role] for role in roles]
    return timedelta(hours=min(idle for idle, _ in found)), timedelta(hours=min(absolute for _, absolute in found))


def _ttl(ends: datetime, now: datetime) -> int:
    return max(1, min(TOKEN_TTL, int((ends - now).total_seconds())))


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _shown(agent: str) -> str:
    return "".join(each if each.isprintable() else " " for each in agent[:_LONGEST_AGENT])
