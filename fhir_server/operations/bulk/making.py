"""The making of a bulk export: what the caller may see of what was asked for, type by type, of one moment.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#query-parameters
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.clinic.subscriptions.holders import Holders
from fhir_server.interactions import Engine
from fhir_server.interactions.engine import parse_parameters
from fhir_server.interactions.finding import find, prepared
from fhir_server.interactions.subset import subset
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.compartment import ATTACHING
from fhir_server.search.everything import Everything, compile_within
from fhir_server.search.match import owners
from fhir_server.store import Snapshot, exports
from fhir_server.store.database import Connection

_FILE: Final = 8 * 1024 * 1024
_ALL: Final = 64 * 1024 * 1024
_PAGE: Final = 1_000
_SETTLING: Final = 1.0
"""Seconds from the moment that an export tells to the view that it shows: by then a write that has its time already is there, or seen on its way."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, as it is kept.

    `url` is the request. `level` is system, patient or group, `group` its id. `types` are those that are wanted; `filters` searches by type, any of
    which is enough; `patients` ids, None for all; `since` an instant; `elements` names of those that are kept, `Patient.name` for one type alone.
    """

    url: str
    level: str
    types: list[str]
    filters: dict[str, list[str]] = field(default_factory=dict)
    group: str | None = None
    patients: list[str] | None = None
    since: str | None = None
    elements: list[str] = field(default_factory=list)


class Maker:
    """Makes exports, one at a time among all hosts."""

    def __init__(self, engine: Engine) -> None:
        """Needs an engine with settings."""
        if engine.settings is None:
            raise ValueError("an engine that was made of settings is needed")
        self._engine = engine
        self._store = engine.store
        self._room = engine.settings.max_exports
        self._holders = Holders(engine.store, engine.settings.jwt_secret)

    def run(self) -> None:
        """Makes what waits, the oldest first, and takes away what is too old. Raises Outcome `unavailable`."""
        with self._store.database.connection() as connection:
            exports.forget(connection, self._store.clock())
            while exports.run_next(connection, self._make, self._store.clock):
                pass

    def _make(self, current: exports.Export) -> datetime:
        asked = Asked(**fhirjson.loads(current.request.encode()))
        with self._store.database.connection() as connection:
            grant = self._holders.grant(connection, current.holder)
        if grant is None:
            raise Outcome("forbidden", "Whoever has asked for this export has no rights here any more")
        now = self._store.clock()
        time.sleep(_SETTLING)
        with self._store.database.connection() as connection:
            at = exports.settled(connection, now).astimezone(UTC)
        since = datetime.fromisoformat(asked.since) if asked.since is not None else None
        with self._store.database.connection() as connection, self._store.snapshot(grant) as db:
            files = _Files(connection, current.id, self._room)
            for name, body in self._bodies(db, grant, asked, since):
                files.add(name, body)
            if since is not None:
                for name in (name for name in asked.types if grant.allows(name, "r")):
                    for bundle in _deletions(name, self._deleted(db, name, asked, since)):
                        files.add(name, bundle, deleted=True)
            files.flush()
        return at

    def _deleted(self, db: Snapshot, name: str, asked: Asked, since: datetime) -> Iterator[str]:
        """The ids of what was deleted, of the patients that were asked for."""
        wanted = self._wanted(db, asked)
        for identity, text in db.deleted(name, since):
            if asked.level != "system":
                whose = owners(self._engine.registry, fhirjson.loads(text.encode()))
                if not (whose if wanted is None else whose & wanted):
                    continue
            yield identity

    def _bodies(self, db: Snapshot, grant: Grant, asked: Asked, since: datetime | None) -> Iterator[tuple[str, bytes]]:
        chosen = {name: self._matches(db, grant, name, asked.filters[name]) for name in asked.filters if name in asked.types}
        kept = {name: _elements_of(name, asked.elements, self._engine.registry.types) for name in asked.types}
        for name, body in self._all(db, grant, asked):
            if name in chosen or since is not None or kept[name]:
                resource = fhirjson.loads(body)
                if name in chosen and resource["id"] not in chosen[name]:
                    continue
                if since is not None and datetime.fromisoformat(resource["meta"]["lastUpdated"]) <= since:
                    continue
                if kept[name]:
                    yield name, fhirjson.dumps(subset(self._engine.spec, resource, None, kept[name]))
                    continue
            yield name, body

    def _all(self, db: Snapshot, grant: Grant, asked: Asked) -> Iterator[tuple[str, bytes]]:
        types = [name for name in asked.types if grant.allows(name, "r")]
        if asked.level == "system":
            for name in types:
                for body in db.export(name):
                    yield name, body
            return
        given: set[int | str] = set()
        for patient in self._patients(db, grant, asked):
            yield from self._record(db, grant, Everything("Patient", patient, tuple(types)), given)

    def _record(self, db: Snapshot, grant: Grant, asked: Everything, given: set[int | str]) -> Iterator[tuple[str, bytes]]:
        """A patient's compartment, without what was `given` with that of another, by number or as `Binary/id`; the Binaries in attachments last."""
        attached: set[tuple[str, str]] = set()
        for rid, name, identity, body in self._compartment(db, grant, asked):
            key = f"Binary/{identity}" if name == "Binary" else rid
            if key not in given:
                given.add(key)
                yield name, db.shown(name, body)
            if name in ATTACHING and "Binary/" in body:
                attached.update(self._engine.registry.references(fhirjson.loads(body.encode()), "attachment"))
        if asked.types is not None and "Binary" in asked.types:
            for version in db.read_many(sorted(each for each in attached if "/".join(each) not in given)):
                if version.body is not None:
                    given.add(f"Binary/{version.id}")
                    yield version.type, version.body

    def _compartment(self, db: Snapshot, grant: Grant, asked: Everything) -> Iterator[tuple[int, str, str, str]]:
        after: int | None = None
        while True:
            rows = db.select(compile_within(asked, self._engine.registry, grant, after, _PAGE))
            full = len(rows) == _PAGE
            for rid, number, identity, body in rows:
                name = self._engine.registry.type_name(number)
                if body is None:
                    # The ones before it fill an answer.
                    full = True
                    break
                after = 0 if (name, identity) == (asked.type, asked.id) else rid
                yield rid, name, identity, body
            if not full:
                return

    def _patients(self, db: Snapshot, grant: Grant, asked: Asked) -> Iterable[str]:
        wanted = self._wanted(db, asked)
        ids = [fhirjson.loads(body)["id"] for body in db.export("Patient")] if wanted is None else sorted(wanted)
        shown = db.open_ids("Patient", ids) if grant.allows("Patient", "r") else frozenset()
        return [each for each in ids if each in shown]

    @staticmethod
    def _wanted(db: Snapshot, asked: Asked) -> set[str] | None:
        """The ids of the patients whose records were asked for, None for all."""
        chosen = set(asked.patients) if asked.patients is not None else None
        if asked.group is None:
            return chosen
        found = db.read("Group", asked.group)
        members = fhirjson.loads(found.body).get("member", []) if found is not None and found.body is not None else []
        ids = {identity for member in members if (identity := _patient(member)) is not None}
        return ids if chosen is None else ids & chosen

    def _matches(self, db: Snapshot, grant: Grant, name: str, filters: list[str]) -> set[str]:
        """The ids of what meets any of the searches."""
        found: set[str] = set()
        for text in filters:
            parameters = [*parse_parameters(text), ("_count", str(_PAGE))]
            query = prepared(self._engine, db, self._engine.registry.parse(name, parameters, strict=True), grant)
            position = None
            while True:
                page = find(self._engine, db, query, grant, position)
                found.update(each.id for each in page.found)
                position = page.following
                if position is None:
                    break
        return found


class _Files:
    """The files of an export, each of one type; what waits for its file stays within bounds."""

    def __init__(self, connection: Connection, identity: str, room: int) -> None:
        self._connection = connection
        self._identity = identity
        self._room = room
        self._number = 0
        self._waiting: dict[tuple[str, bool], list[bytes]] = {}
        self._sizes: dict[tuple[str, bool], int] = {}

    def add(self, name: str, body: bytes, *, deleted: bool = False) -> None:
        """Adds a resource of a type, or a Bundle that tells which of it were `deleted`. Raises exports.Dropped, Outcome `too-costly`."""
        key = (name, deleted)
        self._waiting.setdefault(key, []).append(body)
        self._sizes[key] = self._sizes.get(key, 0) + len(body)
        if self._sizes[key] >= _FILE:
            self._write(key)
        elif sum(self._sizes.values()) >= _ALL:
            self._write(max(self._sizes, key=self._sizes.__getitem__))

    def flush(self) -> None:
        """Writes what waits."""
        for key in list(self._waiting):
            self._write(key)

    def _write(self, key: tuple[str, bool]) -> None:
        (name, deleted), lines, _ = key, self._waiting.pop(key), self._sizes.pop(key)
        file = exports.File(self._number, name, len(lines), deleted)
        exports.add(self._connection, self._identity, file, b"".join(line + b"\n" for line in lines), self._room)
        self._number += 1


def _elements_of(name: str, elements: list[str], types: Collection[str]) -> tuple[str, ...]:
    """The elements that are kept of a type; none where nothing was said of it, and so all are."""
    return tuple(each for each in elements if (owner := each.partition(".")[0]) == name or owner not in types)


def _deletions(name: str, identities: Iterator[str]) -> Iterator[bytes]:
    """Bundles that tell of deletions, as https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status has them."""
    while some := list(islice(identities, _PAGE)):
        entries = [{"request": {"method": "DELETE", "url": f"{name}/{each}"}} for each in some]
        yield fhirjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def _patient(member: dict[str, Any]) -> str | None:
    kind, _, identity = member.get("entity", {}).get("reference", "").partition("/")
    return identity if kind == "Patient" and identity and not member.get("inactive", False) else None
