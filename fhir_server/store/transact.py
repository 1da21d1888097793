"""The only writer. https://hl7.org/fhir/R4/http.html#transaction

A list of ops becomes one database transaction: conditions are resolved under locks, links rewritten, versions checked, bodies appended,
index rows replaced by their difference. The number of statements depends on the number of chunks, not of ops:
a list of plain creates that fits one chunk is a single statement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Query, Registry
from fhir_server.search.grant import Permission
from fhir_server.search.query import Criterion

from .conditions import Match, lock_conditions, match_all
from .database import Changed, Connection, Database
from .dictionary import Dictionary
from .index import IndexRows, difference, merge, write_rows
from .integrity import check_deletes, check_references
from .links import relink
from .ops import Commit, Create, Delete, Lookup, Op, Patch, Put, Resource, Version, Written
from .snapshot import METHODS, Snapshot
from .statements import BODIES, LOCK, LOCK_TO_DELETE, WRITE

CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Writer:
    """What a transaction needs besides its ops."""

    database: Database
    registry: Registry
    dictionary: Dictionary
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    referential_integrity: bool


@dataclass(slots=True)
class _Current:
    rid: int
    version: int
    deleted: bool
    updated: datetime
    body: str | None
    vid: int


@dataclass(slots=True)
class _Target:
    """One resource that an op writes: what is there now, and what will be. `met` is the version number that met the op's condition."""

    op: int
    type: str
    id: str
    method: str
    rid: int = 0
    version: int = 1
    at: datetime | None = None
    current: _Current | None = None
    resource: Resource | None = None
    body: bytes | None = None
    unmatched: bool = False
    met: int | None = None


@dataclass(slots=True)
class _Plan:
    targets: list[_Target] = field(default_factory=list)
    written: dict[int, Written] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    deleted: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extras:
    """What a transaction may carry besides its ops; see `Store.transact`."""

    request_id: str = ""
    lookups: Sequence[Lookup] = ()
    once: bytes | None = None
    then: Callable[[Snapshot], None] | None = None


def transact(writer: Writer, ops: Sequence[Op], grant: Grant, extras: Extras) -> Commit:
    """Does all ops or none. See `Store.transact`."""
    _check_grant(ops, grant)
    alone = not (extras.lookups or extras.once or extras.then or writer.referential_integrity)
    if alone and len(ops) <= CHUNK and all(type(op) is Create and op.if_none_exist is None for op in ops):
        return writer.database.retrying(lambda connection: _create(writer, connection, ops, grant, extras.request_id))
    return writer.database.retrying(lambda connection: _transaction(writer, connection, ops, grant, extras))


def _check_grant(ops: Sequence[Op], grant: Grant) -> None:
    for op in ops:
        name = op.resource["resourceType"] if isinstance(op, (Create, Put)) else op.type
        permission: Permission = "c" if isinstance(op, Create) else "d" if isinstance(op, Delete) else "u"
        if not grant.allows(name, permission):
            verb = {"c": "create", "u": "update", "d": "delete"}[permission]
            raise Outcome("forbidden", f"The token does not allow to {verb} {name}")
        if grant.patient is not None:
            raise Outcome("forbidden", "A token that is held to one patient's record may read it, but not change it")


def _create(writer: Writer, connection: Connection, ops: Sequence[Op], grant: Grant, request_id: str) -> Commit:
    """Creates with nothing to look up first: one statement, committed by itself."""
    plan = _Plan()
    for number, op in enumerate(ops):
        assert isinstance(op, Create)
        _plan_create(writer, plan, number, op)
    _relink(plan)
    at = writer.clock()
    _finish(writer, plan, at)
    _write(writer, connection, plan.targets, at, grant, request_id, inside=False)
    return _commit(plan, len(ops), at)


def _transaction(writer: Writer, connection: Connection, ops: Sequence[Op], grant: Grant, extras: Extras) -> Commit:
    plan = _Plan()
    with connection.transaction():
        if extras.once is not None:
            new = connection.execute("INSERT INTO once (key) VALUES (%s) ON CONFLICT DO NOTHING RETURNING key", (extras.once,)).fetchone()
            if new is None:
                return Commit((), writer.clock(), repeated=True)
        _identify(writer, connection, plan, ops, grant, extras.lookups)
        _relink(plan)
        _load_current(writer, connection, plan)
        at = writer.clock()
        _apply(plan, ops, at)
        _finish(writer, plan, at)
        if writer.referential_integrity:
            deleted = [(t.type, t.id) for t in plan.targets if t.method == "D"]
            kept = {(t.type, t.id) for t in plan.targets if t.body is not None}
            check_references(connection, writer.dictionary, _new_rows(writer, plan), kept, deleted)
            check_deletes(connection, writer.dictionary, deleted, {t.rid for t in plan.targets})
        _write(writer, connection, plan.targets, at, grant, extras.request_id, inside=True)
        if extras.then is not None:
            extras.then(Snapshot(connection, writer.registry, writer.dictionary, grant))
    return _commit(plan, len(ops), at)


def _new_rows(writer: Writer, plan: _Plan) -> IndexRows:
    # The reference rows of a Bundle name resources that stand in the Bundle itself.
    return merge((writer.registry.rows(t.resource), t.rid) for t in plan.targets if t.resource is not None and t.type != "Bundle")


# --- who is written -------------------------------------------------------------------------------------------------------------


def _plan_create(writer: Writer, plan: _Plan, number: int, op: Create) -> None:
    name = op.resource["resourceType"]
    target = _Target(number, name, writer.new_id(), "P", resource=op.resource)
    plan.targets.append(target)
    _link(plan, op.link, name, target.id)


def _link(plan: _Plan, link: str | None, name: str, identity: str) -> None:
    if link is not None:
        plan.links[link] = f"{name}/{identity}"


def _identify(writer: Writer, connection: Connection, plan: _Plan, ops: Sequence[Op], grant: Grant, lookups: Sequence[Lookup]) -> None:
    """Finds out which resource each op is about, and where conditional references point."""
    criteria = [(n, query) for n, op in enumerate(ops) if (query := op.if_none_exist if isinstance(op, Create) else op.criteria) is not None]
    lock_conditions(connection, [query for _, query in criteria])
    queries = [query for _, query in criteria] + [lookup.query for lookup in lookups]
    # Two matches are one too many, unless some of them are deleted here.
    several = 2 + sum(isinstance(op, Delete) for op in ops)
    limits = [_MAX_DELETED + 1 if _takes_all(ops[n]) else several for n, _ in criteria] + [several] * len(lookups)
    found = match_all(connection, writer.registry, grant, queries, limits)
    matches = {n: found[i] for i, (n, _) in enumerate(criteria)}
    # Deletes come first in a transaction: what they take away, no other condition may find.
    gone = {(m.type, m.id) for n, op in enumerate(ops) if isinstance(op, Delete) for m in matches.get(n, [Match(op.type, op.id or "", 0)])}
    if gone:
        for n, match in matches.items():
            if not isinstance(ops[n], Delete):
                matches[n] = [m for m in match if (m.type, m.id) not in gone]
    for lookup, match in zip(lookups, found[len(criteria) :], strict=True):
        plan.links[lookup.text] = _one_reference(lookup, [m for m in match if (m.type, m.id) not in gone])
    _refuse_same_condition([query for n, query in criteria if isinstance(ops[n], (Create, Put)) and not matches[n]])
    for number, op in enumerate(ops):
        _identify_one(writer, plan, number, op, matches.get(number))
    _refuse_twice(plan.targets)


_MAX_DELETED: Final = 10_000


def _takes_all(op: Op) -> bool:
    return isinstance(op, Delete) and op.multiple


def _only(op: Op, match: list[Match] | None) -> int | None:
    """The version number of the one match, None without one. Raises Outcome where there are more than the op may have."""
    if match is not None and len(match) > (_MAX_DELETED if _takes_all(op) else 1):
        raise Outcome("multiple-matches", f"The condition has more than {f'{_MAX_DELETED:,} matches' if _takes_all(op) else 'one match'}")
    return match[0].vid if match else None


def _refuse_same_condition(unmatched: list[Query]) -> None:
    """Two writes that would each make what both ask for would make it twice."""
    seen: set[tuple[str, frozenset[Criterion]]] = set()
    for query in unmatched:
        key = (query.type, frozenset(query.filters))
        if key in seen:
            raise Outcome("parameter", f"The transaction has two entries with the condition '{query.text}', which nothing matches", code="duplicate")
        seen.add(key)


def _one_reference(lookup: Lookup, match: list[Match]) -> str:
    if len(match) == 1:
        return f"{match[0].type}/{match[0].id}"
    if match:
        raise Outcome("multiple-matches", f"The conditional reference '{lookup.text}' has more than one match")
    raise Outcome("precondition", f"The conditional reference '{lookup.text}' has no match", code="not-found")


def _identify_one(writer: Writer, plan: _Plan, number: int, op: Op, match: list[Match] | None) -> None:
    met = _only(op, match)
    if isinstance(op, Create):
        if match:
            _link(plan, op.link, match[0].type, match[0].id)
            plan.targets.append(_Target(number, match[0].type, match[0].id, "F", met=met))
        else:
            _plan_create(writer, plan, number, op)
    elif isinstance(op, Delete):
        if match is None:
            plan.targets.append(_Target(number, op.type, op.id or "", "D"))
        for m in match or ():
            plan.targets.append(_Target(number, m.type, m.id, "D", met=m.vid))
        if not match and match is not None:
            plan.written[number] = Written("nothing", None)
    elif isinstance(op, Patch):
        if match is not None and not match:
            raise Outcome("not-found", "Nothing matches the condition of the patch")
        identity = match[0].id if match else op.id or ""
        plan.targets.append(_Target(number, op.type, identity, "A", met=met))
        _link(plan, op.link, op.type, identity)
    else:
        name, own = op.resource["resourceType"], op.resource.get("id")
        if match and own is not None and own != match[0].id:
            raise Outcome("parameter", f"The condition matches {name}/{match[0].id}, but the body has the id '{own}'", expression=f"{name}.id")
        identity = match[0].id if match else op.id or own or writer.new_id()
        plan.targets.append(_Target(number, name, identity, "U", resource=op.resource, unmatched=match is not None and not match, met=met))
        _link(plan, op.link, name, identity)


def _refuse_twice(targets: list[_Target]) -> None:
    seen: set[tuple[str, str]] = set()
    for target in targets:
        if target.method == "F":
            continue
        if (target.type, target.id) in seen:
            raise Outcome("parameter", f"The transaction writes {target.type}/{target.id} more than once", code="duplicate")
        seen.add((target.type, target.id))


def _relink(plan: _Plan) -> None:
    if plan.links:
        for target in plan.targets:
            if target.resource is not None:
                target.resource = relink(target.resource, plan.links)


# --- what is there, and what will be -----------------------------------------------------------------------------------------------


def _load_current(writer: Writer, connection: Connection, plan: _Plan) -> None:
    wanted = [t for t in plan.targets if t.method != "P"]
    if not wanted:
        return
    types = [writer.dictionary.types[t.type] for t in wanted]
    statement = LOCK_TO_DELETE if any(t.method == "D" for t in wanted) else LOCK
    rows = connection.execute(statement, (types, [t.id for t in wanted])).fetchall()
    unseen = [row[7] for row in rows if row[6] is None and not row[4]]
    bodies: dict[int, str] = dict(connection.execute(BODIES, (unseen,)).fetchall()) if unseen else {}
    current: dict[tuple[str, str], _Current] = {}
    for tid, identity, rid, version, deleted, updated, body, vid in rows:
        current[writer.dictionary.names[tid], identity] = _Current(rid, version, deleted, updated, body or bodies.get(vid), vid)
    for target in wanted:
        target.current = found = current.get((target.type, target.id))
        if target.met is not None and (found is None or found.vid != target.met):
            raise Changed


def _apply(plan: _Plan, ops: Sequence[Op], at: datetime) -> None:
    """Checks each op against what is there; leaves the targets that are to be written."""
    kept = []
    for target in plan.targets:
        op, current = ops[target.op], target.current
        alive = current is not None and not current.deleted
        if target.method == "F":
            assert current is not None
            plan.written[target.op] = Written("found", _version_of(target, current))
            continue
        _check_preconditions(target, op, current, alive=alive)
        if isinstance(op, Delete):
            if not alive:
                plan.written.setdefault(target.op, Written("nothing", None))
                continue
            plan.deleted[target.op] = plan.deleted.get(target.op, 0) + 1
        elif isinstance(op, Patch):
            # What a patch brings in may point to other entries, too.
            target.resource = relink(_patched(target, op, current), plan.links)
        elif isinstance(op, Put) and alive and current is not None and current.body is not None:
            target.resource = carry_labels(fhirjson.loads(current.body.encode()), target.resource or op.resource)
        if current is not None:
            target.rid, target.version = current.rid, current.version + 1
            # Clocks may stand still or run back; the versions of one resource never do.
            target.at = max(at, current.updated + timedelta(milliseconds=1))
        kept.append(target)
    plan.targets = kept


def _check_preconditions(target: _Target, op: Op, current: _Current | None, *, alive: bool) -> None:
    if not isinstance(op, Create) and op.if_match is not None:
        _check_version(target, op.if_match, current)
    if isinstance(op, Put) and op.absent and alive:
        raise Outcome("precondition", f"{target.type}/{target.id} exists, and If-None-Match: * asks that it does not")
    if target.unmatched and alive:
        raise Outcome("conflict", f"{target.type}/{target.id} exists, but the condition does not match it")


def _check_version(target: _Target, wanted: str, current: _Current | None) -> None:
    if current is None:
        raise Outcome("precondition", f"{target.type}/{target.id} does not exist, so it has no version {wanted}")
    if str(current.version) != wanted:
        raise Outcome("precondition", f"{target.type}/{target.id} is at version {current.version}, not {wanted}; read it again before changing it")


def _patched(target: _Target, op: Patch, current: _Current | None) -> Resource:
    if current is None:
        raise Outcome("not-found", f"{target.type}/{target.id} does not exist")
    if current.deleted or current.body is None:
        raise Outcome("gone", f"{target.type}/{target.id} is deleted")
    return op.apply(fhirjson.loads(current.body.encode()))


def carry_labels(before: Resource, after: Resource) -> Resource:
    """The new content with the tags and security labels of the old one that it does not mention: a patch takes labels off, silence does not.

    https://hl7.org/fhir/R4/resource.html#Meta
    """
    old = before.get("meta", {})
    meta = dict(after.get("meta", {}))
    for name in ("security", "tag"):
        labels = meta.get(name, [])
        known = {(label.get("system"), label.get("code")) for label in labels}
        missing = [label for label in old.get(name, ()) if (label.get("system"), label.get("code")) not in known]
        if missing:
            meta[name] = labels + missing
    return {**after, "meta": meta} if meta else after


def _finish(writer: Writer, plan: _Plan, at: datetime) -> None:
    """Gives every new version its number, time and body."""
    new = [t for t in plan.targets if t.rid == 0]
    for target, rid in zip(new, writer.dictionary.resource_numbers(len(new)), strict=True):
        target.rid = rid
    for target in plan.targets:
        target.at = target.at or at
        if target.resource is not None:
            target.resource = stamp(target.resource, target.id, target.version, target.at)
            target.body = fhirjson.dumps(target.resource)


def stamp(resource: Resource, identity: str, version: int, at: datetime) -> Resource:
    """The resource with the server's id and meta, both in front; what else `meta` holds is kept."""
    own = ("versionId", "lastUpdated", "_versionId", "_lastUpdated")
    meta = {"versionId": str(version), "lastUpdated": instant(at)} | {key: value for key, value in resource.get("meta", {}).items() if key not in own}
    front = {"resourceType": resource["resourceType"], "id": identity, "meta": meta}
    return front | {key: value for key, value in resource.items() if key not in front}


def instant(at: datetime) -> str:
    """A time in UTC as a FHIR instant with milliseconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


# --- the writing -------------------------------------------------------------------------------------------------------------------


def _write(writer: Writer, connection: Connection, targets: list[_Target], at: datetime, grant: Grant, request_id: str, *, inside: bool) -> None:
    if not targets:
        return
    txn = writer.dictionary.transaction_number()
    transaction: list[dict[str, Any]] = [{"txn": txn, "at": at, "actor": grant.actor, "request_id": request_id}]
    # New ids that callers chose come last and in order, over all chunks; see WRITE.
    types = writer.dictionary.types
    remaining = iter(sorted(targets, key=lambda t: (types[t.type], t.id) if t.method == "U" and t.current is None else (0, "")))
    while chunk := list(islice(remaining, CHUNK)):
        removed, added = _index_changes(writer, chunk)
        versions = [_row(writer, target, txn) for target in chunk]
        write_rows(connection, writer.dictionary, WRITE, (versions, transaction), removed, added, inside=inside)
        transaction = []


def _index_changes(writer: Writer, chunk: list[_Target]) -> tuple[IndexRows, IndexRows]:
    removed: list[tuple[IndexRows, int]] = []
    added: list[tuple[IndexRows, int]] = []
    for target in chunk:
        new = writer.registry.rows(target.resource) if target.resource is not None else {}
        current = target.current
        if current is not None and not current.deleted and current.body is not None:
            old = writer.registry.rows(fhirjson.loads(current.body.encode()))
            gone, new = difference(old, new)
            removed.append((gone, target.rid))
        added.append((new, target.rid))
    return merge(removed), merge(added)


def _row(writer: Writer, target: _Target, txn: int) -> dict[str, Any]:
    return {
        "rid": target.rid,
        "type": writer.dictionary.types[target.type],
        "id": target.id,
        "version": target.version,
        "method": target.method,
        "at": target.at,
        "txn": txn,
        "body": target.body.decode() if target.body is not None else None,
    }


def _commit(plan: _Plan, count: int, at: datetime) -> Commit:
    for target in plan.targets:
        version = Version(target.type, target.id, target.version, target.at or at, METHODS[target.method], target.body)
        created = target.current is None or target.current.deleted
        outcome = "deleted" if target.method == "D" else "created" if created else "updated"
        plan.written[target.op] = Written(outcome, version, plan.deleted.get(target.op, 0))  # type: ignore[arg-type]  # as above
    return Commit(tuple(plan.written[n] for n in range(count)), at, plan.links)


def _version_of(target: _Target, current: _Current) -> Version:
    return Version(target.type, target.id, current.version, current.updated, "POST", current.body.encode() if current.body else None)
