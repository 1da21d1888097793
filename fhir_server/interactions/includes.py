"""`_include` and `_revinclude`: what the matches of a page refer to and what refers to them, each resource once.

https://hl7.org/fhir/R4/search.html#revinclude
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.outcome import Issue
from fhir_server.search import Grant, Query, Registry, compile_search
from fhir_server.search.compile import compile_revinclude
from fhir_server.search.params.kind import capped
from fhir_server.search.params.reference import ABSOLUTE, Target
from fhir_server.search.params.uri import Address
from fhir_server.search.query import Criterion, Include
from fhir_server.store import Snapshot

from .finding import Found

MAX_REFERRING: Final = 1_000
"""Resources that one `_revinclude` may bring at a time; a warning in the Bundle says when there are more."""
MAX_INCLUDED: Final = 5_000
"""Resources that all of them together may bring on one page."""
MAX_BYTES: Final = 64_000_000
MAX_ROUNDS: Final = 10
"""So often `:iterate` follows from what was included to what that leads to."""


@dataclass(slots=True)
class _Included:
    registry: Registry
    db: Snapshot
    grant: Grant
    seen: set[tuple[str, str]]
    notices: list[Issue]
    found: list[Found] = field(default_factory=list)
    size: int = 0
    full: bool = False

    def add(self, more: Iterable[Found]) -> list[Found]:
        """The ones that are new and for which there is room."""
        fresh: list[Found] = []
        for each in more:
            key = (each.type, each.id)
            if key in self.seen:
                continue
            self.size += len(each.body)
            if len(self.found) + len(fresh) == MAX_INCLUDED or self.size > MAX_BYTES:
                self.full = True
                break
            self.seen.add(key)
            fresh.append(each)
        self.found += fresh
        return fresh

    def forward(self, includes: Sequence[Include], frontier: Sequence[Found]) -> list[Found]:
        """What resources refer to, in one statement per target type."""
        if not includes:
            return []
        wanted: dict[tuple[str, str], None] = {}
        named_by_url: dict[tuple[str, str], None] = {}
        for each in frontier:
            named = [include for include in includes if include.source in ("*", each.type)]
            if named:
                resource = fhirjson.loads(each.body)
                wanted.update((target, None) for include in named for target in self._targets(include, resource))
                named_by_url.update((target, None) for include in named for target in self._canonicals(include, resource))
        versions = self.db.read_many([target for target in wanted if target not in self.seen])
        fresh = self.add(Found(version.type, version.id, version.body) for version in versions if version.body is not None)
        return fresh + self.add(self._named(named_by_url))

    def _targets(self, include: Include, resource: dict[str, Any]) -> list[tuple[str, str]]:
        found = self.registry.references(resource, include.code)
        return [target for target in found if include.target in (None, target[0])]

    def _canonicals(self, include: Include, resource: dict[str, Any]) -> list[tuple[str, str]]:
        found = self.registry.canonicals(resource, include.code)
        return [target for target in found if include.target in (None, target[0])]

    def _named(self, wanted: Iterable[tuple[str, str]]) -> list[Found]:
        """Canonical resources by type and URL, in one statement per type: of the version asked for, or an active one made last."""
        by_type: dict[str, list[str]] = {}
        for name, url in wanted:
            by_type.setdefault(name, []).append(url)
        found: dict[tuple[str, str], Found] = {}
        for name, urls in by_type.items():
            param = self.registry.canonical(name)
            if param is None or not self.grant.allows(name, "s"):
                continue
            addresses = tuple(Address((capped(url),)) for url in dict.fromkeys(url.partition("|")[0] for url in urls))
            query = Query((name,), filters=(Criterion(param, addresses),), count=MAX_REFERRING)
            rows = self.db.select(compile_search(query, self.registry, self.grant, sources=self.db.sources))
            read = [(each, fhirjson.loads(each.body)) for each in map(self._read, reversed(rows))]
            for each, resource in sorted(read, key=lambda pair: pair[1].get("status") == "active"):
                stated = (resource["url"], f"{resource['url']}|{resource.get('version', '')}")
                found |= {(name, url): each for url in map(capped, stated) if url in urls}
        return list(found.values())

    def backward(self, includes: Sequence[Include], frontier: Sequence[Found]) -> list[Found]:
        """What refers to resources, in one statement per parameter."""
        if not includes:
            return []
        pointed = [(each.type, target) for each in frontier for target in self._addressed(each)]
        fresh: list[Found] = []
        for include in includes:
            targets = [target for name, target in pointed if include.target in (None, name)]
            statement = compile_revinclude(include, self.registry, self.grant, targets, MAX_REFERRING + 1, self.db.sources)
            rows = self.db.select(statement)
            if len(rows) > MAX_REFERRING:
                self.cut(f"_revinclude={include.source}:{include.code} has more than {MAX_REFERRING:,} resources on this page")
            fresh += self.add(self._read(row) for row in rows[:MAX_REFERRING])
        return fresh

    def _addressed(self, each: Found) -> list[Target]:
        """What a reference to a resource may say."""
        found = [Target(each.id, self.registry.types[each.type])]
        if self.registry.canonical(each.type) and (url := fhirjson.loads(each.body).get("url")):
            found.append(Target(capped(url), ABSOLUTE))
        return found

    def _read(self, row: tuple[Any, ...]) -> Found:
        return Found(self.registry.type_name(row[1]), row[2], self.db.body_of(row))

    def cut(self, why: str) -> None:
        """Tells that something was left out."""
        self.notices.append(Issue("warning", "incomplete", f"{why}; the rest was left out"))


def included(registry: Registry, db: Snapshot, query: Query, grant: Grant, matches: Sequence[Found], notices: list[Issue]) -> list[Found]:
    """The included resources of a page; what was left out is told in `notices`."""
    state = _Included(registry, db, grant, {(match.type, match.id) for match in matches}, notices)
    forward, backward = query.includes, query.revincludes
    frontier: Sequence[Found] = matches
    for number in range(MAX_ROUNDS):
        frontier = [*state.forward(forward, frontier), *state.backward(backward, frontier)]
        forward = tuple(include for include in query.includes if include.iterate)
        backward = tuple(include for include in query.revincludes if include.iterate)
        if not frontier or not (forward or backward) or state.full:
            break
        if number == MAX_ROUNDS - 1:
            state.cut(f":iterate was followed {MAX_ROUNDS} times")
    if state.full:
        state.cut(f"A page includes at most {MAX_INCLUDED:,} resources and {MAX_BYTES // 1_000_000} MB")
    return state.found
