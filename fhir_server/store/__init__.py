"""The only code that opens a connection for FHIR data."""

from .migrate import migrate
from .ops import Commit, Create, Delete, Lookup, Patch, Put, Version, Written
from .snapshot import HistoryScope, Snapshot
from .store import Store

__all__ = ["Commit", "Create", "Delete", "HistoryScope", "Lookup", "Patch", "Put", "Snapshot", "Store", "Version", "Written", "migrate"]
