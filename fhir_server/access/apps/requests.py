"""What an app asks a person for: from the first page to the code that the app gets. The person's answer is kept, for the next time.

https://www.rfc-editor.org/rfc/rfc6749#section-4.1, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.access import audit
from fhir_server.access.audit import Event
from fhir_server.access.vault import Vault
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.store import Store

from .words import covered

ASKING: Final = timedelta(minutes=30)
"""How long a person may take to answer."""
CODE_LIFE: Final = timedelta(seconds=60)
LAUNCH_LIFE: Final = timedelta(minutes=5)

_MOST_OPEN: Final = 50  # Requests of one browser that wait for an answer; the oldest are dropped.
_COLUMNS: Final = "id, client, account, browser, redirect_uri, scope, state, nonce, challenge, patient, encounter, address, expires, granted, session"


@dataclass(frozen=True, slots=True)
class NewRequest:
    """What an app asks for in a browser that somebody has signed in with; `scope` is what of it can be granted."""

    client: str
    redirect_uri: str
    scope: str
    challenge: str
    state: str | None = None
    nonce: str | None = None
    patient: str | None = None
    encounter: str | None = None


@dataclass(frozen=True, slots=True)
class AppRequest:
    """A request as it stands. `browser` is the session it is asked in; `granted` what was left of `scope`, None before the answer."""

    id: str
    client: str
    account: str
    browser: str
    redirect_uri: str
    scope: str
    state: str | None
    nonce: str | None
    challenge: str = field(repr=False)
    patient: str | None
    encounter: str | None
    address: str
    expires: datetime
    granted: str | None
    session: str | None


@dataclass(frozen=True, slots=True)
class Launch:
    """For whom an app was opened from within the clinic."""

    patient: str
    encounter: str | None


class Requests:
    """The requests, launches and remembered answers of one database."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """Works on the store's database; `vault` makes the digests of codes."""
        self._store = store
        self._vault = vault

    def open(self, new: NewRequest, account: str, browser: str, address: str, now: datetime) -> AppRequest:
        """Keeps a request until it is answered, ASKING at the most."""
        values = (
            secrets.token_urlsafe(24),
            new.client,
            account,
            browser,
            new.redirect_uri,
            new.scope,
            new.state,
            new.nonce,
            new.challenge,
            new.patient,
            new.encounter,
            address,
            now + ASKING,
        )
        with self._store.database.connection() as connection, connection.transaction():
            row = connection.execute(
                "INSERT INTO app_request (id, client, account, browser, redirect_uri, scope, state, nonce, challenge, patient, encounter, address,"  # noqa: S608 - our names
                f" expires) VALUES ({', '.join(['%s'] * len(values))}) RETURNING {_COLUMNS}",
                values,
            ).fetchone()
            connection.execute(
                "DELETE FROM app_request WHERE id IN"
                " (SELECT id FROM app_request WHERE browser = %s AND code IS NULL ORDER BY expires DESC, id OFFSET %s)",
                (browser, _MOST_OPEN),
            )
        assert row is not None
        return AppRequest(*row)

    def find(self, identity: str, browser: str, now: datetime) -> AppRequest | None:
        """A request that waits for its answer in the browser's session."""
        with self._store.database.connection() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM app_request WHERE id = %s AND browser = %s AND code IS NULL AND expires > %s",  # noqa: S608 - our names
                (identity, browser, now),
            ).fetchone()
        return None if row is None else AppRequest(*row)

    def choose(self, request: AppRequest, patient: str) -> None:
        """Says whose record the request is about."""
        with self._store.database.connection() as connection:
            connection.execute("UPDATE app_request SET patient = %s WHERE id = %s AND code IS NULL", (patient, request.id))

    def allow(self, request: AppRequest, granted: Sequence[str], by: Grant, now: datetime, *, about: bool) -> str:
        """The code for what was granted, good once within CODE_LIFE; the answer is kept.

        The app is told of patient and encounter where it is `about` them. Raises Outcome `conflict` where it was answered before.
        """
        code = secrets.token_urlsafe(32)
        scope = " ".join(granted)
        with self._store.database.connection() as connection, connection.transaction():
            found = connection.execute(
                "UPDATE app_request SET code = %s, granted = %s, expires = %s, patient = %s, encounter = %s"
                " WHERE id = %s AND code IS NULL RETURNING 1",
                (self._hash(code), scope, now + CODE_LIFE, request.patient if about else None, request.encounter if about else None, request.id),
            ).fetchone()
            if found is None:
                raise Outcome("conflict", "This was answered before")
            connection.execute(
                "INSERT INTO app_consent (account, client, scope, given) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (account, client) DO UPDATE SET scope = excluded.scope, given = excluded.given",
                (request.account, request.client, scope, now),
            )
            audit.record(connection, _answered(request, by, f"let in: {scope}"))
        return code

    def deny(self, request: AppRequest, by: Grant) -> None:
        """Drops the request, and what was remembered of an answer before."""
        with self._store.database.connection() as connection, connection.transaction():
            connection.execute("DELETE FROM app_request WHERE id = %s AND code IS NULL", (request.id,))
            connection.execute("DELETE FROM app_consent WHERE account = %s AND client = %s", (request.account, request.client))
            audit.record(connection, _answered(request, by, "not let in"))

    def is_allowed(self, request: AppRequest) -> bool:
        """Whether the person has let the app have as much before."""
        with self._store.database.connection() as connection:
            statement = "SELECT scope FROM app_consent WHERE account = %s AND client = %s"
            row = connection.execute(statement, (request.account, request.client)).fetchone()
        return row is not None and covered(request.scope.split(), row[0].split())

    def by_code(self, code: str) -> AppRequest | None:
        """The request that a code was given for, used or not, in time or not."""
        with self._store.database.connection() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM app_request WHERE code = %s", (self._hash(code),)).fetchone()  # noqa: S608 - our names
        return None if row is None else AppRequest(*row)

    def new_launch(self, account: str, client: str | None, patient: str, encounter: str | None, now: datetime) -> str:
        """A launch token: the app that it is given to, of this account, is opened for this patient, once within LAUNCH_LIFE."""
        token = secrets.token_urlsafe(24)
        with self._store.database.connection() as connection:
            statement = "INSERT INTO launch (hash, client, account, patient, encounter, expires) VALUES (%s, %s, %s, %s, %s, %s)"
            values: tuple[Any, ...] = (self._vault.digest("launch", token), client, account, patient, encounter, now + LAUNCH_LIFE)
            connection.execute(statement, values)
        return token

    def use_launch(self, token: str, account: str, client: str, now: datetime) -> Launch | None:
        """What a launch token opens the app for, and uses it up; None for one of somebody else, of another app, that was used or is too old."""
        with self._store.database.connection() as connection:
            row = connection.execute(
                "DELETE FROM launch WHERE hash = %s AND account = %s AND (client IS NULL OR client = %s) AND expires > %s"
                " RETURNING patient, encounter",
                (self._vault.digest("launch", token), account, client, now),
            ).fetchone()
        return None if row is None else Launch(*row)

    def _hash(self, code: str) -> bytes:
        return self._vault.digest("authorization code", code)


def _answered(request: AppRequest, by: Grant, detail: str) -> Event:
    patients = (request.patient,) if request.patient is not None else ()
    return Event("authorization", type="client", resource=request.client, patients=patients, detail=detail).by(by, address=request.address)
