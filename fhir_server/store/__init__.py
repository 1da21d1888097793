"""The only code that opens a connection for FHIR data. What it is asked to write stands in `store.ops`."""

from .content import instant
from .links import conditional_references, relink
from .migrate import migrate
from .snapshot import HistoryScope, Snapshot
from .store import Store

__all__ = ["HistoryScope", "Snapshot", "Store", "conditional_references", "instant", "migrate", "relink"]
