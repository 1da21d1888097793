"""What is sealed in the database, and how it comes under another key. See `vault`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from fhir_server.store import Store
from fhir_server.store.database import Connection

from .vault import Vault

_COLUMNS: Final = (
    *(("account", column, f"{{}} {place}") for column, place in (("email", "email"), ("phone", "phone"), ("applicant", "applicant"))),
    *(("account", column, "{} totp") for column in ("totp_secret", "totp_offered")),
    ("signing_key", "private", "signing key {}"),
)
"""Tables, columns, and the place that a value is sealed for, with its row's id. What is good for minutes or a day is not among them."""


class _Value(NamedTuple):
    table: str
    column: str
    id: str
    place: str
    sealed: bytes


def reseal(store: Store, vault: Vault) -> int:
    """Seals by DATA_KEY what was sealed by JWT_SECRET before there was one; the number of values. Some 20 µs for each account there is.

    May be run by several processes at once, and while others write.
    """
    count = 0
    with store.database.connection() as connection:
        for value in _values(connection):
            fresh = vault.resealed(value.sealed, value.place)
            if fresh is not None:
                statement = f"UPDATE {value.table} SET {value.column} = %s WHERE id = %s AND {value.column} = %s"  # noqa: S608 - our names
                count += connection.execute(statement, (fresh, value.id, value.sealed)).rowcount
    return count


def unreadable(store: Store, vault: Vault) -> int:
    """How many sealed values cannot be opened: none, unless DATA_KEY is another one than theirs."""
    with store.database.connection() as connection:
        return sum(vault.open(value.sealed, value.place) is None for value in _values(connection))


def _values(connection: Connection) -> Iterator[_Value]:
    for table, column, place in _COLUMNS:
        statement = f"SELECT id, {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 - our names
        for identity, sealed in connection.execute(statement).fetchall():
            yield _Value(table, column, identity, place.format(identity), bytes(sealed))
