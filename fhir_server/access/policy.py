"""What an admin decides while the server runs: kept in the database, so that every process goes by it from the next request on."""

from __future__ import annotations

from typing import Final, Literal, get_args

from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from . import audit
from .audit import Event

Registration = Literal["open", "initial-token", "closed"]
REGISTRATION: Final[tuple[Registration, ...]] = get_args(Registration)
"""Who may register an app: anybody, whoever has been handed a token for it, or admins alone."""


class Policy:
    """The decisions of one database; what nobody has decided has a default that opens nothing."""

    def __init__(self, store: Store) -> None:
        """Works on the store's database."""
        self._store = store

    def registration(self, connection: Connection | None = None) -> Registration:
        """Who may register an app, as the caller's transaction sees it where its `connection` is given."""
        if connection is None:
            with self._store.database.connection() as own:
                return self.registration(own)
        row = connection.execute("SELECT value FROM policy WHERE name = 'registration'").fetchone()
        return next((each for each in REGISTRATION if row is not None and each == row[0]), "closed")

    def set_registration(self, value: str, by: str, *, undecided: bool = False, connection: Connection | None = None) -> None:
        """Decides who may register an app, with `undecided` only where nobody has before; `by` is a login.

        In a transaction of its own, or in that of the caller whose `connection` is given.
        Raises Outcome `invalid` for a value that there is not.
        """
        if value not in REGISTRATION:
            raise Outcome("invalid", f"Registration is {', '.join(REGISTRATION)}")
        conflict = "NOTHING" if undecided else "UPDATE SET value = excluded.value"
        if connection is None:
            with self._store.database.connection() as own, own.transaction():
                self.set_registration(value, by, undecided=undecided, connection=own)
        else:
            statement = f"INSERT INTO policy (name, value) VALUES ('registration', %s) ON CONFLICT (name) DO {conflict} RETURNING 1"  # noqa: S608 - our words
            if connection.execute(statement, (value,)).fetchone() is not None:
                audit.record(connection, Event("policy-change", by, type="policy", resource="registration", detail=f"registration: {value}"))
