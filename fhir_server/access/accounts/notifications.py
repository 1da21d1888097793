"""Which messages people want of the clinic, about appointments and the like. Codes, and warnings about their account, come in any case.

Whoever has an account decides there. Others can stop what comes by a link in each message, which has to be good for them alone and needs no sign-in.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Literal

from fhir_server.access import audit
from fhir_server.access.audit import Event
from fhir_server.access.vault import Vault
from fhir_server.search import Grant
from fhir_server.store import Store
from fhir_server.store.database import Connection, Database

from .accounts import Accounts

Way = Literal["email", "sms"]

_READ: Final = "SELECT notify_email, notify_sms FROM account WHERE id = %s"
# One that changes nothing leaves no event in the trail.
_WRITE: Final = "UPDATE account SET notify_email = %(email)s, notify_sms = %(sms)s WHERE id = %(id)s"
_DECIDED: Final = "DELETE FROM message_refusal r USING account a WHERE a.id = %s AND r.patient = a.patient"
_WHOSE: Final = "patient = ANY(%s) AND state = 'active' ORDER BY created DESC"
_CHOICES: Final = "SELECT id, notify_email, notify_sms FROM account WHERE patient = ANY(%s) AND state = 'active'"
_REFUSE: Final = "INSERT INTO message_refusal (patient, channel, at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
_TOKEN: Final = re.compile(r"([A-Za-z0-9\-.]{1,64})\.(email|sms)\.([A-Za-z0-9_\-]{22})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The ways by which messages are welcome: by mail unless somebody has said no, by SMS only where they have said yes."""

    email: bool = True
    sms: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What a patient has said: by their account, if `decided`, with the address and number that they have proved; and what they have stopped."""

    wanted: Wanted
    decided: bool = False
    email: str | None = None
    phone: str | None = None
    refused: frozenset[str] = frozenset()


def wanted(database: Database, account: str) -> Wanted:
    """What the owner of an account wants, by its id; the usual where there is no such account. Raises Outcome `unavailable`."""
    with database.connection() as connection:
        row = connection.execute(_READ, (account,)).fetchone()
    return Wanted(*row) if row is not None else Wanted()


def want(database: Database, account: str, choice: Wanted, by: Grant, address: str) -> None:
    """Keeps what the owner of an account wants; `by` whom and from which address is told in the audit trail. Raises Outcome `unavailable`."""
    with database.connection() as connection, connection.transaction():
        audit.acting(connection, by, address=address)
        connection.execute(_WRITE, asdict(choice) | {"id": account})
        connection.execute(_DECIDED, (account,))


class Choices:
    """What the patients of one database have said. Safe to share between threads."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """`vault` opens addresses, and signs the links that stop messages."""
        self._accounts = Accounts(store, vault)
        self._vault = vault

    def of(self, connection: Connection, patients: Iterable[str]) -> dict[str, Choice]:
        """What each of some patients has said, by their ids. Three statements."""
        ids = sorted(set(patients))
        decided = {row[0]: Wanted(*row[1:]) for row in connection.execute(_CHOICES, (ids,)).fetchall()}
        stopped = connection.execute("SELECT patient, channel FROM message_refusal WHERE patient = ANY(%s)", (ids,)).fetchall()
        refused = {each: frozenset(way for patient, way in stopped if patient == each) for each in ids}
        found = {each: Choice(Wanted(), refused=refused[each]) for each in ids}
        # Of several accounts of one patient the oldest counts.
        for account in self._accounts.select(connection, _WHOSE, (ids,)):
            patient = str(account.patient)
            email = account.email if account.email_proved else None
            phone = account.phone if account.phone_proved else None
            found[patient] = Choice(decided[account.id], True, email, phone, refused[patient])
        return found

    def patients_of(self, connection: Connection, logins: Iterable[str]) -> dict[str, str]:
        """Which patients some accounts are, by login."""
        statement = "SELECT login, patient FROM account WHERE login = ANY(%s) AND patient IS NOT NULL"
        return dict(connection.execute(statement, (sorted(set(logins)),)).fetchall())

    def token(self, patient: str, way: Way) -> str:
        """The end of the link that stops messages to a patient by one way."""
        return f"{patient}.{way}.{self._signature(patient, way)}"

    def of_token(self, token: str) -> tuple[str, Way] | None:
        """The patient and the way of such a link; None for one that this server has not made."""
        match = _TOKEN.fullmatch(token)
        if match is None or not hmac.compare_digest(match[3], self._signature(match[1], match[2])):
            return None
        return match[1], "email" if match[2] == "email" else "sms"

    def stop(self, database: Database, patient: str, way: Way, now: datetime, *, again: bool = False, address: str = "") -> None:
        """Stops messages to a patient by one way, in their account too, or lets them come `again`. Raises Outcome `unavailable`."""
        column = f"notify_{way}"
        who, detail = f"Patient/{patient}", f"messages by {way} {'wanted' if again else 'stopped'} by the link in one"
        with database.connection() as connection, connection.transaction():
            audit.acting(connection, who, address=address, detail="by the link of a message")
            audit.record(connection, Event("consent-change", who, type="notification", patients=(patient,), address=address or None, detail=detail))
            connection.execute(
                f"UPDATE account SET {column} = %s WHERE patient = %s AND state = 'active' AND {column} <> %s",  # noqa: S608 - our names
                (again, patient, again),
            )
            if again:
                connection.execute("DELETE FROM message_refusal WHERE patient = %s AND channel = %s", (patient, way))
            else:
                connection.execute(_REFUSE, (patient, way, now))

    def _signature(self, patient: str, way: str) -> str:
        return urlsafe_b64encode(self._vault.digest("stop messages", patient, way)[:16]).decode().rstrip("=")
