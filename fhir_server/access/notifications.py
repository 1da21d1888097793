"""Which messages people want of the clinic, about appointments and the like. Codes, and warnings about their account, come in any case."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from fhir_server.search import Grant
from fhir_server.store.database import Database

from . import audit

_READ: Final = "SELECT notify_email, notify_sms FROM account WHERE id = %s"
# One that changes nothing leaves no event in the trail.
_WRITE: Final = "UPDATE account SET notify_email = %(email)s, notify_sms = %(sms)s WHERE id = %(id)s"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The ways by which messages are welcome: by mail unless somebody has said no, by SMS only where they have said yes."""

    email: bool = True
    sms: bool = False


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
