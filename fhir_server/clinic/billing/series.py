"""Numbers of invoices and credit notes: without gaps, by legal entity, kind and year, in the order of their dates.

A number is taken by the transaction that issues, from a row that it keeps locked until it ends: what is rolled back has taken none, and nobody gets
the next before it is known whether there is one before it. Numbers wait for each other therefore; nothing is done between taking one and the commit
but writing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal

from fhir_server.clinic.acting import resource_of
from fhir_server.outcome import Outcome
from fhir_server.settings import CANON
from fhir_server.store import Snapshot
from fhir_server.store.database import Connection, scalar

SERIES: Final = f"{CANON}/sid/invoice-series"
"""The system of the identifier of an Organization that its numbers begin with."""
Kind = Literal["invoice", "credit-note"]
_NAMES: Final[dict[Kind, tuple[str, str]]] = {"invoice": ("INV", ""), "credit-note": ("CN", "CN")}
"""Of each kind the name where an issuer has none, and what follows the name of one that has."""
_NAME: Final = re.compile(r"[A-Z0-9]{1,12}", re.ASCII)

_NEXT: Final = """
UPDATE invoice_series SET next = next + 1, last = greatest(last, %s) WHERE issuer = %s AND kind = %s AND year = %s
RETURNING series, next - 1, last
"""
_FIRST: Final = """
INSERT INTO invoice_series (issuer, kind, year, series, next, last) VALUES (%s, %s, %s, %s, 2, %s) RETURNING series, 1::bigint, last
"""
_BEFORE: Final = "SELECT series FROM invoice_series WHERE issuer = %s AND kind = %s ORDER BY year DESC LIMIT 1"
_TAKEN: Final = "SELECT 1 FROM invoice_series WHERE series = %s AND (issuer, kind) <> (%s, %s) LIMIT 1"


def take(connection: Connection, db: Snapshot, issuer: str, kind: Kind, now: datetime) -> tuple[str, datetime]:
    """The next number of an issuer, by its reference, and the date that goes with it: now, or that of the number before if that is later.

    `now` has the clinic's zone, whose year it is. Waits for whoever has taken the number before; to be called when all else is known to be right.
    Raises Outcome `business-rule` where the issuer's name for its series is none, or another's.
    """
    row = connection.execute(_NEXT, (now, issuer, kind, now.year)).fetchone()
    if row is None:
        # Of two who begin a year at once the second is told that it is there, and begins again.
        row = connection.execute(_FIRST, (issuer, kind, now.year, _name(connection, db, issuer, kind), now)).fetchone()
    assert row is not None
    series, number, at = row
    return f"{series}-{now.year}-{number:06d}", at.astimezone(now.tzinfo)


def _name(connection: Connection, db: Snapshot, issuer: str, kind: Kind) -> str:
    before: str | None = scalar(connection, _BEFORE, issuer, kind)
    if before is not None:
        return before
    plain, suffix = _NAMES[kind]
    given = _given(db, issuer)
    if given is not None:
        name = f"{given}{suffix}"
        if not _NAME.fullmatch(name) or scalar(connection, _TAKEN, name, issuer, kind) is not None:
            said = f"'{name[:20]}' cannot be a series of {issuer}: it has to be of A to Z and 0 to 9, and nobody else's"
            raise Outcome("business-rule", said, expression="Organization.identifier")
        return name
    return next(name for name in _names(plain) if scalar(connection, _TAKEN, name, issuer, kind) is None)


def _names(plain: str) -> Iterator[str]:
    yield plain
    number = 2
    while True:
        yield f"{plain}{number}"
        number += 1


def _given(db: Snapshot, issuer: str) -> str | None:
    name, _, identity = issuer.partition("/")
    organization = resource_of(db.read(name, identity)) if name == "Organization" else None
    numbers: list[Any] = (organization or {}).get("identifier", [])
    return next((str(each["value"]) for each in numbers if each.get("system") == SERIES and "value" in each), None)
