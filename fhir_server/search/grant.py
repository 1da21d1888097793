"""What one caller may do: a plain value made once per request and demanded by both doors of the store.

Scopes: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Permission = Literal["c", "r", "u", "d", "s"]


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope for resources: a type or `*`, and the permissions out of `cruds`.

    With a `query`, search parameters such as `category=laboratory`, it opens what matches these, and that for reading and searching only.
    """

    type: str
    permissions: frozenset[str]
    query: str = ""

    def opens(self, resource_type: str, permission: Permission) -> bool:
        """Whether some instance of the type may be treated so."""
        return permission in self.permissions and self.type in ("*", resource_type) and (not self.query or permission in "rs")


@dataclass(frozen=True, slots=True)
class Grant:
    """Who asks and what is open to them.

    `actor` names them in the audit trail. `patient` is the id of the one patient whose compartment they are held to, None for no such bound.
    `limits` are types, each with search parameters that its instances must match besides.
    `account`, `session` and `client` are the ids of the account that has signed in, of its session, and of the app that it has let in; `user` is who
    the account is in FHIR, as `Practitioner/7`. Each is None where there is none.
    """

    actor: str
    roles: frozenset[str]
    scopes: tuple[Scope, ...]
    patient: str | None = None
    limits: tuple[tuple[str, str], ...] = ()
    account: str | None = None
    session: str | None = None
    client: str | None = None
    user: str | None = None

    @property
    def text(self) -> str:
        """The caller and all that is open to them, in one text: a page link, which carries places and totals, is good for the same alone."""
        scopes = sorted({f"{scope.type}.{''.join(sorted(scope.permissions))}?{scope.query}" for scope in self.scopes})
        return repr((self.actor, sorted(self.roles), scopes, self.patient, sorted(self.limits)))

    def allows(self, resource_type: str, permission: Permission) -> bool:
        """Whether any instance of the type may be created, read, updated, deleted or searched."""
        return any(scope.opens(resource_type, permission) for scope in self.scopes)

    def conditions(self, resource_type: str) -> tuple[tuple[str, ...], ...]:
        """What an instance must match to be seen: of each group at least one query. Empty where nothing but type and compartment matters."""
        asked = tuple(scope.query for scope in self.scopes if scope.opens(resource_type, "r") or scope.opens(resource_type, "s"))
        groups = [] if not asked or "" in asked else [asked]
        return (*groups, *((query,) for name, query in self.limits if name == resource_type))

    @property
    def narrows(self) -> bool:
        """Whether instances of one type may differ in whether they can be seen."""
        return self.patient is not None or bool(self.limits) or any(scope.query for scope in self.scopes)


SYSTEM = Grant("system", frozenset({"admin"}), (Scope("*", frozenset("cruds")),))
"""The server itself: migrations, loading by the operator, jobs."""
