"""Index rows made anew, as they are where they were made under other settings."""

from __future__ import annotations

from fhir_server.store import Store
from fhir_server.store.reindexing.rebuild import Progress


def made_anew(store: Store, progress: Progress = lambda _done, _total: None) -> int | None:
    """Makes the rows of everything; how many resources there are."""
    with store.database.connection() as connection:
        connection.execute("UPDATE index_settings SET fingerprint = 'others'")
    return store.fit(progress=progress)
