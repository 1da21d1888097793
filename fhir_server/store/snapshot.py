"""Reading: one consistent view per request, with the grant in the WHERE clause of every statement.

https://hl7.org/fhir/R4/http.html#read, https://hl7.org/fhir/R4/http.html#history
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Registry, Statement
from fhir_server.search.conditions import grant_predicate, granted
from fhir_server.search.grant import Party, Permission
from fhir_server.search.params.token import folded
from fhir_server.search.sources import CURRENT, Sources

from . import consents
from . import moment as moments
from .arrays import rows_of
from .database import Connection
from .index.dictionary import Dictionary
from .ops import Version
from .standing import Standing, Unsettled
from .trail import search as trail_search
from .witness import seen

METHODS: Final[dict[str, Literal["POST", "PUT", "PATCH", "DELETE"]]] = {"P": "POST", "U": "PUT", "A": "PATCH", "D": "DELETE"}
_FETCH: Final = 500  # Rows of an export in memory at a time.
_NOTHING: Final = Statement("FALSE")
_CURRENT: Final = "resource r JOIN resource_version v ON v.vid = r.vid"
_VERSION: Final = "r.type, r.id, v.version, v.at, v.method, v.body"
_IDENTIFIED: Final = (
    f"SELECT k.n, {_VERSION} FROM {rows_of('int', 'smallint', 'text', 'text')} WITH ORDINALITY AS k(pid, type, url, code, n)"
    " JOIN token_system s ON s.url = k.url JOIN sp_token t ON t.pid = k.pid AND t.code = k.code AND t.system = s.sid"
    f" JOIN ({_CURRENT}) ON r.rid = t.rid AND r.type = k.type AND NOT r.deleted ORDER BY k.n, r.rid"
)

_REFERRING: Final = (
    f"SELECT {_VERSION} FROM {_CURRENT} WHERE NOT r.deleted"
    " AND r.rid IN (SELECT s.rid FROM sp_reference s WHERE s.pid = ANY(%s::int[]) AND s.id = %s AND s.type = %s) ORDER BY r.rid"
)


@dataclass(frozen=True, slots=True)
class HistoryScope:
    """Which history: of one resource, of a type, or of everything; bounds on time.

    `before` continues behind a version number, as it was at a `moment` (see `Snapshot.moment`).
    """

    type: str | None = None
    id: str | None = None
    since: datetime | None = None
    at: tuple[datetime, datetime] | None = None
    before: int | None = None
    moment: str = ""


class Snapshot:
    """What the record says, to one grant. Made by `Store.snapshot`; valid inside its `with` block."""

    def __init__(self, connection: Connection, registry: Registry, dictionary: Dictionary, grant: Grant) -> None:
        """Wraps a connection that is in a read-only transaction, or about to run a single statement."""
        self._connection = connection
        self._registry = registry
        self._dictionary = dictionary
        self._grant = grant
        self._sources: Sources = CURRENT

    def seen_by(self, grant: Grant) -> Snapshot:
        """The same view of the record, to another grant."""
        return Snapshot(self._connection, self._registry, self._dictionary, grant)

    @property
    def connection(self) -> Connection:
        """What the view looks through: for rows beside the record, which no grant is asked about."""
        return self._connection

    def open_ids(self, resource_type: str, identities: Sequence[str]) -> frozenset[str]:
        """Those of some ids whose current resources this grant may read. No statement where all or none of the type is open."""
        if not identities or not self._grant.allows(resource_type, "r"):
            return frozenset()
        allowed = granted(self._grant, self._registry, (resource_type,), "r", self._sources)
        if allowed.text == "TRUE":
            return frozenset(identities)
        statement = f"SELECT r.id FROM resource r WHERE r.type = %s AND r.id = ANY(%s) AND NOT r.deleted AND {allowed.text}"
        found = self._connection.execute(statement, (self._dictionary.types[resource_type], list(identities), *allowed.params))
        return frozenset(identity for (identity,) in found)

    def moment(self) -> str:
        """What this view sees, as a text that `rewind` takes."""
        return moments.now(self._connection)

    def rewind(self, moment: str) -> None:
        """Shows `select`, `read_many` and searches the record as it was then. Raises Outcome `gone` where too much has changed since."""
        self._sources = moments.sources(self._connection, self._registry, self._dictionary, moment)

    @property
    def sources(self) -> Sources:
        """The tables for compiled searches."""
        return self._sources

    def read(self, resource_type: str, identity: str, standing: Standing | None = None) -> Version | None:
        """The current version, a deletion included; None where there is none that this grant may see. One statement, two index look-ups.

        With a `standing` the same statement asks whether the grant holds. Raises Unsettled where it does not, and nothing is shown then.
        """
        refused = standing is not None and not self._grant.allows(resource_type, "r")
        allowed = _NOTHING if refused else self._allowed(resource_type, "r")
        where = f"r.type = %s AND r.id = %s AND {allowed.text}"
        values = (self._dictionary.types[resource_type], identity, *allowed.params)
        if standing is None:
            row = self._connection.execute(f"SELECT {_VERSION} FROM {_CURRENT} WHERE {where}", values).fetchone()
            return self._version(row) if row else None
        statement = f"SELECT c.generation, ({standing.open.text}), {_VERSION} FROM consent_generation c LEFT JOIN ({_CURRENT}) ON {where}"
        [(generation, is_open, *found)] = self._connection.execute(statement, (*standing.open.params, *values)).fetchall()
        if not is_open or standing.generation not in {generation, None}:
            raise Unsettled(generation, is_open)
        if refused:
            self._allowed(resource_type, "r")
        return self._version(found) if found[0] is not None else None

    def opens(self, resource_type: str, identity: str, permission: Permission) -> bool:
        """Whether the grant opens a current resource to a permission."""
        allowed = granted(self._grant, self._registry, (resource_type,), "r", permission=permission)
        statement = f"SELECT 1 FROM resource r WHERE r.type = %s AND r.id = %s AND NOT r.deleted AND {allowed.text}"
        return self._connection.execute(statement, (self._dictionary.types[resource_type], identity, *allowed.params)).fetchone() is not None

    def permitted(self, party: Party, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those pairs of a resource type and a patient's id of which a Consent permits the type to a party now. One statement per type."""
        return consents.permitted_of(self._connection, self._registry, party, pairs)

    def version(self, resource_type: str, identity: str, version: int) -> Version | None:
        """One version, whether current or not; None where there is none that this grant may see."""
        allowed = self._allowed(resource_type, "r")
        row = self._connection.execute(
            f"SELECT {_VERSION} FROM resource r JOIN resource_version v ON v.rid = r.rid"
            f" WHERE r.type = %s AND r.id = %s AND v.version = %s AND {allowed.text}",
            (self._dictionary.types[resource_type], identity, version, *allowed.params),
        ).fetchone()
        return self._version(row) if row else None

    def versions(self, wanted: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], Version]:
        """Those of some versions (type, id, number) that there are, deletions included. One statement; for callers to whom all is open.

        Raises Outcome `forbidden` for others.
        """
        known = [each for each in wanted if each[0] in self._dictionary.types]
        for name in {name for name, _, _ in known}:
            if self._allowed(name, "r").text != "TRUE":
                raise Outcome("forbidden", f"The token does not allow to read all of {name}")
        columns = ([self._dictionary.types[name] for name, _, _ in known], [each[1] for each in known], [each[2] for each in known])
        statement = (
            f"SELECT {_VERSION} FROM {rows_of('smallint', 'text', 'int')} AS k(type, id, version)"
            " JOIN resource r ON r.type = k.type AND r.id = k.id JOIN resource_version v ON v.rid = r.rid AND v.version = k.version"
        )
        found = map(self._version, self._connection.execute(statement, columns).fetchall())
        return {(each.type, each.id, each.version): each for each in found}

    def read_many(self, references: Sequence[tuple[str, str]]) -> list[Version]:
        """The current, undeleted versions of those references that exist and that this grant may see.

        One statement for all types that are open to it without a condition, and one for each other.
        """
        by_type: dict[str, list[str]] = {}
        for name, identity in references:
            if name in self._dictionary.types and self._grant.allows(name, "r"):
                by_type.setdefault(name, []).append(identity)
        conditions = {name: granted(self._grant, self._registry, (name,), "r", self._sources) for name in by_type}
        whole = [name for name in by_type if conditions[name].text == "TRUE"]
        groups = [[name] for name in by_type if name not in whole] + ([whole] if whole else [])
        found: list[Version] = []
        for names in groups:
            allowed, resources = conditions[names[0]], self._sources.table("resource", "r")
            pairs = [(self._dictionary.types[name], identity) for name in names for identity in by_type[name]]
            rows = self._connection.execute(
                f"SELECT {_VERSION} FROM {rows_of('smallint', 'text')} AS k(type, id) JOIN {resources.text} ON r.type = k.type AND r.id = k.id"
                f" JOIN resource_version v ON v.vid = r.vid WHERE NOT r.deleted AND {allowed.text}",
                ([tid for tid, _ in pairs], [identity for _, identity in pairs], *resources.params, *allowed.params),
            )
            found += map(self._version, rows)
        return found

    def identified(self, sought: Sequence[tuple[str, str, str]]) -> list[tuple[int, Version]]:
        """The current resources that have some of these identifiers (type, system, value), each with the place of its identifier in the list.

        One statement. For callers to whom all of a type is open; raises Outcome `forbidden` for others.
        """
        if not sought:
            return []
        for name in {name for name, _, _ in sought}:
            if self._allowed(name, "s").text != "TRUE":
                raise Outcome("forbidden", f"The token does not allow to look for all of {name}")
        pids = {name: self._registry.supported_params(name)["identifier"].pid for name, _, _ in sought}
        columns = (
            [pids[name] for name, _, _ in sought],
            [self._dictionary.types[name] for name, _, _ in sought],
            [system for _, system, _ in sought],
            [folded(value) for _, _, value in sought],
        )
        return [(row[0] - 1, self._version(row[1:])) for row in self._connection.execute(_IDENTIFIED, columns).fetchall()]

    def referring(self, resource_type: str, identity: str) -> list[Version]:
        """The current resources that refer to one, by an element that a search parameter is about.

        One statement, and all of them in memory. For callers to whom all is open; raises Outcome `forbidden` for others.
        """
        params = {name: self._registry.referring(name) for name in self._registry.types}
        if any(self._allowed(name, "s").text != "TRUE" for name, found in params.items() if found):
            raise Outcome("forbidden", "The token does not allow to look for all that refers to a resource")
        pids = sorted({param.pid for found in params.values() for param in found})
        return [self._version(row) for row in self._connection.execute(_REFERRING, (pids, identity, self._dictionary.types[resource_type]))]

    def of_patient(self, resource_type: str, patient: str) -> list[Version]:
        """The current resources of a type that this grant may see and whose parameter `patient` refers to a patient, by id. One statement."""
        allowed = self._allowed(resource_type, "s")
        pid = self._registry.supported_params(resource_type)["patient"].pid
        statement = (
            f"SELECT {_VERSION} FROM {_CURRENT} WHERE NOT r.deleted AND r.type = %s AND {allowed.text}"
            " AND r.rid IN (SELECT s.rid FROM sp_reference s WHERE s.pid = %s AND s.id = %s AND s.type = %s) ORDER BY r.rid"
        )
        types = self._dictionary.types
        values = (types[resource_type], *allowed.params, pid, patient, types["Patient"])
        return [self._version(row) for row in self._connection.execute(statement, values)]

    def history(self, scope: HistoryScope, count: int) -> tuple[list[tuple[int, Version]], bool]:
        """Up to `count` versions with their numbers, newest first, and whether there are more. Never counts, never skips rows by OFFSET."""
        where, arguments = self._history_filter(scope)
        if scope.before is not None:
            where.append("v.vid < %s")
            arguments.append(scope.before)
        if scope.moment:
            where.append(moments.VISIBLE)
            arguments += moments.bounds(scope.moment)
        rows = self._connection.execute(
            f"SELECT v.vid, {_VERSION} FROM resource_version v JOIN resource r USING (rid) WHERE {' AND '.join(where)} ORDER BY v.vid DESC LIMIT %s",
            (*arguments, count + 1),
        ).fetchall()
        return [(row[0], self._version(row[1:])) for row in rows[:count]], len(rows) > count

    def history_total(self, scope: HistoryScope) -> int:
        """How many versions the whole history has."""
        where, arguments = self._history_filter(scope)
        statement = f"SELECT count(*) FROM resource_version v JOIN resource r USING (rid) WHERE {' AND '.join(where)}"
        row = self._connection.execute(statement, arguments).fetchone()
        return row[0] if row else 0

    def revived(self, vids: Sequence[int]) -> set[int]:
        """Which of these versions, by their numbers, follow a deletion. One statement, none without numbers."""
        if not vids:
            return set()
        statement = (
            "SELECT v.vid FROM resource_version v JOIN resource_version p ON p.rid = v.rid AND p.version = v.version - 1"
            " WHERE v.vid = ANY(%s) AND p.body IS NULL"
        )
        return {vid for (vid,) in self._connection.execute(statement, (list(vids),))}

    def export(self, resource_type: str) -> Iterator[bytes]:
        """The JSON of every current resource of a type, oldest first, as many as it may be: a cursor of the server's, 500 rows in memory.

        Works within `Store.snapshot` only. Raises Outcome `forbidden`.
        """
        allowed = self._allowed(resource_type, "r")
        with self._connection.cursor("export") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(
                "SELECT v.body FROM resource r JOIN resource_version v ON v.vid = r.vid"
                f" WHERE r.type = %s AND NOT r.deleted AND {allowed.text} ORDER BY r.rid",
                (self._dictionary.types[resource_type], *allowed.params),
            )
            for (body,) in cursor:
                yield self.shown(resource_type, body)

    def deleted(self, resource_type: str, since: datetime) -> Iterator[tuple[str, str]]:
        """The id and the last text of each resource of a type that was deleted after a time, to whom all of the type is open; nothing to others.

        As many as it may be, 500 rows in memory. No condition can be asked of what is deleted: it has no index rows.
        Works within `Store.snapshot` only. Raises Outcome `forbidden`.
        """
        if self._allowed(resource_type, "r").text != "TRUE":
            return
        with self._connection.cursor("deleted") as cursor:
            cursor.itersize = _FETCH
            cursor.execute(
                "SELECT r.id, v.body FROM resource r JOIN resource_version v ON v.rid = r.rid AND v.version = r.version - 1"
                " WHERE r.type = %s AND r.deleted AND r.updated > %s AND v.body IS NOT NULL ORDER BY r.rid",
                (self._dictionary.types[resource_type], since),
            )
            yield from cursor

    def body_of(self, row: Sequence[Any]) -> bytes:
        """The body of a row of a compiled search, which leaves out what is larger than its share of a page."""
        text = row[5]
        if text is None:
            [text] = self._connection.execute("SELECT body FROM resource_version WHERE vid = %s", (row[4],)).fetchone() or ("",)
        return self.shown(self._dictionary.names[row[1]], text)

    def shown(self, resource_type: str, text: str) -> bytes:
        """The text of a resource as it leaves the store, without what the grant hides of its type; whoever watches whose record leaves is told."""
        seen(text)
        hidden = self._grant.hidden_of(resource_type)
        if not hidden:
            return text.encode()
        resource = fhirjson.loads(text.encode())
        return fhirjson.dumps({name: value for name, value in resource.items() if name.removeprefix("_") not in hidden})

    def events(
        self, where: Statement, limit: int, *, after: trail_search.Place | None = None, by_time: bool = False, ascending: bool = False
    ) -> list[trail_search.Entry]:
        """Events of the audit trail; see `trail.search`. Whether the caller may see them is not asked here."""
        return trail_search.events(self._connection, where, limit, after=after, by_time=by_time, ascending=ascending)

    def count_events(self, where: Statement) -> int:
        """How many events of the audit trail meet conditions."""
        return trail_search.count(self._connection, where)

    def select(self, statement: Statement) -> list[tuple[Any, ...]]:
        """The rows of a compiled search, count or include; the grant is compiled in."""
        return self._connection.execute(statement.text, statement.params, prepare=False if statement.by_value else None).fetchall()

    def estimate(self, statement: Statement) -> int:
        """How many rows PostgreSQL expects a compiled count to count, without counting them: a matter of its statistics."""
        row = self._connection.execute("EXPLAIN (FORMAT JSON) " + statement.text, statement.params, prepare=False).fetchone()
        counted = row[0][0]["Plan"].get("Plans") if row else None
        return int(counted[0]["Plan Rows"]) if counted else 0

    def explain(self, statement: Statement) -> list[Any]:
        """The plan that PostgreSQL used for a compiled search, with times and rows, as its JSON."""
        row = self._connection.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.text, statement.params, prepare=False).fetchone()
        return list(row[0]) if row else []

    def _history_filter(self, scope: HistoryScope) -> tuple[list[str], list[Any]]:
        where: list[str] = []
        arguments: list[Any] = []
        if scope.type is not None:
            allowed = [(scope.type, self._allowed(scope.type, "r"))]
        else:
            allowed = [(name, self._allowed(name, "r")) for name in self._dictionary.types if self._grant.allows(name, "r")]
        if scope.id is not None:
            where.append("v.rid = (SELECT rid FROM resource WHERE type = %s AND id = %s)")
            arguments += [self._dictionary.types[str(scope.type)], scope.id]
        if all(fragment.text == "TRUE" for _, fragment in allowed):
            if scope.type is not None or len(allowed) < len(self._dictionary.types):
                where.append("v.type = ANY(%s)")
                arguments.append([self._dictionary.types[name] for name, _ in allowed])
        else:
            where.append("(" + " OR ".join(f"(v.type = %s AND {fragment.text})" for _, fragment in allowed) + ")")
            arguments += [value for name, fragment in allowed for value in (self._dictionary.types[name], *fragment.params)]
        if scope.since is not None:
            where.append("v.at >= %s")
            arguments.append(scope.since)
        if scope.at is not None:
            # A version was current at a time if it was written before the time's end and not replaced before its start.
            where.append("v.at < %s AND NOT EXISTS (SELECT FROM resource_version n WHERE n.rid = v.rid AND n.version = v.version + 1 AND n.at <= %s)")
            arguments += [scope.at[1], scope.at[0]]
        return where or ["TRUE"], arguments

    def _allowed(self, resource_type: str, permission: Literal["r", "s"]) -> Statement:
        if resource_type not in self._dictionary.types:
            raise Outcome("not-found", f"'{resource_type}' is not a resource type of FHIR R4", code="not-supported")
        if not self._grant.allows(resource_type, permission):
            raise Outcome("forbidden", f"The token does not allow to read {resource_type}")
        return grant_predicate(self._grant, self._registry, resource_type, "r")

    def _version(self, row: Sequence[Any]) -> Version:
        tid, identity, version, at, method, body = row
        name = self._dictionary.names[tid]
        return Version(name, identity, version, at, METHODS[method], self.shown(name, body) if body is not None else None)
