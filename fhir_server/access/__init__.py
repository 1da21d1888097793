"""Who asks, and what is open to them: tokens, roles and scopes become a Grant."""

from .accounts.sessions import is_alive
from .gate import Gate
from .roles import ROLES, is_administrator, may_send_messages, role_scopes
from .scopes import parse_scopes
from .tokens import grant_of, issue, issue_board

__all__ = ["ROLES", "Gate", "grant_of", "is_administrator", "is_alive", "issue", "issue_board", "may_send_messages", "parse_scopes", "role_scopes"]
