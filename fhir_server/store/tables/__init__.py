"""The tables of the store.

They stand in one MetaData with the search tables, which `search` declares, and with those of other packages; the migrations must equal it.
"""

from __future__ import annotations

from typing import Final

from fhir_server.search.tables import metadata

from . import billing, consents, exports, index, outbox, queue, reports, scheduling, trail  # noqa: F401 - each adds its own to the MetaData
from .record import BLOCK, resource, resource_version

INDEX_TABLES: Final = tuple(table for name, table in sorted(metadata.tables.items()) if name.startswith("sp_"))
"""The search tables that hold index rows, in one order for every statement."""

__all__ = ["BLOCK", "INDEX_TABLES", "metadata", "resource", "resource_version"]
