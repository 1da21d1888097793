"""What an admin decides while the server runs: kept in the database, so that every process goes by it from the next request on."""

from __future__ import annotations

from typing import Final, Literal, get_args

from fhir_server.outcome import Outcome
from fhir_server.store import Store, consents
from fhir_server.store.database import Connection

from . import audit
from .audit import Event

Registration = Literal["open", "initial-token", "closed"]
REGISTRATION: Final[tuple[Registration, ...]] = get_args(Registration)
"""Who may register an app: anybody, whoever has been handed a token for it, or admins alone."""
Consenting = Literal["permit", "deny"]
CONSENTING: Final[tuple[Consenting, ...]] = get_args(Consenting)
"""Whether a patient's clinical record is open as the roles say unless a Consent forbids it, or closed unless a Consent permits it."""

Reaching = Literal["public", "any"]
REACHING: Final[tuple[Reaching, ...]] = get_args(Reaching)
"""Where notifications of Subscriptions may go: to addresses of the internet, or to those of this network and this machine too."""


class Policy:
    """The decisions of one database. What nobody has decided has a default: admins register apps, and records are open unless forbidden."""

    def __init__(self, store: Store) -> None:
        """Works on the store's database."""
        self._store = store

    def registration(self, connection: Connection | None = None) -> Registration:
        """Who may register an app, as the caller's transaction sees it where its `connection` is given."""
        decided = self._decided("registration", connection)
        return next((each for each in REGISTRATION if each == decided), "closed")

    def consent(self, connection: Connection | None = None) -> Consenting:
        """What holds for records whose patients have said nothing, as the caller's transaction sees it where its `connection` is given."""
        decided = self._decided("consent", connection)
        return next((each for each in CONSENTING if each == decided), "permit")

    def set_registration(self, value: str, by: str, *, undecided: bool = False, connection: Connection | None = None) -> None:
        """Decides who may register an app, with `undecided` only where nobody has before; `by` is a login.

        In a transaction of its own, or in that of the caller whose `connection` is given.
        Raises Outcome `invalid` for a value that there is not.
        """
        if value not in REGISTRATION:
            raise Outcome("invalid", f"Registration is {', '.join(REGISTRATION)}")
        if connection is None:
            with self._store.database.connection() as own, own.transaction():
                self.set_registration(value, by, undecided=undecided, connection=own)
        else:
            _decide(connection, "registration", value, by, undecided=undecided)

    def subscriptions(self, connection: Connection | None = None) -> Reaching:
        """Where notifications of Subscriptions may go, as the caller's transaction sees it where its `connection` is given."""
        decided = self._decided("subscriptions", connection)
        return next((each for each in REACHING if each == decided), "public")

    def set_subscriptions(self, value: str, by: str, *, undecided: bool = False, connection: Connection | None = None) -> None:
        """Decides that; as `set_registration`. Raises Outcome `invalid` for a value that there is not."""
        if value not in REACHING:
            raise Outcome("invalid", f"Subscriptions is {', '.join(REACHING)}")
        if connection is None:
            with self._store.database.connection() as own, own.transaction():
                _decide(own, "subscriptions", value, by, undecided=undecided)
        else:
            _decide(connection, "subscriptions", value, by, undecided=undecided)

    def messages(self, connection: Connection) -> str | None:
        """How people are told of their appointments, as a JSON text that `clinic.messages` reads; None where nobody has decided."""
        return self._decided("messages", connection)

    def set_messages(self, text: str, by: str, connection: Connection) -> None:
        """Decides that, within the caller's transaction; `by` is a login."""
        _decide(connection, "messages", text, by)

    def payments(self, connection: Connection) -> str | None:
        """What holds for payments at the desk, as a JSON text that `clinic.billing` reads; None where nobody has decided."""
        return self._decided("payments", connection)

    def set_payments(self, text: str, by: str, connection: Connection) -> None:
        """Decides that, within the caller's transaction; `by` is a login."""
        _decide(connection, "payments", text, by)

    def set_consent(self, value: str, by: str, connection: Connection) -> None:
        """Decides what holds for records whose patients have said nothing, from the commit of the caller's transaction on; `by` is a login.

        Raises Outcome `invalid` for a value that there is not.
        """
        if value not in CONSENTING:
            raise Outcome("invalid", f"Consent is {', '.join(CONSENTING)}")
        _decide(connection, "consent", value, by)
        consents.decided_anew(connection)

    def _decided(self, name: str, connection: Connection | None) -> str | None:
        if connection is None:
            with self._store.database.connection() as own:
                return self._decided(name, own)
        row = connection.execute("SELECT value FROM policy WHERE name = %s", (name,)).fetchone()
        return row[0] if row is not None else None


def _decide(connection: Connection, name: str, value: str, by: str, *, undecided: bool = False) -> None:
    conflict = "NOTHING" if undecided else "UPDATE SET value = excluded.value"
    statement = f"INSERT INTO policy (name, value) VALUES (%s, %s) ON CONFLICT (name) DO {conflict} RETURNING 1"  # noqa: S608 - our words
    if connection.execute(statement, (name, value)).fetchone() is not None:
        audit.record(connection, Event("policy-change", by, type="policy", resource=name, detail=f"{name}: {value}"))
