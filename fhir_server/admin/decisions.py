"""What administrators decide as a whole, as rules and minutes: shown with an ETag, and changed by one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from flask import Response

from fhir_server.access.audit import Event
from fhir_server.store.database import Connection

from .exchange import Answer, act, answered, check_match, etag, tagged
from .office import office

Read = Callable[[Connection], dict[str, Any]]
"""What is decided now, as it is shown."""


def show(read: Read) -> Response:
    """What is decided."""
    with office().store.database.connection() as connection:
        body = read(connection)
    return answered(body, headers={"ETag": etag(body)})


def change(
    table: Literal["policy", "queue_setting", "scheduling_setting"], read: Read, decide: Callable[[Connection], object], event: Event | None = None
) -> Response:
    """Decides something, and answers with all that is decided then; `table` is where it stands, `event` what the audit trail gets besides.

    Raises Outcome `precondition` where If-Match names another state, and what `decide` raises.
    """

    def work(connection: Connection) -> Answer:
        # The whole table: a row to lock may not be there yet. Readers do not wait.
        connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        check_match(read(connection))
        decide(connection)
        return tagged(read(connection), event=event)

    return act(work)
