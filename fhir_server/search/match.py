"""Whether a resource matches a query, decided in memory: the same answer as the SQL's, by the same rows.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from .compartment import BEHIND, PUBLIC, compartment_of, compartment_pids
from .grant import SYSTEM, Denial, Grant, Party, Way
from .params import date, kind_of, reference
from .query import OF_THE_POINTER, AllOf, AnyOf, Chain, Criterion, Filter, Gathered, Has, Hierarchy, Itself, Not, Param, Query, within
from .registry import Registry
from .tree import Rows

Resource = dict[str, Any]


class World(Protocol):
    """The other resources that a chain may lead to, and what patients permit."""

    def get(self, resource_type: str, identity: str) -> Resource | None:
        """The current resource of a type and id."""

    def all(self, resource_type: str) -> Iterable[Resource]:
        """All current resources of a type."""

    def permitted(self, patient: str, resource_type: str, party: Party) -> bool:
        """Whether a Consent of the patient permits a type to a party now."""

    def attached(self, binary: Resource, grant: Grant, patient: str | None) -> bool:
        """Whether a grant shows what a Binary belongs to, as its security context, and that is the patient's where there is one."""


class _Nothing:
    def get(self, resource_type: str, identity: str) -> Resource | None:
        del resource_type, identity
        return None

    def all(self, resource_type: str) -> Iterable[Resource]:
        del resource_type
        return ()

    def permitted(self, patient: str, resource_type: str, party: Party) -> bool:
        del patient, resource_type, party
        return False

    def attached(self, binary: Resource, grant: Grant, patient: str | None) -> bool:
        del binary, grant, patient
        return False


NOTHING: World = _Nothing()


def matches(query: Query, resource: Resource, registry: Registry, world: World = NOTHING, grant: Grant = SYSTEM) -> bool:
    """Whether a valid resource satisfies all filters of a query for its type; what the grant hides in `world` is not there.

    Costs about as much as the resource's index rows, and as much for each other resource that is asked.
    """
    if resource["resourceType"] not in query.types:
        return False
    view = _View(registry, world, grant)
    rows = registry.rows(resource)
    return all(view.holds(node, resource, rows) for node in query.filters)


@dataclass(frozen=True, slots=True)
class _View:
    registry: Registry
    world: World
    grant: Grant

    def holds(self, node: Filter, resource: Resource, rows: Rows) -> bool:  # noqa: PLR0911 - one per kind of node
        match node:
            case Criterion():
                return _holds(node, resource, rows, self.registry)
            case Gathered(criterion):
                return _holds(criterion, resource, rows, self.registry)
            case Itself(name, identity):
                return resource["resourceType"] == name and identity in (None, resource.get("id"))
            case AllOf(parts):
                return all(self.holds(part, resource, rows) for part in parts)
            case AnyOf(parts):
                return any(self.holds(part, resource, rows) for part in parts)
            case Not(part):
                return not self.holds(part, resource, rows)
            case Chain(param, targets):
                asked = dict(targets)
                found = [self.seen(name, identity) for name, identity in self.targets(param, rows) if name in asked]
                found += [self.seen(name, other["id"]) for name in asked for other in self.named(name, param, rows)]
                return self.inside(node, resource, rows) or any(
                    other is not None and self.holds(asked[other["resourceType"]], other, self.registry.rows(other)) for other in found
                )
            case Has(source, param, part):
                return any(self.holds(part, other, made) for other, made in self.referring(source, param, resource))
            case Hierarchy(param, how, name, ids, parent):
                wanted = self._closure(how, name, ids, parent)
                return any(target == name and identity in wanted for target, identity in self.targets(param, rows))
        raise AssertionError(node)

    def targets(self, param: Param, rows: Rows) -> list[tuple[str, str]]:
        """Types and ids of the local resources that a reference parameter points to."""
        return [(self.registry.type_name(row[2]), row[1]) for row in rows.get("sp_reference", ()) if row[0] in param.pids and row[2]]

    def inside(self, chain: Chain, resource: Resource, rows: Rows) -> bool:
        """Whether the chain leads to a contained resource; of several of one type any will do."""
        if not any(row[0] in chain.param.pids and row[2] == reference.ABSOLUTE and row[1].startswith("#") for row in rows.get("sp_reference", ())):
            return False
        asked = (within(part) for _, part in chain.targets)
        return any(criterion is not None and _holds(criterion, resource, rows, self.registry) for criterion in asked)

    def named(self, name: str, param: Param, rows: Rows) -> Iterable[Resource]:
        """The resources of a type whose canonical URL a reference parameter has."""
        urls = {row[1] for row in rows.get("sp_reference", ()) if row[0] in param.pids and not row[2]}
        return [other for other in self.world.all(name) if urls & self.urls(other)] if urls and self.registry.canonical(name) else ()

    def urls(self, resource: Resource) -> set[str]:
        param = self.registry.canonical(resource["resourceType"])
        return {row[1] for row in self.registry.rows(resource).get("sp_uri", ()) if row[0] in param.pids} if param is not None else set()

    def seen(self, name: str, identity: str) -> Resource | None:
        other = self.world.get(name, identity) if self.grant.allows(name, "s") else None
        return other if other is not None and permits(self.grant, self.registry, other, self.world) else None

    def referring(self, source: str, param: Param, resource: Resource) -> Iterable[tuple[Resource, Rows]]:
        wanted = {(resource["id"], self.registry.types[resource["resourceType"]]), *((url, reference.ABSOLUTE) for url in self.urls(resource))}
        for other in self.visible(source):
            made = self.registry.rows(other)
            if any(row[0] in param.pids and (row[1], row[2]) in wanted for row in made.get("sp_reference", ())):
                yield other, made

    def visible(self, name: str) -> Iterable[Resource]:
        """All resources of a type that the grant shows."""
        found = self.world.all(name) if self.grant.allows(name, "s") else ()
        return (other for other in found if permits(self.grant, self.registry, other, self.world))

    def _closure(self, how: str, name: str, ids: tuple[str, ...], parent: Param) -> set[str]:
        above: dict[str, set[str]] = {}
        for other in self.visible(name):
            above[other["id"]] = {i for target, i in self.targets(parent, self.registry.rows(other)) if target == name}
        found, fresh = set(ids), set(ids)
        while fresh:
            step = {i for i, parents in above.items() if parents & fresh} if how == "below" else {p for i in fresh for p in above.get(i, ())}
            fresh = step - found
            found |= fresh
        return found


def _holds(criterion: Criterion, resource: Resource, rows: Rows, registry: Registry) -> bool:
    if criterion.param.code in OF_THE_POINTER:
        return _of_the_pointer(criterion, resource, registry)
    kind = kind_of(criterion.param)
    own = [row[1:] for row in rows.get(kind.TABLE, ()) if row[0] in criterion.param.pids]
    if criterion.modifier == "missing":
        return bool(own) is not criterion.values[0]
    found = any(kind.matches(value, row) for value in criterion.values for row in own)
    return found is (criterion.modifier != "not")


def _of_the_pointer(criterion: Criterion, resource: Resource, registry: Registry) -> bool:
    # What is contained in another has no time of its own.
    moment = resource.get("meta", {}).get("lastUpdated")
    if criterion.modifier == "missing":
        return criterion.values[0] is (moment is None and criterion.param.code == "_lastUpdated")
    if criterion.param.code == "_id":
        return (resource.get("id") in criterion.values) != (criterion.modifier == "not")
    if moment is None:
        return False
    updated = date.span(moment, registry.zone)[0]
    return any(_updated(span, updated) for span in criterion.values)


def _updated(span: date.Span, updated: str) -> bool:
    match span.prefix:
        case "eq" | "ap":
            return span.lo <= updated < span.hi
        case "ne":
            return not span.lo <= updated < span.hi
        case "gt" | "sa":
            return updated >= span.hi
        case "ge":
            return updated >= span.lo
        case "le":
            return updated < span.hi
        case _:
            return updated < span.lo


def permits(grant: Grant, registry: Registry, resource: dict[str, Any], world: World = NOTHING) -> bool:
    """Whether the grant may see a resource: the same answer as the predicate's, in memory.

    Where the predicate asks other resources, or what patients permit, and these are not at hand in `world`, the answer is no.
    """
    return _Permitted(grant, registry, resource, world).by(grant.ways(resource["resourceType"]))


def owners(registry: Registry, resource: Resource) -> set[str]:
    """The ids of the patients whom a resource is about: a Patient's own, of others those in whose compartments they are."""
    name = resource["resourceType"]
    return {resource["id"]} if name == "Patient" else compartment_of(registry, name, registry.rows(resource))


@dataclass(frozen=True, slots=True)
class _Permitted:
    grant: Grant
    registry: Registry
    resource: Resource
    world: World

    def by(self, ways: tuple[Way, ...]) -> bool:
        name = self.resource["resourceType"]
        opened = any(self.own(way.patient) and (not way.query or self.matches([way.query])) for way in ways)
        return opened and not any(self.denied(denial) for denial in self.grant.denials_of(name))

    def own(self, patient: str | None) -> bool:
        if self.resource["resourceType"] == "Binary" and self.grant.differs_by_content("Binary"):
            return self.world.attached(self.resource, self.grant, patient)
        return self.belongs(patient)

    def belongs(self, patient: str | None) -> bool:
        name = self.resource["resourceType"]
        if patient is None or name in PUBLIC:
            return True
        if name == "Patient":
            return bool(self.resource.get("id") == patient)
        pids = set(compartment_pids(self.registry, name))
        wanted = reference.Target(patient, self.registry.types["Patient"])
        rows = self.registry.rows(self.resource).get("sp_reference", ())
        if any(row[0] in pids and reference.matches(wanted, row[1:]) for row in rows):
            return True
        return self.matches(f"{path}={patient}" for path in BEHIND.get(name, ()))

    def matches(self, queries: Iterable[str]) -> bool:
        view = _View(self.registry, self.world, SYSTEM)
        rows = self.registry.rows(self.resource)
        asked = (self.registry.condition(self.resource["resourceType"], query) for query in queries)
        return any(all(view.holds(node, self.resource, rows) for node in nodes) for nodes in asked if nodes)

    def denied(self, denial: Denial) -> bool:
        name = self.resource["resourceType"]
        if name in PUBLIC:
            return False
        if denial.unless is None:
            met = any(self.belongs(patient) for patient in denial.patients)
        else:
            met = any(not self.world.permitted(patient, name, denial.unless) for patient in owners(self.registry, self.resource))
        if not met:
            return False
        return not denial.labels or self.matches([f"_security={label}" for label in denial.labels])
