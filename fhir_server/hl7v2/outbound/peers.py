"""Peers: the systems that are told of changes by HL7 v2, where they are, and which events they want.

https://www.hl7.eu/refactored/segMSH.html
"""

from __future__ import annotations

import re
import secrets
import ssl
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from fhir_server.access import audit
from fhir_server.access.audit import Event
from fhir_server.hl7v2.origin import origin
from fhir_server.outcome import Outcome
from fhir_server.store import outbox
from fhir_server.store.database import Connection

CONSUMER: Final = "hl7v2"
"""The name under which changes are listened to in the outbox."""
VERSIONS: Final = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8")
CHARSETS: Final = {
    "UNICODE UTF-8": "utf-8",
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/5": "iso8859-5",
    "8859/7": "iso8859-7",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
}
"""What MSH-18 may say, and what it is called here. A character that a set lacks is sent as a question mark."""
EVENTS: Final = {
    "S12": "Appointment",
    "S13": "Appointment",
    "S14": "Appointment",
    "S15": "Appointment",
    "S17": "Appointment",
    "S26": "Appointment",
    "A28": "Patient",
    "A31": "Patient",
    "A40": "Patient",
    "O21": "ServiceRequest",
    "R01": "DiagnosticReport",
}
"""Trigger events that a peer may want, and the type whose changes bring them. O21 is sent as O01 to peers of versions before 2.5."""

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?")
_WORD: Final = re.compile(r"[ -~]{0,180}")
_SPECIAL: Final = frozenset("|^~\\&")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPeer:
    """What is said of a peer.

    `application` and `facility` are its names (MSH-5, MSH-6), `own_…` those under which this server speaks to it (MSH-3, MSH-4). With `tls` its
    certificate has to be good for `host`, by the authorities in `ca` (PEM) or, without, by those that the machine trusts. `seconds` is how long an
    answer may take.
    """

    name: str
    host: str
    port: int
    application: str
    facility: str
    events: tuple[str, ...]
    tls: bool = False
    ca: str | None = None
    own_application: str = "FHIR-SERVER"
    own_facility: str = "CLINIC"
    version: str = "2.5.1"
    charset: str = "UNICODE UTF-8"
    seconds: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer(NewPeer):
    """A peer as it stood when it was read: `failures` tries in a row came to nothing, for `fault`, and the next one is `due`."""

    id: str
    created: datetime
    created_by: str
    disabled: datetime | None
    failures: int
    fault: str | None
    due: datetime | None

    @property
    def origin(self) -> str:
        """The client of grants under which messages of this peer are written."""
        return origin(self.application, self.facility)


_GIVEN: Final = tuple(each.name for each in fields(NewPeer))
_NAMES: Final = tuple(each.name for each in fields(Peer))
_COLUMNS: Final = ", ".join(_NAMES)


def check(new: NewPeer) -> None:
    """Raises Outcome `invalid` for what cannot be."""
    if not _HOST.fullmatch(new.host):
        raise Outcome("invalid", "A host is a name or an address, without scheme, port and path", expression="host")
    if unknown := [event for event in new.events if event not in EVENTS]:
        raise Outcome("invalid", f"'{unknown[0][:10]}' is not an event that is sent; these are {', '.join(EVENTS)}", expression="events")
    if new.version not in VERSIONS:
        raise Outcome("invalid", f"The version is one of {', '.join(VERSIONS)}", expression="version")
    if new.charset not in CHARSETS:
        raise Outcome("invalid", f"The character set is one of {', '.join(CHARSETS)}", expression="charset")
    for name in ("application", "facility", "own_application", "own_facility"):
        value = getattr(new, name)
        if not _WORD.fullmatch(value) or _SPECIAL & set(value):
            raise Outcome("invalid", "A name has ASCII letters, and none of the separators of HL7 v2", expression=name)
    if new.ca is not None:
        try:
            ssl.create_default_context(cadata=new.ca)
        except (ssl.SSLError, ValueError):
            raise Outcome("invalid", "These are not certificates in PEM", expression="ca") from None


def add(connection: Connection, new: NewPeer, by: str, now: datetime) -> Peer:
    """The peer that was made, within the caller's transaction. Changes are listened to from its commit on. Raises Outcome `invalid`."""
    check(new)
    values = _values(new) | {"id": secrets.token_urlsafe(9), "created": now, "created_by": by}
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    row = connection.execute(f"INSERT INTO hl7v2_peer ({names}) VALUES ({marks}) RETURNING {_COLUMNS}", values).fetchall()[0]  # noqa: S608 - our names
    made = _peer(row)
    _listen(connection)
    audit.record(connection, _event(made.id, by, f"registered: {new.name}"))
    return made


def get(connection: Connection, identity: str) -> Peer | None:
    """The peer of an id, disabled or not."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM hl7v2_peer WHERE id = %s", (identity,)).fetchone()  # noqa: S608 - our names
    return None if row is None else _peer(row)


def locked(connection: Connection, identity: str) -> Peer | None:
    """The peer of an id, which nobody else changes until the caller's transaction ends."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM hl7v2_peer WHERE id = %s FOR UPDATE", (identity,)).fetchone()  # noqa: S608 - our names
    return None if row is None else _peer(row)


def page(connection: Connection, after: tuple[datetime, str] | None, limit: int) -> list[Peer]:
    """So many peers, the newest first, after the one of this time and id."""
    older = "WHERE (created, id) < (%s, %s)" if after is not None else ""
    statement = f"SELECT {_COLUMNS} FROM hl7v2_peer {older} ORDER BY created DESC, id DESC LIMIT %s"  # noqa: S608 - our names
    return [_peer(row) for row in connection.execute(statement, (*(after or ()), limit)).fetchall()]


def enabled(connection: Connection) -> list[Peer]:
    """The peers that are told of changes. For clinics: a few."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM hl7v2_peer WHERE disabled IS NULL ORDER BY id").fetchall()  # noqa: S608 - our names
    return [_peer(row) for row in rows]


def change(connection: Connection, identity: str, new: NewPeer, by: str) -> Peer | None:
    """The peer after a change of all that is said of it, tried again at once; None where there is none. What waits stays as it was made.

    Raises Outcome `invalid`.
    """
    check(new)
    values = _values(new)
    assigned = ", ".join(f"{name} = %({name})s" for name in values)
    statement = f"UPDATE hl7v2_peer SET {assigned}, failures = 0, due = NULL WHERE id = %(id)s RETURNING {_COLUMNS}"  # noqa: S608 - our names
    row = connection.execute(statement, {**values, "id": identity}).fetchone()
    if row is None:
        return None
    _listen(connection)
    audit.record(connection, _event(identity, by, "changed"))
    return _peer(row)


def disable(connection: Connection, identity: str, by: str, now: datetime) -> None:
    """Tells a peer nothing more; what waits for it waits on."""
    statement = "UPDATE hl7v2_peer SET disabled = %s WHERE id = %s AND disabled IS NULL RETURNING 1"
    if connection.execute(statement, (now, identity)).fetchone() is not None:
        _listen(connection)
        audit.record(connection, _event(identity, by, "disabled"))


def enable(connection: Connection, identity: str, by: str) -> None:
    """Tells a peer of changes again, and what has waited for it; not what happened meanwhile."""
    statement = "UPDATE hl7v2_peer SET disabled = NULL, failures = 0, due = NULL WHERE id = %s AND disabled IS NOT NULL RETURNING 1"
    if connection.execute(statement, (identity,)).fetchone() is not None:
        _listen(connection)
        audit.record(connection, _event(identity, by, "enabled"))


def _listen(connection: Connection) -> None:
    rows: Iterable[Sequence[Any]] = connection.execute("SELECT DISTINCT unnest(events) FROM hl7v2_peer WHERE disabled IS NULL").fetchall()
    outbox.listen(connection, CONSUMER, types_of(event for (event,) in rows))


def types_of(events: Iterable[str]) -> Collection[str]:
    """The resource types whose changes bring these events."""
    return {EVENTS[event] for event in events if event in EVENTS}


def _values(new: NewPeer) -> dict[str, Any]:
    return {name: getattr(new, name) for name in _GIVEN} | {"events": list(dict.fromkeys(new.events))}


def _peer(row: Sequence[Any]) -> Peer:
    found = dict(zip(_NAMES, row, strict=True))
    return Peer(**found | {"events": tuple(found["events"])})


def _event(peer: str, by: str, detail: str) -> Event:
    return Event("client-change", by, type="hl7v2-peer", resource=peer, detail=detail)
