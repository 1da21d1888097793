"""The rows that reports are made of, kept by the transaction that writes the resource, at every door, and made anew by reindexing.

Each row says what `facts` reads off one resource, and so does not depend on the order of writes. Only what a ChargeItem says of its template
and its doctor stands on the lines of its invoice: whoever writes a line holds the charge until the transaction ends, and whoever changes what the
charge says writes it to the line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from fhir_server import fhirjson
from fhir_server.search import Registry
from fhir_server.store.database import Connection
from fhir_server.store.ops import Resource
from fhir_server.store.writing.plan import Target

from .facts import Bill, Charged, Payment, Visit, bill_of, charged_by, payment_of, visit_of

TYPES: Final = frozenset({"Invoice", "ChargeItem", "PaymentReconciliation", "Encounter"})
_CHUNK: Final = 1_000
_TABLES: Final = ("invoice_line", "invoice_sum", "payment_sum", "visit_time")
_FACTS: Final[Mapping[str, Callable[[Resource, Registry], Bill | Payment | Visit | Charged | None]]] = {
    "Invoice": bill_of,
    "ChargeItem": charged_by,
    "PaymentReconciliation": payment_of,
    "Encounter": visit_of,
}

_ADD_BILLS: Final = """
WITH s AS (
    INSERT INTO invoice_sum (rid, id, day, currency, net, gross, due, credit)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::date[], %s::text[], %s::numeric[], %s::numeric[], %s::numeric[], %s::boolean[]))
INSERT INTO invoice_line (rid, line, day, currency, net, tax, credit, charge, template, doctor)
SELECT * FROM unnest(%s::bigint[], %s::int[], %s::date[], %s::text[], %s::numeric[], %s::numeric[], %s::boolean[], %s::text[], %s::text[], %s::text[])
"""
_DUE: Final = "UPDATE invoice_sum s SET due = x.due FROM unnest(%s::bigint[], %s::numeric[]) AS x(rid, due) WHERE s.rid = x.rid"
_DROP_BILLS: Final = "WITH l AS (DELETE FROM invoice_line WHERE rid = ANY(%s)) DELETE FROM invoice_sum WHERE rid = ANY(%s)"
_CHARGES: Final = """
SELECT r.id, r.vid, v.body FROM unnest(%s::text[]) AS x(id) JOIN resource r ON r.type = %s AND r.id = x.id AND NOT r.deleted
LEFT JOIN resource_version v USING (vid) ORDER BY r.id FOR SHARE OF r
"""
_BODIES: Final = "SELECT v.vid, v.body FROM resource_version v WHERE v.vid = ANY(%s::bigint[])"
_SAY: Final = """
UPDATE invoice_line l SET template = x.template, doctor = x.doctor FROM unnest(%s::text[], %s::text[], %s::text[]) AS x(charge, template, doctor)
WHERE l.charge = x.charge
"""
_ADD_PAYMENTS: Final = """
INSERT INTO payment_sum (rid, day, method, currency, amount)
SELECT * FROM unnest(%s::bigint[], %s::date[], %s::text[], %s::text[], %s::numeric[])
ON CONFLICT (rid) DO UPDATE SET day = excluded.day, method = excluded.method, currency = excluded.currency, amount = excluded.amount
"""
_ADD_VISITS: Final = """
INSERT INTO visit_time (rid, location, zone, arrived, seen, went)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::boolean[])
ON CONFLICT (rid) DO UPDATE SET location = excluded.location, zone = excluded.zone, arrived = excluded.arrived, seen = excluded.seen,
    went = excluded.went
"""
_CURRENT: Final = """
SELECT r.rid, t.name, r.id, v.body FROM resource r JOIN resource_type t ON t.tid = r.type JOIN resource_version v USING (vid)
WHERE t.name = ANY(%s) AND NOT r.deleted ORDER BY r.rid
"""


class Change(NamedTuple):
    """A resource whose facts are others than they were, None where it had, or has, none. `is_new`: there cannot be rows of it yet."""

    rid: int
    id: str
    old: Any
    new: Any
    is_new: bool


Changes = dict[str, list[Change]]
"""By type."""


def changes(registry: Registry, targets: Iterable[Target]) -> Changes:
    """What of the resources that a transaction writes counts in reports, and is not what it was. No statements; 10 µs for a type that counts."""
    found: Changes = defaultdict(list)
    for target in targets:
        if target.type not in TYPES or (target.type == "ChargeItem" and target.method == "P"):
            # Nothing refers to a charge that gets its id here, but what is written with it, and so looks it up.
            continue
        facts, current = _FACTS[target.type], target.current
        alive = current is not None and not current.deleted and current.body is not None
        old = facts(fhirjson.loads(str(current.body).encode()), registry) if alive and current is not None else None
        new = facts(target.resource, registry) if target.resource is not None else None
        if old != new:
            found[target.type].append(Change(target.rid, target.id, old, new, current is None))
    return found


def follow(connection: Connection, registry: Registry, changed: Changes) -> None:
    """Brings the rows to the resources, once these are written. A statement for each type that has changed, up to three for invoices."""
    if charges := changed.get("ChargeItem"):
        _say(connection, {change.id: change.new or Charged("", "") for change in charges})
    if bills := changed.get("Invoice"):
        _bring_bills(connection, registry, bills)
    for name, statement, table in (("PaymentReconciliation", _ADD_PAYMENTS, "payment_sum"), ("Encounter", _ADD_VISITS, "visit_time")):
        if each := changed.get(name):
            _bring(connection, each, statement, table)


def renew(connection: Connection, registry: Registry, written: Mapping[int, Resource | None] | None = None) -> None:
    """Makes the rows of some resources anew, by number, None for a deleted one; without any those of all. In a transaction."""
    if written is not None:
        if written:
            _anew(
                connection,
                registry,
                {rid: ("", "") if each is None else (each["resourceType"], each["id"]) for rid, each in written.items()},
                written,
            )
        return
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table}")
    with connection.cursor("reports") as cursor:
        # What charges say is looked up for the lines of invoices.
        cursor.execute(_CURRENT, (sorted(TYPES - {"ChargeItem"}),))
        while chunk := list(islice(cursor, _CHUNK)):
            resources = {rid: fhirjson.loads(body.encode()) for rid, _, _, body in chunk}
            _anew(connection, registry, {rid: (name, identity) for rid, name, identity, _ in chunk}, resources)


def _anew(connection: Connection, registry: Registry, named: Mapping[int, tuple[str, str]], written: Mapping[int, Resource | None]) -> None:
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE rid = ANY(%s)", (list(written),))
    found: Changes = defaultdict(list)
    for rid, resource in written.items():
        name, identity = named[rid]
        new = _FACTS[name](resource, registry) if resource is not None and name in TYPES else None
        if new is not None:
            found[name].append(Change(rid, identity, None, new, is_new=True))
    follow(connection, registry, found)


def _bring(connection: Connection, changed: Sequence[Change], statement: str, table: str) -> None:
    if gone := [change.rid for change in changed if change.new is None]:
        connection.execute(f"DELETE FROM {table} WHERE rid = ANY(%s)", (gone,))
    if rows := [(change.rid, *change.new) for change in changed if change.new is not None]:
        connection.execute(statement, _columns(rows))


def _bring_bills(connection: Connection, registry: Registry, changed: Sequence[Change]) -> None:
    owing = [
        change for change in changed if change.old is not None and change.new is not None and change.old._replace(due=change.new.due) == change.new
    ]
    if owing:
        connection.execute(_DUE, ([change.rid for change in owing], [change.new.due for change in owing]))
    others = [change for change in changed if change not in owing]
    if there := [change.rid for change in others if not change.is_new]:
        connection.execute(_DROP_BILLS, (there, there))
    made = [change for change in others if change.new is not None]
    if not made:
        return
    said = _said(connection, registry, {line.charge for change in made for line in change.new.lines if line.charge is not None})
    sums = [(change.rid, change.id, *change.new[:-1]) for change in made]
    lines = [_line(change.rid, change.new, line, said) for change in made for line in change.new.lines]
    connection.execute(_ADD_BILLS, (*_columns(sums), *(_columns(lines) or ([],) * 10)))


def _line(rid: int, bill: Bill, line: Any, said: Mapping[str, Charged]) -> tuple[Any, ...]:
    charged = said.get(line.charge, Charged("", "")) if line.charge is not None else Charged("", "")
    return (rid, line.place, bill.day, bill.currency, line.net, line.tax, bill.credit, line.charge, *charged)


def _said(connection: Connection, registry: Registry, charges: Collection[str]) -> dict[str, Charged]:
    """What charges say, by id. Held until the transaction ends, so that nobody else changes it without seeing the lines."""
    if not charges:
        return {}
    rows = connection.execute(_CHARGES, (sorted(charges), registry.types["ChargeItem"])).fetchall()
    # Who has waited for another transaction sees the row as that has left it, but not the version that it has added.
    late = [vid for _, vid, body in rows if body is None]
    bodies: dict[int, str] = dict(connection.execute(_BODIES, (late,)).fetchall()) if late else {}
    read = ((identity, body or bodies.get(vid)) for identity, vid, body in rows)
    return {identity: charged_by(fhirjson.loads(body.encode()), registry) for identity, body in read if body is not None}


def _say(connection: Connection, said: Mapping[str, Charged]) -> None:
    connection.execute(_SAY, _columns([(identity, *charged) for identity, charged in sorted(said.items())]))


def _columns(rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))
