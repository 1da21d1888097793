"""The only writer. https://hl7.org/fhir/R4/http.html#transaction

A list of ops becomes one database transaction: conditions are resolved under locks, links rewritten, versions checked, bodies appended,
index rows replaced by their difference. The number of statements depends on the number of chunks, not of ops:
a list of plain creates that fits one chunk is a single statement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.compartment import compartment_of
from fhir_server.search.grant import Permission

from . import bills, consents, lifecycle, occupancy, prescriptions
from .content import carry_labels, stamp
from .database import Changed, Connection
from .guard import Guard, is_open
from .identify import identify, plan_create
from .index import IndexRows, difference, merge, write_rows
from .integrity import Integrity
from .links import relink
from .ops import Commit, Create, Delete, Lookup, Op, Patch, Put, Resource, Version, Written
from .parameters import follow
from .plan import Current, Plan, Target, Writer
from .provenance import provenances
from .snapshot import METHODS, Snapshot
from .statements import BODIES, LOCK, LOCK_TO_DELETE
from .trail import who

CHUNK: Final = 500
_BESIDE: Final = -1
Ops = Sequence[Op] | Callable[[Connection, Snapshot], Sequence[Op]]
_EVENTS: Final = {"P": ("create", "C"), "U": ("update", "U"), "A": ("patch", "U"), "D": ("delete", "D")}


@dataclass(frozen=True, slots=True)
class Extras:
    """What a transaction may carry besides its ops; see `Store.transact`."""

    request_id: str = ""
    lookups: Sequence[Lookup] = ()
    once: bytes | None = None
    then: Callable[[Snapshot], None] | None = None
    address: str = ""
    provenance: Resource | None = None
    beside: Callable[[Connection, Commit], None] | None = None
    operation: str = ""


def transact(writer: Writer, ops: Ops, grant: Grant, extras: Extras) -> Commit:
    """Does all ops or none. See `Store.transact`."""
    if callable(ops):
        return writer.database.retrying(lambda connection: _transaction(writer, connection, ops, grant, extras))
    _refuse_events(ops)
    _check_grant(ops, grant)
    followed = _is_followed(ops, grant)
    alone = not (extras.lookups or extras.once or extras.then or extras.provenance or extras.beside or writer.referential_integrity or followed)
    if alone and len(ops) <= CHUNK and all(type(op) is Create and op.if_none_exist is None for op in ops) and _all_open(ops, grant):
        return writer.database.retrying(lambda connection: _create(writer, connection, ops, grant, extras))
    return writer.database.retrying(lambda connection: _transaction(writer, connection, ops, grant, extras))


def _is_followed(ops: Sequence[Op], grant: Grant) -> bool:
    """Whether some op is of a kind that rules or rows of its own depend on."""
    by_ops = (defines_parameters, consents.concerns, occupancy.concerns, bills.concerns)
    return any(concerns(ops) for concerns in by_ops) or prescriptions.concerns(ops, grant)


def defines_parameters(ops: Sequence[Op]) -> bool:
    """Whether some op is about a SearchParameter."""
    return any((op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type) == "SearchParameter" for op in ops)


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


def _all_open(ops: Sequence[Op], grant: Grant) -> bool:
    return all(is_open(grant, name, "c") for name in {op.resource["resourceType"] for op in ops if isinstance(op, Create)})


def _create(writer: Writer, connection: Connection, ops: Sequence[Op], grant: Grant, extras: Extras) -> Commit:
    """Creates with nothing to look up first: one statement, committed by itself."""
    plan = Plan()
    for number, op in enumerate(ops):
        assert isinstance(op, Create)
        plan_create(writer, plan, number, op)
    _relink(plan)
    at = writer.clock()
    _finish(writer, plan, at)
    _write(writer, connection, plan.targets, at, grant, extras, inside=False)
    return _commit(plan, len(ops), at)


def _transaction(writer: Writer, connection: Connection, asked: Ops, grant: Grant, extras: Extras) -> Commit:
    plan = Plan()
    with connection.transaction():
        if callable(asked):
            ops = asked(connection, Snapshot(connection, writer.registry, writer.dictionary, grant))
            _refuse_events(ops)
            _check_grant(ops, grant)
        else:
            ops = asked
        if extras.once is not None:
            new = connection.execute("INSERT INTO once (key) VALUES (%s) ON CONFLICT DO NOTHING RETURNING key", (extras.once,)).fetchone()
            if new is None:
                return Commit((), writer.clock(), repeated=True)
        identify(writer, connection, plan, ops, grant, extras.lookups)
        _relink(plan)
        _load_current(writer, connection, plan)
        guard = Guard(connection, writer.registry, grant)
        guard.before(plan.targets)
        at = writer.clock()
        _apply(plan, ops, at)
        guard.changes(plan.targets)
        _add_provenances(writer, plan, grant, at, extras.provenance)
        _finish(writer, plan, at)
        if writer.referential_integrity:
            Integrity(writer, connection, grant, guard).check(plan.targets)
        guard.unseen(plan.targets)
        lifecycle.check(plan.targets, grant, at, writer.registry.zone)
        bills.check(plan.targets, grant, extras.operation)
        _write(writer, connection, plan.targets, at, grant, extras, inside=True)
        guard.after(plan.targets)
        if parameters := [(t.id, t.resource) for t in plan.targets if t.type == "SearchParameter"]:
            follow(connection, parameters)
        consents.follow(connection, writer.registry, plan.targets)
        occupancy.follow(connection, writer.registry, plan.targets, grant, at)
        bills.follow(connection, writer.registry, plan.targets)
        prescriptions.check(plan.targets, writer.registry, grant, Snapshot(connection, writer.registry, writer.dictionary, grant))
        if extras.then is not None:
            extras.then(Snapshot(connection, writer.registry, writer.dictionary, grant))
        commit = _commit(plan, len(ops), at)
        if extras.beside is not None:
            extras.beside(connection, commit)
    return commit


def _add_provenances(writer: Writer, plan: Plan, grant: Grant, at: datetime, sent: Resource | None) -> None:
    for resource in list(provenances(plan.targets, grant, at, sent, plan.links)):
        # Behind all ops: nobody is told what became of it.
        plan.targets.append(Target(_BESIDE, "Provenance", writer.new_id(), "P", resource=resource))


def _relink(plan: Plan) -> None:
    if plan.links:
        for target in plan.targets:
            if target.resource is not None:
                target.resource = relink(target.resource, plan.links)


def _load_current(writer: Writer, connection: Connection, plan: Plan) -> None:
    wanted = [t for t in plan.targets if t.method != "P"]
    if not wanted:
        return
    types = [writer.dictionary.types[t.type] for t in wanted]
    statement = LOCK_TO_DELETE if any(t.method == "D" for t in wanted) else LOCK
    rows = connection.execute(statement, (types, [t.id for t in wanted])).fetchall()
    unseen = [row[7] for row in rows if row[6] is None and not row[4]]
    bodies: dict[int, str] = dict(connection.execute(BODIES, (unseen,)).fetchall()) if unseen else {}
    current: dict[tuple[str, str], Current] = {}
    for tid, identity, rid, version, deleted, updated, body, vid in rows:
        current[writer.dictionary.names[tid], identity] = Current(rid, version, deleted, updated, body or bodies.get(vid), vid)
    for target in wanted:
        target.current = found = current.get((target.type, target.id))
        if target.met is not None and (found is None or found.vid != target.met):
            raise Changed


def _apply(plan: Plan, ops: Sequence[Op], at: datetime) -> None:
    """Checks each op against what is there; leaves the targets that are to be written."""
    kept = []
    for target in plan.targets:
        op, current = ops[target.op], target.current
        known = None if target.unseen else current
        alive = known is not None and not known.deleted
        if target.method == "F":
            assert current is not None
            plan.written[target.op] = Written("found", _version_of(target, current))
            continue
        _check_preconditions(target, op, known, alive=alive)
        if isinstance(op, Delete):
            if not alive:
                plan.written.setdefault(target.op, Written("nothing", None))
                continue
            plan.deleted[target.op] = plan.deleted.get(target.op, 0) + 1
        elif isinstance(op, Patch):
            # What a patch brings in may point to other entries, too.
            target.resource = relink(_patched(target, op, known), plan.links)
        elif isinstance(op, Put) and alive and current is not None and current.body is not None:
            target.resource = carry_labels(fhirjson.loads(current.body.encode()), target.resource or op.resource)
        if current is not None:
            target.rid, target.version = current.rid, current.version + 1
            # Clocks may stand still or run back; the versions of one resource never do.
            target.at = max(at, current.updated + timedelta(milliseconds=1))
        kept.append(target)
    plan.targets = kept


def _check_preconditions(target: Target, op: Op, current: Current | None, *, alive: bool) -> None:
    if not isinstance(op, Create) and op.if_match is not None:
        _check_version(target, op.if_match, current)
    if isinstance(op, Put) and op.absent and alive:
        raise Outcome("precondition", f"{target.type}/{target.id} exists, and If-None-Match: * asks that it does not")
    if target.unmatched and alive:
        raise Outcome("conflict", f"{target.type}/{target.id} exists, but the condition does not match it")


def _check_version(target: Target, wanted: str, current: Current | None) -> None:
    if current is None:
        raise Outcome("precondition", f"{target.type}/{target.id} does not exist, so it has no version {wanted}")
    if str(current.version) != wanted:
        raise Outcome("precondition", f"{target.type}/{target.id} is at version {current.version}, not {wanted}; read it again before changing it")


def _patched(target: Target, op: Patch, current: Current | None) -> Resource:
    if current is None:
        raise Outcome("not-found", f"{target.type}/{target.id} does not exist")
    if current.deleted or current.body is None:
        raise Outcome("gone", f"{target.type}/{target.id} is deleted")
    return op.apply(fhirjson.loads(current.body.encode()))


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


def _write(writer: Writer, connection: Connection, targets: list[Target], at: datetime, grant: Grant, extras: Extras, *, inside: bool) -> None:
    if not targets:
        return
    txn = writer.dictionary.transaction_number()
    transaction: list[dict[str, Any]] = [{"txn": txn, "at": at, "actor": grant.actor, "request_id": extras.request_id}]
    caller = who(grant) | {"address": extras.address or None, "request_id": extras.request_id or None}
    # New ids that callers chose come last and in order, over all chunks; see WRITE.
    types = writer.dictionary.types
    remaining = iter(sorted(targets, key=lambda t: (types[t.type], t.id) if t.method == "U" and t.current is None else (0, "")))
    while chunk := list(islice(remaining, CHUNK)):
        removed, added = _index_changes(writer, chunk)
        versions = [_row(writer, target, txn) for target in chunk]
        heard = not writer.parameters.heard.isdisjoint(target.type for target in chunk)
        write_rows(connection, writer.dictionary, writer.fit, (versions, transaction, caller), removed, added, inside=inside, heard=heard)
        transaction = []


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


def _row(writer: Writer, target: Target, txn: int) -> dict[str, Any]:
    return {
        "rid": target.rid,
        "type": writer.dictionary.types[target.type],
        "id": target.id,
        "version": target.version,
        "method": target.method,
        "at": target.at,
        "txn": txn,
        "body": target.body.decode() if target.body is not None else None,
        **_event(target),
    }


def _event(target: Target) -> dict[str, Any]:
    """What the audit trail has of a version besides."""
    kind, action = ("create", "C") if target.version == 1 else _EVENTS[target.method]
    return {"kind": kind, "action": action, "name": target.type, "patients": sorted(target.patients)}


def _commit(plan: Plan, count: int, at: datetime) -> Commit:
    for target in plan.targets:
        version = Version(target.type, target.id, target.version, target.at or at, METHODS[target.method], target.body)
        created = target.current is None or target.current.deleted
        outcome = "deleted" if target.method == "D" else "created" if created else "updated"
        plan.written[target.op] = Written(outcome, version, plan.deleted.get(target.op, 0))  # type: ignore[arg-type]  # as above
    return Commit(tuple(plan.written[n] for n in range(count)), at, plan.links)


def _version_of(target: Target, current: Current) -> Version:
    return Version(target.type, target.id, current.version, current.updated, "POST", current.body.encode() if current.body else None)
