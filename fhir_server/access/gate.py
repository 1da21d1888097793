"""From a bearer token to the Grant that every FHIR door asks for: token, session, roles and scopes, and what restricts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Statement
from fhir_server.store import Store, consents
from fhir_server.store.standing import Standing

from .accounts.sessions import ALIVE
from .restrictions import Restrictions
from .tokens import ended, session_and_grant

_STANDING: Final = f"SELECT (SELECT generation FROM consent_generation), %(id)s = '' OR EXISTS ({ALIVE % {'id': '%(id)s', 'now': '%(now)s'}})"  # noqa: S608 - our words
_OPEN: Final = f"EXISTS ({ALIVE % {'id': '%s', 'now': '%s'}})"
_NO_SESSION: Final = Statement("TRUE")
_SHORTEST_REASON: Final = 5
_LONGEST_REASON: Final = 500


class Gate:
    """The gate of one process. Keeps what restricts until it changes, which it asks together with whether a session is open."""

    def __init__(self, store: Store, secret: str) -> None:
        """Looks sessions, Consents and the policy up in the store; `secret` is the one that tokens are signed with."""
        self._store = store
        self._secret = secret
        self._restrictions = Restrictions(store)

    def grant(self, token: str, now: float, break_glass: str = "") -> Grant:
        """The grant of a token at `now` (seconds since 1970); with a reason to break the glass, without what restricts them.

        Raises Outcome `unauthenticated` as `grant_of`, `forbidden` where it is not the caller's to break the glass, `parameter` for no reason at all.
        Costs one prepared statement for tokens of sessions, of roles and of apps; none for those that only an operator can make.
        """
        presumed, standing = self.presumed(token, now, break_glass)
        if standing is None:
            return presumed
        with self._store.database.connection() as connection:
            generation, is_open = connection.execute(_STANDING, {"id": presumed.session or "", "now": now}).fetchall()[0]
        return standing.settle(generation or 0, is_open)

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
        known = self._restrictions.generation if restricted else None
        presumed = grant if known is None else self._limited(grant, known, now)

        def settle(generation: int, is_open: bool) -> Grant:  # noqa: FBT001 - as the database gives it
            if not is_open:
                raise ended()
            return presumed if known in {generation, None} else self._limited(grant, generation, now)

        return presumed, Standing(_NO_SESSION if session is None else Statement(_OPEN, (session, now, now)), known, settle)

    def limited(self, grant: Grant, now: float) -> Grant:
        """A grant with what Consents and the policy take away from it at `now` (seconds since 1970). One statement, for those it is about."""
        if not is_restricted(grant):
            return grant
        with self._store.database.connection() as connection:
            generation = consents.generation(connection)
        return self._limited(grant, generation, now)

    def _limited(self, grant: Grant, generation: int, now: float) -> Grant:
        found = self._restrictions.denials(grant, generation, now)
        return replace(grant, denials=found) if found else grant


def is_restricted(grant: Grant) -> bool:
    """Whether Consents count for a caller: for whoever works at the clinic, those related to a patient, and apps; not for patients and operators."""
    if grant.roles:
        return grant.roles != {"patient"} or (grant.user is not None and grant.user.startswith("RelatedPerson/"))
    return grant.client is not None


def broken(grant: Grant, reason: str) -> Grant:
    """The grant of a doctor who breaks the glass. Raises Outcome `forbidden` for anybody else, their apps too, `parameter` for what is no reason."""
    if "doctor" not in grant.roles or grant.client is not None:
        raise Outcome("forbidden", "Only doctors may break the glass, and none of their apps for them")
    said = " ".join(reason.split())
    if not (_SHORTEST_REASON <= len(said) <= _LONGEST_REASON and said.isprintable()):
        raise Outcome("parameter", f"X-Break-Glass needs the reason, in {_SHORTEST_REASON} to {_LONGEST_REASON} characters")
    return replace(grant, break_glass=said)
