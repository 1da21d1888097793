"""The making of a bulk export: what the caller may see of what was asked for, type by type, of one moment.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#query-parameters
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.clinic.subscriptions.holders import Holders
from fhir_server.interactions import Engine
from fhir_server.interactions.engine import parse_parameters
from fhir_server.interactions.finding import find, prepared
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.compartment import ATTACHING
from fhir_server.search.everything import Everything, compile_within
from fhir_server.store import Snapshot, exports
from fhir_server.store.database import Connection

_FILE: Final = 8 * 1024 * 1024
_ALL: Final = 64 * 1024 * 1024
_PAGE: Final = 1_000
_FETCH: Final = 10  # Files that are held at a time; each may be as large as a request.


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, as it is kept.

    `url` is the request. `level` is system, patient or group, `group` its id. `types` are those that are wanted; `filters` searches by type, any of
    which is enough; `patients` ids, None for all; `since` an instant.
    """

    url: str
    level: str
    types: list[str]
    filters: dict[str, list[str]] = field(default_factory=dict)
    group: str | None = None
    patients: list[str] | None = None
    since: str | None = None


class Maker:
    """Makes exports, one at a time among all hosts."""

    def __init__(self, engine: Engine) -> None:
        """Needs an engine with settings."""
        if engine.settings is None:
            raise ValueError("an engine that was made of settings is needed")
        self._engine = engine
        self._store = engine.store
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
        with self._store.database.connection() as connection, self._store.snapshot(grant) as db:
            at = self._store.clock().astimezone(UTC)
            files = _Files(connection, current.id)
            for name, body in self._bodies(db, grant, asked):
                files.add(name, body)
            files.flush()
        return at

    def _bodies(self, db: Snapshot, grant: Grant, asked: Asked) -> Iterator[tuple[str, bytes]]:
        since = datetime.fromisoformat(asked.since) if asked.since is not None else None
        chosen = {name: self._matches(db, grant, name, asked.filters[name]) for name in asked.filters if name in asked.types}
        for name, body in self._all(db, grant, asked):
            if name in chosen or since is not None:
                resource = fhirjson.loads(body)
                if name in chosen and resource["id"] not in chosen[name]:
                    continue
                if since is not None and datetime.fromisoformat(resource["meta"]["lastUpdated"]) <= since:
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
            wanted = sorted(each for each in attached if "/".join(each) not in given)
            for start in range(0, len(wanted), _FETCH):
                for version in db.read_many(wanted[start : start + _FETCH]):
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
        if asked.group is not None:
            found = db.read("Group", asked.group)
            members = fhirjson.loads(found.body).get("member", []) if found is not None and found.body is not None else []
            ids = list(dict.fromkeys(identity for member in members if (identity := _patient(member)) is not None))
        else:
            ids = asked.patients if asked.patients is not None else [fhirjson.loads(body)["id"] for body in db.export("Patient")]
        wanted = set(asked.patients) if asked.patients is not None else None
        shown = db.open_ids("Patient", ids) if grant.allows("Patient", "r") else frozenset()
        return [each for each in ids if each in shown and (wanted is None or each in wanted)]

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

    def __init__(self, connection: Connection, identity: str) -> None:
        self._connection = connection
        self._identity = identity
        self._number = 0
        self._waiting: dict[str, list[bytes]] = {}
        self._sizes: dict[str, int] = {}

    def add(self, name: str, body: bytes) -> None:
        """Adds a resource. Raises exports.Dropped."""
        self._waiting.setdefault(name, []).append(body)
        self._sizes[name] = self._sizes.get(name, 0) + len(body)
        if self._sizes[name] >= _FILE:
            self._write(name)
        elif sum(self._sizes.values()) >= _ALL:
            self._write(max(self._sizes, key=self._sizes.__getitem__))

    def flush(self) -> None:
        """Writes what waits."""
        for name in list(self._waiting):
            self._write(name)

    def _write(self, name: str) -> None:
        lines, _ = self._waiting.pop(name), self._sizes.pop(name)
        exports.add(self._connection, self._identity, exports.File(self._number, name, len(lines)), b"".join(line + b"\n" for line in lines))
        self._number += 1


def _patient(member: dict[str, Any]) -> str | None:
    kind, _, identity = member.get("entity", {}).get("reference", "").partition("/")
    return identity if kind == "Patient" and identity and not member.get("inactive", False) else None
