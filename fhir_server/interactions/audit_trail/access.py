"""Who may look at the audit trail."""

from __future__ import annotations

from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.search.grant import Permission, Way


def require(grant: Grant, permission: Permission) -> None:
    """Raises Outcome `forbidden` unless the caller may do so with all AuditEvents there are.

    There is no part of the trail for anybody: a caller held to a patient has `Patient/[id]/$access-report`.
    """
    if not grant.allows("AuditEvent", permission) or grant.ways("AuditEvent", permission) != (Way(None, ""),):
        verb = {"c": "create", "r": "read", "s": "search"}.get(permission, "change")
        raise Outcome("forbidden", f"The token does not allow to {verb} AuditEvent")
