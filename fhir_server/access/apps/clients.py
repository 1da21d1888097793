"""Clients: the apps and backend services that may ask for tokens here. A client is disabled, never deleted: what it did refers to it.

https://www.rfc-editor.org/rfc/rfc7591#section-2, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#register-app-with-ehr
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.access import audit
from fhir_server.access.audit import Event
from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from .registration import NewClient, check

INITIAL_TOKEN_LIFE: Final = timedelta(days=7)

_COLUMNS: Final = "id, name, auth_method, redirect_uris, origins, launch_uri, grant_types, scope, jwks, jwks_uri, created, created_by, disabled"


@dataclass(frozen=True, slots=True)
class Client:
    """A client as it stood when it was read. `scope` is the most that it can be given; `created_by` an admin's login or `open registration`."""

    id: str
    name: str
    auth_method: str
    redirect_uris: tuple[str, ...]
    origins: tuple[str, ...]
    launch_uri: str | None
    grant_types: tuple[str, ...]
    scope: str
    jwks: str | None
    jwks_uri: str | None
    created: datetime
    created_by: str
    disabled: datetime | None

    @property
    def confidential(self) -> bool:
        """Whether it can show that it is itself."""
        return self.auth_method != "none"


class Clients:
    """The clients of one database. Each change leaves its event in the audit trail; `by` is the login of whoever makes it.

    A change is made in a transaction of its own, or in that of the caller whose `connection` is given.
    """

    def __init__(self, store: Store, vault: Vault) -> None:
        """Works on the store's database; `vault` makes the digests of initial tokens."""
        self._store = store
        self._vault = vault

    def add(self, new: NewClient, created_by: str, now: datetime, connection: Connection | None = None) -> tuple[Client, str | None]:
        """The client that was made, and its secret where it authenticates by one: that is shown here and never again. `created_by` is a login.

        Raises Outcome `invalid` for what cannot be; see `registration.check`.
        """
        check(new)
        identity = secrets.token_urlsafe(16)
        secret = secrets.token_urlsafe(32) if new.auth_method.startswith("client_secret") else None
        values = {
            **_values(new),
            "id": identity,
            "created": now,
            "created_by": created_by,
            "secret": _digest(identity, secret) if secret is not None else None,
        }
        names = ", ".join(values)
        marks = ", ".join(f"%({name})s" for name in values)
        with self._within(connection) as inside:
            statement = f"INSERT INTO client ({names}) VALUES ({marks}) RETURNING {_COLUMNS}"  # noqa: S608 - our names
            row = inside.execute(statement, values).fetchone()
            audit.record(inside, _event(identity, created_by, f"registered: {new.name}"))
        assert row is not None
        return _client(row), secret

    def get(self, identity: str) -> Client | None:
        """The client of an id, disabled or not."""
        with self._store.database.connection() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM client WHERE id = %s", (identity,)).fetchone()  # noqa: S608 - our names
        return None if row is None else _client(row)

    def page(self, connection: Connection, after: tuple[datetime, str] | None, limit: int) -> list[Client]:
        """So many clients, newest first, after the one of this time and id."""
        older = "WHERE (created, id) < (%s, %s)" if after is not None else ""
        statement = f"SELECT {_COLUMNS} FROM client {older} ORDER BY created DESC, id DESC LIMIT %s"  # noqa: S608 - our names
        return [_client(row) for row in connection.execute(statement, (*(after or ()), limit)).fetchall()]

    def locked(self, connection: Connection, identity: str) -> Client | None:
        """The client of an id, which nobody else changes until the caller's transaction ends."""
        row = connection.execute(f"SELECT {_COLUMNS} FROM client WHERE id = %s FOR UPDATE", (identity,)).fetchone()  # noqa: S608 - our names
        return None if row is None else _client(row)

    def all(self) -> list[Client]:
        """Every client, newest first. For clinics: hundreds."""
        with self._store.database.connection() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM client ORDER BY created DESC, id").fetchall()  # noqa: S608 - our names
        return [_client(row) for row in rows]

    def launchable(self) -> list[Client]:
        """The enabled clients that can be opened from within the clinic, by name."""
        return sorted((each for each in self.all() if each.launch_uri and each.disabled is None), key=lambda each: (each.name, each.id))

    def change(self, identity: str, new: NewClient, by: str, now: datetime, connection: Connection | None = None) -> Client | None:
        """The client after a change of everything but its secret; None where there is none. What it has been let in to ends.

        The way in which it authenticates stays what it was. Raises Outcome `invalid` for what cannot be.
        """
        check(new)
        values = _values(new)
        assigned = ", ".join(f"{name} = %({name})s" for name in values)
        with self._within(connection) as inside:
            old = inside.execute("SELECT auth_method FROM client WHERE id = %s FOR UPDATE", (identity,)).fetchone()
            if old is None:
                return None
            if old[0] != new.auth_method:
                raise Outcome("invalid", "The way in which a client authenticates is not changed; register another one")
            statement = f"UPDATE client SET {assigned} WHERE id = %(id)s RETURNING {_COLUMNS}"  # noqa: S608 - our names
            row = inside.execute(statement, {**values, "id": identity}).fetchone()
            _end_sessions(inside, identity, "app changed", by, now)
            audit.record(inside, _event(identity, by, "changed"))
        assert row is not None
        return _client(row)

    def disable(self, identity: str, by: str, now: datetime, connection: Connection | None = None) -> bool:
        """Shuts a client out, and ends what it has been let in to with the same commit; False where there is none that is enabled."""
        with self._within(connection) as inside:
            statement = "UPDATE client SET disabled = %s WHERE id = %s AND disabled IS NULL RETURNING 1"
            found = inside.execute(statement, (now, identity)).fetchone() is not None
            if found:
                _end_sessions(inside, identity, "app disabled", by, now)
                audit.record(inside, _event(identity, by, "disabled"))
        return found

    def enable(self, identity: str, by: str, connection: Connection | None = None) -> bool:
        """Lets a client ask again; False where there is none that is disabled."""
        with self._within(connection) as inside:
            statement = "UPDATE client SET disabled = NULL WHERE id = %s AND disabled IS NOT NULL RETURNING 1"
            found = inside.execute(statement, (identity,)).fetchone() is not None
            if found:
                audit.record(inside, _event(identity, by, "enabled"))
        return found

    def rotate_secret(self, identity: str, by: str, connection: Connection | None = None) -> str | None:
        """Another secret, the old one is void; None for a client that has none."""
        secret = secrets.token_urlsafe(32)
        with self._within(connection) as inside:
            statement = "UPDATE client SET secret = %s WHERE id = %s AND secret IS NOT NULL RETURNING 1"
            found = inside.execute(statement, (_digest(identity, secret), identity)).fetchone()
            if found is not None:
                audit.record(inside, _event(identity, by, "given another secret"))
        return secret if found is not None else None

    def is_secret(self, identity: str, secret: str) -> bool:
        """Whether a secret is that of a client; takes the same time where there is no such client."""
        with self._store.database.connection() as connection:
            row = connection.execute("SELECT secret FROM client WHERE id = %s", (identity,)).fetchone()
        kept = bytes(row[0]) if row is not None and row[0] is not None else bytes(32)
        return hmac.compare_digest(kept, _digest(identity, secret))

    def is_origin(self, origin: str) -> bool:
        """Whether scripts of an origin are those of an enabled client. One index lookup."""
        with self._store.database.connection() as connection:
            statement = "SELECT 1 FROM client WHERE origins @> ARRAY[%s] AND disabled IS NULL LIMIT 1"
            return connection.execute(statement, (origin,)).fetchone() is not None

    def new_initial_token(self, created_by: str, now: datetime, connection: Connection | None = None) -> str:
        """A token that is good for one registration within a week, for an admin to hand out."""
        token = secrets.token_urlsafe(32)
        with self._within(connection) as inside:
            inside.execute("DELETE FROM initial_token WHERE expires < %s", (now,))
            statement = "INSERT INTO initial_token (hash, created_by, expires) VALUES (%s, %s, %s)"
            inside.execute(statement, (self._vault.digest("initial token", token), created_by, now + INITIAL_TOKEN_LIFE))
            audit.record(inside, Event("policy-change", created_by, type="policy", resource="registration", detail="a token for one registration"))
        return token

    def use_initial_token(self, token: str, now: datetime) -> str | None:
        """Uses an initial token up; the login of the admin who made it, None where it is none or was used."""
        with self._store.database.connection() as connection:
            statement = "DELETE FROM initial_token WHERE hash = %s AND expires > %s RETURNING created_by"
            row = connection.execute(statement, (self._vault.digest("initial token", token), now)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _within(self, connection: Connection | None) -> Iterator[Connection]:
        if connection is not None:
            yield connection
        else:
            with self._store.database.connection() as own, own.transaction():
                yield own


def key_set(client: Client) -> list[dict[str, Any]]:
    """The public keys that were registered with a client."""
    found: list[dict[str, Any]] = json.loads(client.jwks)["keys"] if client.jwks is not None else []
    return found


def _digest(identity: str, secret: str) -> bytes:
    # Without a key, so that another JWT_SECRET leaves clients as they are: nobody finds 256 random bits by trying.
    return hashlib.sha256(f"{identity} {secret}".encode()).digest()


def _values(new: NewClient) -> dict[str, Any]:
    return {
        "name": new.name,
        "auth_method": new.auth_method,
        "redirect_uris": list(new.redirect_uris),
        "origins": list(new.origins),
        "launch_uri": new.launch_uri,
        "grant_types": list(new.grant_types),
        "scope": new.scope,
        "jwks": new.jwks,
        "jwks_uri": new.jwks_uri,
    }


def _client(row: Sequence[Any]) -> Client:
    fields = dict(zip(_COLUMNS.replace(" ", "").split(","), row, strict=True))
    return Client(**fields | {name: tuple(fields[name]) for name in ("redirect_uris", "origins", "grant_types")})


def _event(client: str, by: str, detail: str) -> Event:
    return Event("client-change", by, type="client", resource=client, detail=detail)


def _end_sessions(connection: Connection, client: str, reason: str, by: str, now: datetime) -> None:
    audit.acting(connection, by)
    connection.execute("UPDATE session SET ended = %s, reason = %s WHERE client = %s AND ended IS NULL", (now, reason, client))
    connection.execute("DELETE FROM app_request WHERE client = %s AND session IS NULL", (client,))
