"""What the admin API asks of whoever keeps the messages of HL7 v2: it knows none of their parts, and is given an object that does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from fhir_server.access.audit import Event
from fhir_server.store.database import Connection

Json = dict[str, Any]
Place = tuple[datetime, str]
"""When a message came, and its id."""


class Inbox(Protocol):
    """Messages as JSON, with moments as datetime. Raises Outcome: `not-found`, `unavailable`, and what is said of each method."""

    def page(self, conditions: Mapping[str, Any], after: Place | None, limit: int) -> list[Json]:
        """Messages that fulfil all conditions, the newest first, from behind a place on."""

    def message(self, identity: str) -> Json:
        """All of one message."""

    def revision(self, identity: str) -> int:
        """A number that is another one after each change of a message."""

    def correct(self, connection: Connection, identity: str, text: str | None, revision: int) -> Json:
        """Stores what a message should have said, or None; the message as in a list. Raises `precondition`, `invalid`, `too-large`."""

    def replay(self, identity: str, by: Event, *, text: str | None = None, patient: str | None = None, revision: int | None = None) -> Json:
        """Processes a message again, for whom `by` tells of. Raises `gone`, `precondition`, `conflict`, `invalid`, `too-large`."""

    def replay_many(self, conditions: Mapping[str, Any], after: Place | None, limit: int, by: Event) -> tuple[list[Json], int, Place | None]:
        """Processes messages again, oldest first, from behind a place on; what became of each, how many are left, and behind which place."""
