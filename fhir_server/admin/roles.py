"""`/roles`: what each role may do, for reading."""

from __future__ import annotations

from typing import Any, Final

from flask import Response
from marshmallow import Schema, fields

from fhir_server.access import ROLES, role_scopes
from fhir_server.access.roles import Role, role_limits

from .exchange import answered
from .routes import Routes
from .schemas import shown

routes: Final = Routes("roles", "What each role may do over FHIR.")


class Right(Schema):
    """What is open of a resource type."""

    type = shown("A resource type, * for all.")
    permissions = shown("Of create, read, update, delete and search the first letters, in this order.")
    query = shown("Search parameters that an instance has to match; empty where any instance is open.")


class Limit(Schema):
    """What is not open in any case."""

    type = shown("A resource type.")
    query = shown("Search parameters that an instance has to match besides.")


class RoleRules(Schema):
    """The rules of a role."""

    role = shown("The name of the role.")
    scopes = fields.List(fields.Nested(Right), required=True)
    limits = fields.List(fields.Nested(Limit), required=True)


class Roles(Schema):
    """All roles."""

    items = fields.List(fields.Nested(RoleRules), required=True)


@routes.route("/roles")
@routes.response(200, Roles)
def roles() -> Response:
    """Show what each role may do

    Those of the role patient hold within the patient's own compartment only.
    """
    return answered({"items": [_shown(role) for role in ROLES]})


def _shown(role: Role) -> dict[str, Any]:
    rights = [
        {"type": scope.type, "permissions": "".join(each for each in "cruds" if each in scope.permissions), "query": scope.query}
        for scope in role_scopes(role)
    ]
    limits = [{"type": name, "query": query} for name, query in role_limits(role)]
    return {"role": role, "scopes": rights, "limits": limits}
