"""Search: query text to a Query, a Query to SQL, a resource to index rows, and whether a resource matches a Query. Pure: no I/O, no clock."""

from .grant import SYSTEM, Grant, Scope

__all__ = ["SYSTEM", "Grant", "Scope"]
