"""What one caller may do: a plain value made once per request and demanded by both doors of the store.

Scopes: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Permission = Literal["c", "r", "u", "d", "s"]


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope for resources: a type or `*`, and the permissions out of `cruds`."""

    type: str
    permissions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Grant:
    """Who asks and what is open to them.

    `actor` names them in the audit trail. `patient` is the id of the one patient whose compartment they are held to, None for no such bound.
    """

    actor: str
    roles: frozenset[str]
    scopes: tuple[Scope, ...]
    patient: str | None = None

    def allows(self, resource_type: str, permission: Permission) -> bool:
        """Whether any instance of the type may be created, read, updated, deleted or searched."""
        return any(permission in scope.permissions and scope.type in ("*", resource_type) for scope in self.scopes)


SYSTEM = Grant("system", frozenset({"admin"}), (Scope("*", frozenset("cruds")),))
"""The server itself: migrations, loading by the operator, jobs."""
