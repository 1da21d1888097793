"""From a bearer token to the Grant that every FHIR door asks for: token, session, roles and scopes, and what patients have forbidden."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM, Grant, Statement, compile_search
from fhir_server.store import Store, consents
from fhir_server.store.database import Frequent
from fhir_server.store.standing import Standing

from .consent import PURPOSES, Party, Restriction, denials
from .sessions import ALIVE
from .tokens import ended, session_and_grant

_STANDING: Final = Frequent(
    "standing",
    f"SELECT (SELECT generation FROM consent_generation), $1::text = '' OR EXISTS ({ALIVE % {'id': '$1::text', 'now': '$2::float8'}})",  # noqa: S608 - our words
)
_OPEN: Final = f"EXISTS ({ALIVE % {'id': '%s', 'now': '%s'}})"
_NO_SESSION: Final = Statement("TRUE")
_SHORTEST_REASON: Final = 5
_LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class _Known:
    """The restrictions of one generation, and the parties that they were looked at for."""

    generation: int
    restrictions: tuple[Restriction, ...]
    parties: dict[tuple[str | None, frozenset[str], str | None], Party]


class Gate:
    """The gate of one process. Keeps what Consents say until they change, which it asks together with whether a session is open."""

    def __init__(self, store: Store, secret: str) -> None:
        """Looks sessions and Consents up in the store; `secret` is the one that tokens are signed with."""
        self._store = store
        self._secret = secret
        self._lock = threading.Lock()
        self._known = _Known(0, (), {})

    def grant(self, token: str, now: float, break_glass: str = "") -> Grant:
        """The grant of a token at `now` (seconds since 1970); with a reason to break the glass, without what patients have forbidden.

        Raises Outcome `unauthenticated` as `grant_of`, `forbidden` where it is not the caller's to break the glass, `parameter` for no reason at all.
        Costs one prepared statement for tokens of sessions, of roles and of apps; none for those that only an operator can make.
        """
        presumed, standing = self.presumed(token, now, break_glass)
        if standing is None:
            return presumed
        with self._store.database.connection() as connection:
            generation, is_open = _STANDING.row(connection, presumed.session or "", str(now)) or (None, None)
        return standing.settle(int(generation or 0), is_open == "t")

    def presumed(self, token: str, now: float, break_glass: str = "") -> tuple[Grant, Standing | None]:
        """The grant as far as this process knows, and what is still to be asked; None where that is nothing. No statement.

        Raises Outcome as `grant`, but for a session that is over: that is found out by whoever asks what the grant stands on.
        """
        session, grant = session_and_grant(self._secret, token, now)
        restricted = is_restricted(grant)
        if break_glass:
            grant, restricted = broken(grant, break_glass), False
        if session is None and not restricted:
            return grant, None
        known = self._known.generation if restricted else None
        presumed = grant if known is None else self._limited(grant, known, now)

        def settle(generation: int, is_open: bool) -> Grant:  # noqa: FBT001 - as the database gives it
            if not is_open:
                raise ended()
            return presumed if known in {generation, None} else self._limited(grant, generation, now)

        return presumed, Standing(_NO_SESSION if session is None else Statement(_OPEN, (session, now, now)), known, settle)

    def _limited(self, grant: Grant, generation: int, now: float) -> Grant:
        found = denials(*self._restrictions(grant, generation), datetime.fromtimestamp(now, UTC), self._store.registry.zone)
        return replace(grant, denials=found) if found else grant

    def restrictions(self, grant: Grant) -> tuple[tuple[Restriction, ...], Party]:
        """All Consents that restrict somebody, and the caller as they may name them."""
        with self._store.database.connection() as connection:
            generation = connection.execute("SELECT generation FROM consent_generation").fetchall()[0][0]
        return self._restrictions(grant, generation)

    def _restrictions(self, grant: Grant, generation: int) -> tuple[tuple[Restriction, ...], Party]:
        with self._lock:
            if self._known.generation != generation:
                self._known = _Known(generation, tuple(self._read()), {})
            known = self._known
        key = (grant.user, grant.roles, grant.client)
        party = known.parties.get(key)
        if party is None and known.restrictions:
            party = known.parties[key] = self._party(grant)
        return known.restrictions, party or Party(frozenset(), frozenset())

    def _read(self) -> Iterator[Restriction]:
        registry = self._store.registry
        with self._store.database.connection() as connection:
            rows = consents.rules(connection)
        for _, body in rows:
            consent = fhirjson.loads(body.encode())
            patient = next((identity for name, identity in registry.references(consent, "patient") if name == "Patient"), None)
            found = Restriction.of(consent, patient)
            if found is not None:
                yield found

    def _party(self, grant: Grant) -> Party:
        purposes = frozenset(code for role in grant.roles for code in PURPOSES.get(role, ()))
        if grant.user is None:
            return Party(frozenset(), purposes)
        registry = self._store.registry
        found = {grant.user}
        if grant.user.startswith("Practitioner/"):
            query = registry.parse("PractitionerRole", [("practitioner", grant.user), ("active:not", "false"), ("_count", "100")], strict=True)
            with self._store.latest(SYSTEM) as db:
                for row in db.select(compile_search(query, registry, SYSTEM)):
                    role = fhirjson.loads(db.body_of(row))
                    found.add(f"PractitionerRole/{row[2]}")
                    found |= {f"{name}/{identity}" for name, identity in registry.references(role, "organization")}
        return Party(frozenset(found), purposes)


def is_restricted(grant: Grant) -> bool:
    """Whether Consents count for a caller: for whoever works at the clinic and for apps, not for patients themselves or an operator's own tokens."""
    if grant.roles:
        return grant.roles != {"patient"}
    return grant.client is not None


def broken(grant: Grant, reason: str) -> Grant:
    """The grant of a doctor who breaks the glass. Raises Outcome `forbidden` for anybody else, their apps too, `parameter` for what is no reason."""
    if "doctor" not in grant.roles or grant.client is not None:
        raise Outcome("forbidden", "Only doctors may break the glass, and none of their apps for them")
    said = " ".join(reason.split())
    if not (_SHORTEST_REASON <= len(said) <= _LONGEST_REASON and said.isprintable()):
        raise Outcome("parameter", f"X-Break-Glass needs the reason, in {_SHORTEST_REASON} to {_LONGEST_REASON} characters")
    return replace(grant, break_glass=said)
