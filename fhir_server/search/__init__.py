"""Search: query text to a Query, a Query to SQL, a resource to index rows, and whether a resource matches a Query. Pure: no I/O, no clock.

Those who put a search together themselves (pages of one moment, includes, compartments) take the parts from the modules.
"""

from . import cursor
from .compile import compile_count, compile_search
from .grant import SYSTEM, Grant, Scope
from .match import matches
from .query import Query
from .registry import Registry
from .statement import Statement

__all__ = ["SYSTEM", "Grant", "Query", "Registry", "Scope", "Statement", "compile_count", "compile_search", "cursor", "matches"]
