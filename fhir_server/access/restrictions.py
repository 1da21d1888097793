"""What takes away from a caller's roles and scopes: Consents that forbid, and the clinic's policy for records whose patient has permitted nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from fhir_server import fhirjson
from fhir_server.search import SYSTEM, Grant, compile_search
from fhir_server.search.grant import Denial, Party
from fhir_server.store import Store, consents

from .consent import PURPOSES, Restriction, closing, denials
from .policy import Policy


class Restricted(NamedTuple):
    """All that may restrict a caller: what Consents say, the caller as they may name them, and whether a record is closed without permission."""

    restrictions: tuple[Restriction, ...]
    party: Party
    closed: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What restricts at one generation, and the parties that it was looked at for."""

    generation: int
    restrictions: tuple[Restriction, ...] = ()
    closed: bool = False
    parties: dict[tuple[str | None, frozenset[str], str | None], Party] = field(default_factory=dict)


class Restrictions:
    """What restricts the callers of one process. Keeps it until the generation of `store.consents` goes up. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        """Reads Consents and the policy from the store."""
        self._store = store
        self._lock = threading.Lock()
        self._known = _Known(0)

    @property
    def generation(self) -> int:
        """The one whose restrictions this process has; 0 before it has any."""
        return self._known.generation

    def denials(self, grant: Grant, generation: int, now: float) -> tuple[Denial, ...]:
        """What is denied to a caller at `now` (seconds since 1970); `generation` is the one in force, which the caller has asked for."""
        found = self._restricted(grant, generation)
        denied = denials(found.restrictions, found.party, datetime.fromtimestamp(now, UTC), self._store.registry.zone)
        return (*denied, closing(found.party)) if found.closed else denied

    def of(self, grant: Grant) -> Restricted:
        """All that may restrict a caller now, for whoever explains it."""
        with self._store.database.connection() as connection:
            generation = consents.generation(connection)
        return self._restricted(grant, generation)

    def _restricted(self, grant: Grant, generation: int) -> Restricted:
        with self._lock:
            if self._known.generation != generation:
                self._known = self._read(generation)
            known = self._known
        key = (grant.user, grant.roles, grant.client)
        party = known.parties.get(key)
        if party is None and (known.restrictions or known.closed):
            party = known.parties[key] = self._party(grant)
        return Restricted(known.restrictions, party or Party((), ()), known.closed)

    def _read(self, generation: int) -> _Known:
        with self._store.database.connection() as connection:
            closed = Policy(self._store).consent(connection) == "deny"
            rows = consents.rules(connection)
        return _Known(generation, tuple(self._restrictions(rows)), closed)

    def _restrictions(self, rows: list[tuple[int, str]]) -> Iterator[Restriction]:
        for _, body in rows:
            consent = fhirjson.loads(body.encode())
            found = Restriction.of(consent, consents.patient_of(self._store.registry, consent))
            if found is not None:
                yield found

    def _party(self, grant: Grant) -> Party:
        purposes = tuple(sorted({code for role in grant.roles for code in PURPOSES.get(role, ())}))
        if grant.user is None:
            return Party((), purposes)
        registry = self._store.registry
        found = {grant.user}
        if grant.user.startswith("Practitioner/"):
            query = registry.parse("PractitionerRole", [("practitioner", grant.user), ("active:not", "false"), ("_count", "100")], strict=True)
            with self._store.latest(SYSTEM) as db:
                for row in db.select(compile_search(query, registry, SYSTEM)):
                    role = fhirjson.loads(db.body_of(row))
                    found.add(f"PractitionerRole/{row[2]}")
                    found |= {f"{name}/{identity}" for name, identity in registry.references(role, "organization")}
        return Party(tuple(sorted(found)), purposes)
