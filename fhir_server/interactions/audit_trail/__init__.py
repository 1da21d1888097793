"""AuditEvents: rows of the audit trail as resources, and what may be done with them."""

from .access import require
from .answers import create, history, read, search, vread
from .render import rendered
from .report import NOT_SENT, names_of, shown_to

__all__ = ["NOT_SENT", "create", "history", "names_of", "read", "rendered", "require", "search", "shown_to", "vread"]
