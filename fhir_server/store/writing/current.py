"""What is there now of the resources that a transaction is about, locked, and what its ops make of that.

https://hl7.org/fhir/R4/http.html#concurrency
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.store.database import Changed, Connection
from fhir_server.store.index.statements import BODIES, LOCK, LOCK_TO_DELETE, STAYING
from fhir_server.store.ops import Create, Delete, Op, Patch, Put, Resource, Version, Written

from .content import carry_labels
from .links import relink
from .plan import BY_SERVER, Current, Plan, Target, Writer


def hold(writer: Writer, connection: Connection, seen: Sequence[tuple[str, str, int]]) -> None:
    """Raises Outcome `conflict` where a resource is not of the version that a unit goes by; the others stay so."""
    if wanted := sorted({(writer.dictionary.types[name], identity, version) for name, identity, version in seen}):
        types, ids, versions = (list(column) for column in zip(*wanted, strict=True))
        if len(connection.execute(STAYING, (types, ids, versions)).fetchall()) < len(wanted):
            raise Outcome("conflict", "What this goes by was changed at the same moment", code="transient")


def load_current(writer: Writer, connection: Connection, targets: Sequence[Target], slots: Collection[str] = ()) -> dict[str, Current]:
    """Locks what is to be changed, and gives each target its current version; the same of some `slots`, by id, are the answer.

    All in one statement, and so in the same order as everybody. Raises Changed where a condition was met by another version.
    """
    types = writer.dictionary.types
    wanted = [t for t in targets if t.method != "P"]
    keys = dict.fromkeys([(types[t.type], t.id) for t in wanted] + [(types["Slot"], identity) for identity in slots])
    if not keys:
        return {}
    current = locked(writer, connection, list(keys), LOCK_TO_DELETE if any(t.method == "D" for t in wanted) else LOCK)
    for target in wanted:
        target.current = found = current.get((target.type, target.id))
        if target.met is not None and (found is None or found.vid != target.met):
            raise Changed
    return {identity: found for (name, identity), found in current.items() if name == "Slot" and not found.deleted}


def locked(writer: Writer, connection: Connection, keys: Sequence[tuple[int, str]], statement: str = LOCK) -> dict[tuple[str, str], Current]:
    """The current versions of some resources, by number of their type and id, locked until the transaction ends."""
    rows = connection.execute(statement, ([number for number, _ in keys], [identity for _, identity in keys])).fetchall()
    unseen = [row[7] for row in rows if row[6] is None and not row[4]]
    bodies: dict[int, str] = dict(connection.execute(BODIES, (unseen,)).fetchall()) if unseen else {}
    return {
        (writer.dictionary.names[number], identity): Current(rid, version, deleted, updated, body or bodies.get(vid), vid)
        for number, identity, rid, version, deleted, updated, body, vid in rows
    }


def following(writer: Writer, connection: Connection, name: str, identity: str, at: datetime) -> Target | None:
    """A resource that follows what others write, locked, to be changed by the server's own right; None where there is none."""
    current = locked(writer, connection, [(writer.dictionary.types[name], identity)]).get((name, identity))
    if current is None or current.deleted or current.body is None:
        return None
    later = max(at, current.updated + timedelta(milliseconds=1))
    return Target(BY_SERVER, name, identity, "U", current.rid, current.version + 1, later, current, fhirjson.loads(current.body.encode()))


def apply(plan: Plan, ops: Sequence[Op], at: datetime) -> None:
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


def _version_of(target: Target, current: Current) -> Version:
    return Version(target.type, target.id, current.version, current.updated, "POST", current.body.encode() if current.body else None)
