"""AuditEvents: rows of the audit trail as resources, and what may be done with them."""

from .answers import create, history, read, search, vread
from .render import rendered

__all__ = ["create", "history", "read", "rendered", "search", "vread"]
