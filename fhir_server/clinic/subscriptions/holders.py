"""What is open to a subscriber now: what was when they wrote the Subscription, less what account, client and Consents have taken away since."""

from __future__ import annotations

from dataclasses import replace

from fhir_server.access.gate import Gate
from fhir_server.access.scopes import narrow, parse_scopes
from fhir_server.outcome import Outcome
from fhir_server.search import Grant, Scope
from fhir_server.store import Store
from fhir_server.store.database import Connection
from fhir_server.store.rules.subscribers import holder_of


class Holders:
    """The subscribers of one database. Safe to share between threads."""

    def __init__(self, store: Store, secret: str) -> None:
        """`secret` is the one that tokens are signed with."""
        self._store = store
        self._gate = Gate(store, secret)

    def grant(self, connection: Connection, kept: str) -> Grant | None:
        """The grant of a holder now; None where their account or their client is gone, or has lost a role. Up to three statements."""
        grant = holder_of(kept)
        if grant.account is not None:
            row = connection.execute("SELECT roles FROM account WHERE id = %s AND state = 'active'", (grant.account,)).fetchone()
            if row is None or not grant.roles <= set(row[0]):
                return None
        if grant.client is not None:
            row = connection.execute("SELECT scope FROM client WHERE id = %s AND disabled IS NULL", (grant.client,)).fetchone()
            if row is None:
                return None
            grant = replace(grant, scopes=self._narrowed(grant, str(row[0])))
        return self._gate.limited(grant, self._store.clock().timestamp())

    @staticmethod
    def _narrowed(grant: Grant, scope: str) -> tuple[Scope, ...]:
        try:
            return narrow(grant.scopes, parse_scopes(scope, "any").resources)
        except Outcome:
            return ()
