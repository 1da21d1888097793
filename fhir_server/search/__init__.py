"""Search: query text to a Query, a Query to SQL, a resource to index rows, and whether a resource matches a Query. Pure: no I/O, no clock."""

from .grant import SYSTEM, Grant, Scope
from .query import Query
from .registry import Registry
from .statement import Statement

__all__ = ["SYSTEM", "Grant", "Query", "Registry", "Scope", "Statement"]
