"""Search: query text to a Query, a Query to SQL, a resource to index rows, and whether a resource matches a Query. Pure: no I/O, no clock."""

from . import cursor
from .compile import compile_count, compile_matching, compile_revinclude, compile_search
from .conditions import grant_predicate
from .extraction import INDEX_VERSION
from .grant import SYSTEM, Grant, Scope
from .match import matches
from .narrow import narrowed, resolved
from .params.date import parse_date
from .query import Query
from .registry import Registry
from .statement import Statement

__all__ = [
    "INDEX_VERSION",
    "SYSTEM",
    "Grant",
    "Query",
    "Registry",
    "Scope",
    "Statement",
    "compile_count",
    "compile_matching",
    "compile_revinclude",
    "compile_search",
    "cursor",
    "grant_predicate",
    "matches",
    "narrowed",
    "parse_date",
    "resolved",
]
