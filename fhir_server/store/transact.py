"""The only writer. https://hl7.org/fhir/R4/http.html#transaction

A list of ops becomes one database transaction: conditions are resolved under locks, links rewritten, versions checked, bodies appended,
index rows replaced by their difference. The number of statements depends on the number of chunks, not of ops:
a list of plain creates that fits one chunk is a single statement. Ops of several callers share a transaction as units, each held to its own grant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.compartment import compartment_of
from fhir_server.search.grant import Permission

from .database import Connection
from .index.rows import IndexRows, difference, merge, write_rows
from .ops import Commit, Create, Delete, Lookup, Op, Put, Resource, Version, Written
from .rules import consequences
from .snapshot import METHODS, Snapshot
from .trail import who
from .units import Unit
from .writing.content import stamp
from .writing.current import apply, hold, load_current
from .writing.guard import Guard, is_open
from .writing.identify import identify, plan_create, refuse_twice
from .writing.integrity import Integrity
from .writing.links import relink
from .writing.plan import BY_SERVER, Current, Plan, Target, Writer
from .writing.provenance import provenances

CHUNK: Final = 500
_BESIDE: Final = -1
_EVENTS: Final = {"P": ("create", "C"), "U": ("update", "U"), "A": ("patch", "U"), "D": ("delete", "D")}


@dataclass(frozen=True, slots=True)
class Extras:
    """What a transaction may carry besides its units; see `Store.transact`. With several units there is `beside` alone."""

    lookups: Sequence[Lookup] = ()
    once: bytes | None = None
    then: Callable[[Snapshot], None] | None = None
    beside: Callable[[Connection, Sequence[Commit]], None] | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """A unit with what becomes of it."""

    unit: Unit
    ops: Sequence[Op]
    guard: Guard
    plan: Plan


def transact(writer: Writer, units: Sequence[Unit], extras: Extras) -> list[Commit]:
    """Does all ops of all units or none; one Commit for each. See `Store.transact` and `Store.transact_all`."""
    known = [(unit.ops, unit.grant) for unit in units if not callable(unit.ops)]
    for ops, grant in known:
        _check(ops, grant)
    if (
        len(known) == len(units)
        and not any(field for field in (extras.lookups, extras.once, extras.then, extras.beside))
        and _is_plain(writer, units)
    ):
        return writer.database.retrying(lambda connection: _create(writer, connection, units))
    return writer.database.retrying(lambda connection: _transaction(writer, connection, units, extras))


def defines_parameters(ops: Sequence[Op]) -> bool:
    """Whether some op is about a SearchParameter."""
    return any((op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type) == "SearchParameter" for op in ops)


def _check(ops: Sequence[Op], grant: Grant) -> None:
    _refuse_events(ops)
    _check_grant(ops, grant)


def _refuse_events(ops: Sequence[Op]) -> None:
    """Events are appended one by one, and nothing else is ever done to them. See `trail`."""
    for op in ops:
        if (op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type) == "AuditEvent":
            said = "be created in a transaction: post it by itself, or in a batch" if isinstance(op, Create) else "be changed or deleted"
            raise Outcome("method", f"An AuditEvent cannot {said}", headers={"Allow": "GET, HEAD, POST"})


def _check_grant(ops: Sequence[Op], grant: Grant) -> None:
    for op in ops:
        name = op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type
        permission: Permission = "c" if isinstance(op, Create) else "d" if isinstance(op, Delete) else "u"
        if not grant.allows(name, permission):
            verb = {"c": "create", "u": "update", "d": "delete"}[permission]
            raise Outcome("forbidden", f"The token does not allow to {verb} {name}")


def _is_plain(writer: Writer, units: Sequence[Unit]) -> bool:
    """Whether units are creates of what nothing has to be looked up for, and that nothing follows from."""
    ops = [op for unit in units if not callable(unit.ops) for op in unit.ops]
    if writer.referential_integrity or defines_parameters(ops) or consequences.concern(ops, [unit.grant for unit in units]):
        return False
    if len(ops) > CHUNK or any(type(op) is not Create or op.if_none_exist is not None for op in ops):
        return False
    return all(unit.provenance is None and not unit.seen and _all_open(unit) for unit in units)


def _all_open(unit: Unit) -> bool:
    ops = () if callable(unit.ops) else unit.ops
    return all(is_open(unit.grant, name, "c") for name in {op.resource["resourceType"] for op in ops if isinstance(op, Create)})


def _create(writer: Writer, connection: Connection, units: Sequence[Unit]) -> list[Commit]:
    """Creates with nothing to look up first: one statement, committed by itself."""
    parts = _parts(writer, connection, units)
    at = writer.clock()
    for part in parts:
        for number, op in enumerate(part.ops):
            assert isinstance(op, Create)
            plan_create(writer, part.plan, number, op)
        _relink(part.plan)
        _finish(writer, part.plan, at)
    targets = [target for part in parts for target in part.plan.targets]
    consequences.bring_counts(writer, connection, targets, lambda inside: _write(writer, connection, parts, at, inside=inside))
    return [_commit(part, at) for part in parts]


def _parts(writer: Writer, connection: Connection, units: Sequence[Unit]) -> list[_Part]:
    return [_Part(unit, _ops(writer, connection, unit), Guard(connection, writer.registry, unit.grant), Plan()) for unit in units]


def _ops(writer: Writer, connection: Connection, unit: Unit) -> Sequence[Op]:
    if not callable(unit.ops):
        return unit.ops
    ops = unit.ops(connection, Snapshot(connection, writer.registry, writer.dictionary, unit.grant))
    _check(ops, unit.grant)
    return ops


def _transaction(writer: Writer, connection: Connection, units: Sequence[Unit], extras: Extras) -> list[Commit]:
    with connection.transaction():
        if extras.once is not None:
            new = connection.execute("INSERT INTO once (key) VALUES (%s) ON CONFLICT DO NOTHING RETURNING key", (extras.once,)).fetchone()
            if new is None:
                return [Commit((), writer.clock(), repeated=True)]
        parts = _parts(writer, connection, units)
        for part in parts:
            identify(writer, connection, part.plan, part.ops, part.unit.grant, extras.lookups)
            _relink(part.plan)
        refuse_twice(target for part in parts for target in part.plan.targets)
        hold(writer, connection, [each for unit in units for each in unit.seen])
        at = writer.clock()
        targets = [target for part in parts for target in part.plan.targets]
        beside = load_current(writer, connection, targets, consequences.foresee(writer, connection, targets, at))
        for part in parts:
            _judge(writer, connection, part, at)
        _write(writer, connection, parts, at, inside=True)
        _follow(writer, connection, parts, at, beside)
        if extras.then is not None:
            extras.then(Snapshot(connection, writer.registry, writer.dictionary, units[0].grant))
        commits = [_commit(part, at) for part in parts]
        if extras.beside is not None:
            extras.beside(connection, commits)
    return commits


def _judge(writer: Writer, connection: Connection, part: _Part, at: datetime) -> None:
    """Holds a unit to what is there, its targets locked, and to its grant; leaves what it is to write."""
    unit, guard, plan = part.unit, part.guard, part.plan
    guard.before(plan.targets)
    apply(plan, part.ops, at)
    consequences.own(writer, connection, plan.targets, unit)
    guard.changes(plan.targets)
    queued = consequences.derive(writer, connection, plan.targets, unit.grant, at)
    _add_provenances(writer, plan, unit.grant, at, unit.provenance)
    plan.targets += consequences.raised(writer, connection, plan.targets, at)
    _finish(writer, plan, at)
    if writer.referential_integrity:
        Integrity(writer, connection, unit.grant, guard).check(plan.targets)
    guard.unseen(plan.targets)
    consequences.check(writer, plan.targets, unit, at, queued)


def _follow(writer: Writer, connection: Connection, parts: Sequence[_Part], at: datetime, beside: dict[str, Current]) -> None:
    """Brings what depends on resources to what has been written; `beside` are the Slots that were foreseen to change."""
    for part in parts:
        part.guard.after([target for target in part.plan.targets if target.op != BY_SERVER])
    targets = [target for part in parts for target in part.plan.targets]
    consequences.bring_common(writer, connection, targets)
    for part in parts:
        changed = consequences.bring(writer, connection, part.plan.targets, part.unit.grant, beside, at)
        # In the caller's name, and by the server's own right.
        _write(writer, connection, [_Part(part.unit, (), part.guard, Plan(changed))], at, inside=True)


def _add_provenances(writer: Writer, plan: Plan, grant: Grant, at: datetime, sent: Resource | None) -> None:
    for resource in list(provenances(plan.targets, grant, at, sent, plan.links)):
        # Behind all ops: nobody is told what became of it.
        plan.targets.append(Target(_BESIDE, "Provenance", writer.new_id(), "P", resource=resource))


def _relink(plan: Plan) -> None:
    if plan.links:
        for target in plan.targets:
            if target.resource is not None:
                target.resource = relink(target.resource, plan.links)


def _finish(writer: Writer, plan: Plan, at: datetime) -> None:
    """Gives every new version its number, time and body."""
    new = [t for t in plan.targets if t.rid == 0]
    for target, rid in zip(new, writer.dictionary.resource_numbers(len(new)), strict=True):
        target.rid = rid
    for target in plan.targets:
        target.at = target.at or at
        if target.resource is not None:
            target.resource = stamp(target.resource, target.id, target.version, target.at)
            target.body = fhirjson.dumps(target.resource)


def _write(writer: Writer, connection: Connection, parts: Sequence[_Part], at: datetime, *, inside: bool) -> None:
    transactions: list[dict[str, Any]] = []
    callers: list[dict[str, Any]] = []
    targets: list[tuple[Target, int]] = []
    for part in parts:
        if part.plan.targets:
            unit, txn = part.unit, writer.dictionary.transaction_number()
            transactions.append({"txn": txn, "at": at, "actor": unit.grant.actor, "request_id": unit.request_id})
            callers.append({"txn": txn, **who(unit.grant), "address": unit.address or None, "request_id": unit.request_id or None})
            targets += [(target, txn) for target in part.plan.targets]
    # New ids that callers chose come last and in order, over all chunks; see WRITE.
    types = writer.dictionary.types
    targets.sort(key=lambda pair: (types[pair[0].type], pair[0].id) if pair[0].method == "U" and pair[0].current is None else (0, ""))
    remaining = iter(targets)
    while chunk := list(islice(remaining, CHUNK)):
        removed, added = _index_changes(writer, [target for target, _ in chunk])
        bodies = bytearray()
        versions = [_row(writer, target, txn, bodies) for target, txn in chunk]
        heard = not writer.parameters.heard.isdisjoint(target.type for target, _ in chunk)
        head = (bytes(bodies), versions, transactions, callers)
        write_rows(connection, writer.dictionary, writer.fit, head, removed, added, inside=inside, heard=heard)
        transactions = []


def _index_changes(writer: Writer, chunk: list[Target]) -> tuple[IndexRows, IndexRows]:
    removed: list[tuple[IndexRows, int]] = []
    added: list[tuple[IndexRows, int]] = []
    for target in chunk:
        new = writer.registry.rows(target.resource) if target.resource is not None else {}
        target.patients = compartment_of(writer.registry, target.type, new) | ({target.id} if target.type == "Patient" else set())
        current = target.current
        if current is not None and not current.deleted and current.body is not None:
            old = writer.registry.rows(fhirjson.loads(current.body.encode()))
            target.patients |= compartment_of(writer.registry, target.type, old)
            gone, new = difference(old, new)
            removed.append((gone, target.rid))
        added.append((new, target.rid))
    return merge(removed), merge(added)


def _row(writer: Writer, target: Target, txn: int, bodies: bytearray) -> dict[str, Any]:
    """A version as the statement takes it; its body is added to the others, from `start`, counted from 1."""
    start = len(bodies) + 1
    bodies += target.body or b""
    return {
        "rid": target.rid,
        "type": writer.dictionary.types[target.type],
        "id": target.id,
        "version": target.version,
        "method": target.method,
        "at": target.at,
        "txn": txn,
        "start": start,
        "size": len(target.body) if target.body is not None else None,
        **_event(target),
    }


def _event(target: Target) -> dict[str, Any]:
    """What the audit trail has of a version besides."""
    kind, action = ("create", "C") if target.version == 1 else _EVENTS[target.method]
    return {"kind": kind, "action": action, "name": target.type, "patients": sorted(target.patients)}


def _commit(part: _Part, at: datetime) -> Commit:
    plan = part.plan
    for target in plan.targets:
        version = Version(target.type, target.id, target.version, target.at or at, METHODS[target.method], target.body)
        created = target.current is None or target.current.deleted
        outcome = "deleted" if target.method == "D" else "created" if created else "updated"
        plan.written[target.op] = Written(outcome, version, plan.deleted.get(target.op, 0))  # type: ignore[arg-type]  # as above
    return Commit(tuple(plan.written[n] for n in range(len(part.ops))), at, plan.links)
