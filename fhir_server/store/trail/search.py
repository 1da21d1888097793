"""Events found: the part of a search for AuditEvents that the trail's own columns can answer.

Conditions keep out what cannot match, by an index where there is one. Whether an event does match is for whoever has it rendered to decide, but where
`compiled` says that the conditions are all there is to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from fhir_server.search import Query, Statement
from fhir_server.search.conditions import of_the_pointer
from fhir_server.search.params.date import INFINITY, MINUS_INFINITY, Span
from fhir_server.search.params.reference import Target
from fhir_server.search.params.string import Text
from fhir_server.search.params.token import Token
from fhir_server.search.query import Criterion, Param
from fhir_server.search.statement import any_of
from fhir_server.store.database import Connection

from .events import APPEND, COLUMNS, FIELDS, Event, Kind, as_json

# The times under the name that conditions on a resource's own time have.
_FROM: Final = "(SELECT *, recorded AS updated FROM audit_event) e CROSS JOIN LATERAL (SELECT coalesce(e.received, e.recorded) AS updated) u"
_NOT_OURS: Final = Statement("e.received IS NOT NULL")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_WHOLE: Final = 100
"""Characters of a value that is compared as it is; of longer ones digests are kept elsewhere."""
_UPDATED: Final = Param(0, "_lastUpdated", "date", "http://hl7.org/fhir/SearchParameter/Resource-lastUpdated")


class Entry(NamedTuple):
    """One event as it stands in the trail; see `trail.Event`. `id` is its number."""

    id: int
    recorded: datetime
    received: datetime | None
    kind: Kind
    action: str
    outcome: int
    actor: str
    account: str | None
    fhir_user: str | None
    roles: list[str]
    client: str | None
    session: str | None
    purpose: str | None
    address: str | None
    request_id: str | None
    type: str | None
    resource: str | None
    version: int | None
    patients: list[str]
    query: str | None
    detail: str | None
    body: str | None


class Place(NamedTuple):
    """Where a page goes on: behind the event of an id, and of a time where that is what the order goes by."""

    id: int
    recorded: str | None = None


class Kinds(NamedTuple):
    """The kinds of the server's own events that a token of `type` or `subtype` may mean."""

    type: Callable[[Token], Sequence[Kind]]
    subtype: Callable[[Token], Sequence[Kind]]


def compiled(query: Query, types: Mapping[str, int], kinds: Kinds) -> tuple[Statement, bool]:
    """The conditions that a query puts on the trail's columns, and whether an event of the server's own matches as soon as it meets these."""
    where, exact = Statement("TRUE"), True
    for node in query.filters:
        condition = _condition(node, types, kinds) if isinstance(node, Criterion) and node.modifier is None else None
        if condition is not None:
            where = where.and_(condition[0])
        exact = exact and condition is not None and condition[1]
    return where, exact


def of_patient(patient: str, start: datetime | None, end: datetime | None) -> Statement:
    """That an event was about a patient's record, from a time on and before another."""
    return Statement(
        "e.patients @> ARRAY[%s] AND e.recorded >= coalesce(%s, '-infinity'::timestamptz) AND e.recorded < coalesce(%s, 'infinity'::timestamptz)",
        (patient, start, end),
    )


def append_one(connection: Connection, event: Event) -> Entry:
    """Adds an event to the trail; the entry that it is."""
    row = connection.execute(f"{APPEND} RETURNING {', '.join(COLUMNS)}", (as_json([event]),)).fetchone()
    assert row is not None
    return Entry(*row)


def events(
    connection: Connection, where: Statement, limit: int, *, after: Place | None = None, by_time: bool = False, ascending: bool = False
) -> list[Entry]:
    """Up to `limit` events, newest first: in the order in which they were taken, or by the time that they tell."""
    keys, way = ("e.recorded, e.id", ">" if ascending else "<") if by_time else ("e.id", ">" if ascending else "<")
    if after is not None:
        place = (after.recorded, after.id) if by_time else (after.id,)
        marks = "(%s::timestamptz, %s::bigint)" if by_time else "(%s::bigint)"
        where = where.and_(Statement(f"({keys}) {way} {marks}", place))
    order = ", ".join(f"{key}{'' if ascending else ' DESC'}" for key in keys.split(", "))
    rows = connection.execute(f"SELECT {FIELDS} FROM {_FROM} WHERE {where.text} ORDER BY {order} LIMIT %s", (*where.params, limit))
    return [Entry(*row) for row in rows.fetchall()]


def count(connection: Connection, where: Statement) -> int:
    """How many events meet the conditions."""
    row = connection.execute(f"SELECT count(*) FROM {_FROM} WHERE {where.text}", where.params).fetchone()
    return int(row[0]) if row is not None else 0


def _condition(node: Criterion, types: Mapping[str, int], kinds: Kinds) -> tuple[Statement, bool] | None:  # noqa: PLR0911 - one per parameter
    """A condition that every match meets, and whether an event of our own that meets it matches; None where the columns know nothing of it."""
    match node.param.code:
        case "_id":
            return Statement("e.id = ANY(%s::bigint[])", ([int(value) for value in node.values if _NUMBER.fullmatch(value)],)), True
        case "_lastUpdated":
            return of_the_pointer(node, "u"), True
        case "date":
            # To the millisecond an event is a moment, and so is where the span ends; nearer only the comparison in memory looks.
            return any_of(of_the_pointer(Criterion(_UPDATED, (each,)), "e") for each in node.values), all(map(_is_coarse, node.values))
        case "action":
            return _coded("e.action", [value.code.upper() for value in node.values if value.code], node.values)
        case "outcome":
            return _coded("e.outcome::text", [value.code for value in node.values if value.code], node.values)
        case "patient" | "agent" | "entity" if all(isinstance(each, Target) and not each.below for each in node.values):
            return _referring(node, types)
        case "type" | "subtype":
            meant = kinds.type if node.param.code == "type" else kinds.subtype
            found = sorted({kind for value in node.values for kind in meant(value)})
            return any_of([Statement("e.kind = ANY(%s)", (found,)), _NOT_OURS]), True
        case "agent-name" | "address":
            column = "e.actor" if node.param.code == "agent-name" else "e.address"
            return any_of([*(_begins(column, value) for value in node.values), _NOT_OURS]), False
    return None


def _referring(node: Criterion, types: Mapping[str, int]) -> tuple[Statement, bool] | None:
    """The same for references to local resources."""
    names = {number: name for name, number in types.items()}
    if node.param.code == "patient":
        ids = [each.id for each in node.values if each.type in (None, types["Patient"])]
        users = [f"Patient/{identity}" for identity in ids]
        return any_of([Statement("e.patients && %s", (ids,)), Statement("e.fhir_user = ANY(%s)", (users,))]), len(ids) == len(node.values)
    if not all(each.type for each in node.values):
        return None
    if node.param.code == "agent":
        users = [f"{names[each.type]}/{each.id}" for each in node.values]
        return any_of([Statement("e.fhir_user = ANY(%s)", (users,)), _NOT_OURS]), True
    ways = [Statement("e.type = %s AND e.resource = %s", (names[each.type], each.id)) for each in node.values]
    patients = [each.id for each in node.values if names[each.type] == "Patient"]
    return any_of([*ways, Statement("e.patients && %s", (patients,)), _NOT_OURS]), True


def _is_coarse(span: Span) -> bool:
    return all(end in (MINUS_INFINITY, INFINITY) or end.endswith("000+00:00") for end in (span.lo, span.hi))


def _coded(column: str, codes: Iterable[str], values: Sequence[Token]) -> tuple[Statement, bool]:
    if any(value.code is None for value in values):
        return Statement("TRUE"), False
    return Statement(f"{column} = ANY(%s)", (list(codes),)), all(value.system is None for value in values)


def _begins(column: str, value: Any) -> Statement:
    if not isinstance(value, Text) or value.how not in (None, "exact") or len(value.value) > _WHOLE:
        return Statement("TRUE")
    if value.how == "exact":
        return Statement(f"{column} = %s", (value.value,))
    # Marks and capitals beyond ASCII are for the comparison in memory.
    return Statement(f"(starts_with(lower({column}), %s) OR octet_length({column}) <> char_length({column}))", (value.folded,))
