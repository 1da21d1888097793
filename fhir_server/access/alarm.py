"""What happens when a doctor breaks the glass: an event of its own in the audit trail, and word to every administrator."""

from __future__ import annotations

from typing import Final

from fhir_server.outcome import Outcome
from fhir_server.search import Grant

from . import audit
from .accounts import limits
from .accounts.desk import Desk
from .accounts.limits import Limit
from .audit import Event

_MAILS: Final = 1
"""Messages about one doctor within 15 minutes: each request under a broken glass is in the trail, but nobody reads a mail for each."""


class Alarm:
    """Tells administrators what they should look at now."""

    def __init__(self, desk: Desk) -> None:
        """Finds administrators, and reaches them, by the desk."""
        self._desk = desk

    def ring(self, grant: Grant, *, address: str, request_id: str) -> None:
        """Records the reason for which consent is passed over, durable when this returns, and tells the administrators.

        The message names the doctor and the request, never a patient or the reason, which may name one. Raises Outcome `unavailable`: then nothing
        has been opened.
        """
        event = Event("break-glass", detail=grant.break_glass).by(grant, address=address, request_id=request_id)
        audit.record(self._desk.store, event)
        limit = Limit(self._desk.key("break-glass", grant.account or grant.actor), _MAILS)
        try:
            limits.fail(self._desk.database, limits.enter(self._desk.database, [limit], self._desk.now()))
        except Outcome as outcome:
            if outcome.category != "throttled":
                raise
            return
        text = (
            f"{grant.actor} has opened records that patients have closed to them, as an emergency.\n\n"
            f"The reason that was given, and what was looked at since, is in the audit trail, from the request {request_id} on.\n"
        )
        for account in self._desk.accounts.of_role("admin"):
            self._desk.tell(account, "A doctor has broken the glass", text)
