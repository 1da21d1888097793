"""The only code that opens a connection for FHIR data. What it is asked to write stands in `store.ops`."""

from .postgres.migrate import migrate
from .snapshot import HistoryScope, Snapshot
from .store import Store
from .writing.content import instant
from .writing.links import conditional_references, relink

__all__ = ["HistoryScope", "Snapshot", "Store", "conditional_references", "instant", "migrate", "relink"]
