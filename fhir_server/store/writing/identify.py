"""Which resource each op of a transaction is about: conditions found under their locks, links and conditional references given their targets.

https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Query
from fhir_server.search.query import Filter
from fhir_server.store.database import Connection
from fhir_server.store.ops import Create, Delete, Lookup, Op, Patch, Put, Written

from .conditions import Match, lock_conditions, match_all
from .plan import Plan, Target, Writer

_MAX_DELETED: Final = 10_000


def plan_create(writer: Writer, plan: Plan, number: int, op: Create) -> None:
    """Adds the target of a create that makes something."""
    name = op.resource["resourceType"]
    target = Target(number, name, writer.new_id(), "P", resource=op.resource)
    plan.targets.append(target)
    _link(plan, op.link, name, target.id)


def _link(plan: Plan, link: str | None, name: str, identity: str) -> None:
    if link is not None:
        plan.links[link] = f"{name}/{identity}"


def identify(writer: Writer, connection: Connection, plan: Plan, ops: Sequence[Op], grant: Grant, lookups: Sequence[Lookup]) -> None:
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


def _takes_all(op: Op) -> bool:
    return isinstance(op, Delete) and op.multiple


def _only(op: Op, match: list[Match] | None) -> int | None:
    """The version number of the one match, None without one. Raises Outcome where there are more than the op may have."""
    if match is not None and len(match) > (_MAX_DELETED if _takes_all(op) else 1):
        raise Outcome("multiple-matches", f"The condition has more than {f'{_MAX_DELETED:,} matches' if _takes_all(op) else 'one match'}")
    return match[0].vid if match else None


def _refuse_same_condition(unmatched: list[Query]) -> None:
    """Two writes that would each make what both ask for would make it twice."""
    seen: set[tuple[str, frozenset[Filter]]] = set()
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


def _identify_one(writer: Writer, plan: Plan, number: int, op: Op, match: list[Match] | None) -> None:
    met = _only(op, match)
    if isinstance(op, Create):
        if match:
            _link(plan, op.link, match[0].type, match[0].id)
            plan.targets.append(Target(number, match[0].type, match[0].id, "F", met=met))
        else:
            plan_create(writer, plan, number, op)
    elif isinstance(op, Delete):
        if match is None:
            plan.targets.append(Target(number, op.type, op.id or "", "D"))
        for m in match or ():
            plan.targets.append(Target(number, m.type, m.id, "D", met=m.vid))
        if not match and match is not None:
            plan.written[number] = Written("nothing", None)
    elif isinstance(op, Patch):
        if match is not None and not match:
            raise Outcome("not-found", "Nothing matches the condition of the patch")
        identity = match[0].id if match else op.id or ""
        plan.targets.append(Target(number, op.type, identity, "A", met=met))
        _link(plan, op.link, op.type, identity)
    else:
        name, own = op.resource["resourceType"], op.resource.get("id")
        if match and own is not None and own != match[0].id:
            raise Outcome("parameter", f"The condition matches {name}/{match[0].id}, but the body has the id '{own}'", expression=f"{name}.id")
        identity = match[0].id if match else op.id or own or writer.new_id()
        plan.targets.append(Target(number, name, identity, "U", resource=op.resource, unmatched=match is not None and not match, met=met))
        _link(plan, op.link, name, identity)


def refuse_twice(targets: Iterable[Target]) -> None:
    """Raises Outcome `parameter` where one resource would be written more than once."""
    seen: set[tuple[str, str]] = set()
    for target in targets:
        if target.method == "F":
            continue
        if (target.type, target.id) in seen:
            raise Outcome("parameter", f"The transaction writes {target.type}/{target.id} more than once", code="duplicate")
        seen.add((target.type, target.id))
