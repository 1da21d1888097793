"""FHIR read and vread. https://hl7.org/fhir/R4/http.html#read, https://hl7.org/fhir/R4/http.html#vread"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.compartment import PUBLIC
from fhir_server.search.grant import Party
from fhir_server.search.match import owners, permits
from fhir_server.store import Snapshot
from fhir_server.store.ops import Version
from fhir_server.store.writing.guard import all_readable

from .engine import Engine
from .exchange import Exchange, Reply
from .subset import subset

_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")


def read(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """The current version: 200, or 304 where the caller has it. Raises Outcome `not-found`, or `gone` for a deleted resource."""
    name, identity = engine.known_type(exchange.type), str(exchange.id)
    found = db.read(name, identity, exchange.standing)
    if found is None:
        raise Outcome("not-found", f"{name}/{identity} does not exist")
    return _reply(engine, exchange, found)


def vread(engine: Engine, exchange: Exchange, db: Snapshot) -> Reply:
    """One version, current or not: 200. Raises Outcome `not-found`, or `gone` where the version is a deletion."""
    name, identity, wanted = engine.known_type(exchange.type), str(exchange.id), str(exchange.version)
    found = db.version(name, identity, int(wanted)) if _VERSION.fullmatch(wanted) else None
    if found is None or not were_open(engine, exchange.grant, db, [found])[0]:
        raise Outcome("not-found", f"{name}/{identity} has no version '{wanted}'")
    return _reply(engine, exchange, found)


def were_open(engine: Engine, grant: Grant, db: Snapshot, versions: Sequence[Version]) -> list[bool]:
    """Of versions that the store gives, whether each was itself open to the caller. A statement per type where patients have to permit it.

    The store goes by what a resource is now. One that was filed under the wrong patient and put right has versions of both, and a result that is
    released has versions from before.
    """
    looked_at = [fhirjson.loads(version.body) if version.body is not None and is_versioned(grant, version.type) else None for version in versions]
    world = _Permissions(engine, grant, db, [each for each in looked_at if each is not None])
    return [each is None or permits(grant, engine.registry, each, world) for each in looked_at]


class _Permissions:
    """What patients permit for some resources; nothing of other resources, by which no old version is judged."""

    def __init__(self, engine: Engine, grant: Grant, db: Snapshot, resources: Sequence[dict[str, Any]]) -> None:
        asked: dict[Party, set[tuple[str, str]]] = {}
        for resource in resources:
            name = resource["resourceType"]
            for party in {denial.unless for denial in grant.denials_of(name) if denial.unless is not None}:
                asked.setdefault(party, set()).update((name, patient) for patient in owners(engine.registry, resource))
        self._known = {party: db.permitted(party, pairs) for party, pairs in asked.items()}
        self._references, self._types = engine.registry.references, engine.registry.types
        contexts = sorted({target for each in resources if each["resourceType"] == "Binary" for target in self._contexts(each)})
        self._seen: dict[str | None, set[tuple[str, str]]] = {}
        for patient in {way.patient for way in grant.ways("Binary")} if contexts else ():
            found = db.seen_by(grant.reaching(patient)).read_many(contexts)
            self._seen[patient] = {(version.type, version.id) for version in found}
            if patient is not None:
                self._seen[patient].add(("Patient", patient))

    def get(self, resource_type: str, identity: str) -> None:
        del resource_type, identity

    def all(self, resource_type: str) -> Iterable[dict[str, Any]]:
        del resource_type
        return ()

    def permitted(self, patient: str, resource_type: str, party: Party) -> bool:
        return (resource_type, patient) in self._known[party]

    def attached(self, binary: dict[str, Any], grant: Grant, patient: str | None) -> bool:
        """What has it as an attachment has any of its versions, so that the store has asked of that; a version may have another context."""
        if "reference" not in binary.get("securityContext", {}) or not self._seen.get(patient, set()).isdisjoint(self._contexts(binary)):
            return True
        reach = grant.reaching(patient)
        return all(all_readable(reach, name) for name in self._types if name != "Binary")

    def _contexts(self, binary: dict[str, Any]) -> list[tuple[str, str]]:
        return self._references(binary, "security-context")


def is_versioned(grant: Grant, resource_type: str | None) -> bool:
    """Whether versions of one resource may differ in whether the grant shows them; of several types for None."""
    if resource_type is None:
        return grant.narrows
    held = any(way.patient is not None for way in grant.ways(resource_type))
    return grant.differs_by_content(resource_type) or (held and resource_type != "Patient" and resource_type not in PUBLIC)


def _reply(engine: Engine, exchange: Exchange, found: Version) -> Reply:
    version = str(found.version)
    if found.body is None:
        raise Outcome("gone", f"{found.type}/{found.id} was deleted", headers={"ETag": f'W/"{version}"'})
    if _unchanged(exchange, found, version):
        return Reply(304, None, found.type, found.id, version, found.at)
    return Reply(200, shaped(engine, exchange, found.body), found.type, found.id, version, found.at)


def _unchanged(exchange: Exchange, found: Version, version: str) -> bool:
    if exchange.if_none_match:
        return version in exchange.if_none_match or "*" in exchange.if_none_match
    # HTTP dates have whole seconds: the version of 10:00:00.7 counts as that of 10:00:00.
    since = exchange.if_modified_since
    return since is not None and found.at - timedelta(seconds=1) < since


def shaped(engine: Engine, exchange: Exchange, body: bytes) -> bytes:
    """The stored JSON, cut down where `_summary` or `_elements` asks for it; the very bytes otherwise."""
    summary = elements = None
    for name, value in exchange.params:
        if name == "_summary" and value != "false":
            summary = value
        elif name == "_elements":
            elements = value
    if summary is None and elements is None:
        return body
    names = tuple(part.strip() for part in (elements or "").split(",") if part.strip())
    return fhirjson.dumps(subset(engine.spec, fhirjson.loads(body), summary, names))
