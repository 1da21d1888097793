"""The audit trail: what was done, by whom and to whose record, as narrow rows that are only ever added.

Writes of resources add theirs in their own statement (`statements.write`); everything else comes through `append`, in whatever transaction its
connection is in, or through the `recorder`. https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec

from fhir_server.search import Grant
from fhir_server.store.database import Connection

Kind = Literal[
    "read",
    "vread",
    "history",
    "search",
    "create",
    "update",
    "patch",
    "delete",
    "operation",
    "export",
    "denied",
    "break-glass",
    "sign-in",
    "sign-in-failed",
    "sign-out",
    "revocation",
    "token-reuse",
    "bad-token",
    "password-change",
    "account-change",
    "registration",
    "client-change",
    "policy-change",
    "consent-change",
    "authorization",
    "token-issue",
    "token-revocation",
    "message",
    "received",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Action = Literal["C", "R", "U", "D", "E"]

_ACTIONS: Final[dict[Kind, Action]] = {
    "read": "R",
    "vread": "R",
    "history": "R",
    "export": "R",
    "create": "C",
    "registration": "C",
    "token-issue": "C",
    "update": "U",
    "patch": "U",
    "password-change": "U",
    "account-change": "U",
    "client-change": "U",
    "policy-change": "U",
    "consent-change": "U",
    "delete": "D",
    "revocation": "D",
    "token-revocation": "D",
}
"""What kinds other than `E`, to execute, do."""

MAX_TEXT: Final = 4_000
"""Characters of a text that a caller sent; the rest is cut off."""
UNKNOWN: Final = "unknown"
"""The actor of an event whose caller nobody knows."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    `outcome` is 0 where it succeeded, 4 where the caller was at fault, 8 where the server was. `actor` is the name that the caller goes by, `account`
    the id of their account, `fhir_user` who they are in FHIR, as `Practitioner/7`; `client` is the app, `purpose` a code of v3-ActReason, as `BTG`.
    `type`, `resource` and `version` name what it was done to: a resource, or with a type in small letters another thing, as `account`. `patients`
    are the ids of those whose record it was done to. `query` is the text of a search, `detail` a few words for people, never a secret. `recorded` is
    the time, that of the writing where it is None. `action` is the kind's own unless told otherwise. An event that a client has sent has a `body`.
    """

    kind: Kind
    actor: str = UNKNOWN
    outcome: Literal[0, 4, 8, 12] = 0
    account: str | None = None
    fhir_user: str | None = None
    roles: tuple[str, ...] = ()
    client: str | None = None
    session: str | None = None
    purpose: str | None = None
    address: str | None = None
    request_id: str | None = None
    type: str | None = None
    resource: str | None = None
    version: int | None = None
    patients: tuple[str, ...] = ()
    query: str | None = None
    detail: str | None = None
    action: Action | None = None
    recorded: datetime | None = None
    received: datetime | None = None
    body: str | None = None

    def by(self, grant: Grant, *, address: str | None = None, request_id: str | None = None) -> Event:
        """The event as done by the caller of a grant, from an address and under a request id."""
        return replace(self, **who(grant), address=address or self.address, request_id=request_id or self.request_id)


COLUMNS: Final = (
    *("id", "recorded", "received", "kind", "action", "outcome", "actor", "account", "fhir_user", "roles", "client", "session", "purpose"),
    *("address", "request_id", "type", "resource", "version", "patients", "query", "detail", "body"),
)
"""The columns that make up an event, in the order of its canonical bytes."""
FIELDS: Final = ", ".join(f"e.{name}" for name in COLUMNS)
"""These of a table that is called e."""

_WRITTEN: Final = COLUMNS[1:]
_RECORD: Final = (
    "recorded timestamptz, received timestamptz, kind text, action text, outcome smallint, actor text, account text, fhir_user text, roles text[],"
    " client text, session text, purpose text, address text, request_id text, type text, resource text, version int, patients text[], query text,"
    " detail text, body text"
)
APPEND: Final = (
    f"INSERT INTO audit_event ({', '.join(_WRITTEN)}) SELECT {', '.join(f'x.{name}' for name in _WRITTEN)}"
    f" FROM json_to_recordset(%s::json) AS x({_RECORD})"
)
WHO: Final = "actor text, account text, fhir_user text, roles text[], client text, session text, purpose text, address text, request_id text"
"""What `who` gives, with the request's address and id, as columns of a record."""
_encode: Final = msgspec.json.Encoder().encode


def who(grant: Grant) -> dict[str, Any]:
    """The fields of an event that tell its caller."""
    return {
        "actor": grant.actor,
        "account": grant.account,
        "fhir_user": grant.user,
        "roles": tuple(sorted(grant.roles)),
        "client": grant.client,
        "session": grant.session,
        "purpose": "BTG" if grant.break_glass else None,
    }


def append(connection: Connection, events: Iterable[Event]) -> None:
    """Adds events to the trail, in the connection's transaction if it is in one: what is rolled back takes its events with it.

    One statement, and 40 to 60 µs of PostgreSQL for one event; some 15 for each of many.
    """
    connection.execute(APPEND, (as_json(events),))


def as_json(events: Iterable[Event]) -> str:
    """Events as the argument of APPEND."""
    now = datetime.now(UTC)
    return _encode([_row(event, now) for event in events]).decode()


def clean(value: str) -> str:
    """A text that PostgreSQL takes, and no longer than MAX_TEXT."""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _row(event: Event, now: datetime) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in _WRITTEN}
    for name, value in row.items():
        if name != "body" and isinstance(value, str):
            row[name] = clean(value)
    row["action"] = event.action or _ACTIONS.get(event.kind, "E")
    recorded = event.recorded or now
    # As an instant shows it: what is searched for is what is shown. What a client has sent is shown as it came.
    row["recorded"] = recorded if event.body is not None else recorded.replace(microsecond=recorded.microsecond // 1000 * 1000)
    return row
