"""`/roles`: what each role may do, for reading."""

from __future__ import annotations

from typing import Any, Final

from flask import Response
from marshmallow import Schema, fields

from fhir_server.access.roles import ROLES, RULES, Role

from .exchange import answered
from .routes import Routes
from .schemas.common import shown

routes: Final = Routes("roles", "What each role may do over FHIR.")


class Rule(Schema):
    """What is open of some resource types."""

    types = fields.List(fields.String(), required=True)
    permissions = shown("Of create, read, update, delete and search the first letters, in this order.")
    held_to = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Searches, one of which an instance has to match; `{user}` is who the account is in FHIR. None: any instance."},
    )
    editable = fields.List(fields.String(), required=True, metadata={"description": "The elements that an update may change. None: all."})


class RoleRules(Schema):
    """The rules of a role."""

    role = shown("The name of the role.")
    rules = fields.List(fields.Nested(Rule), required=True)


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
    rules = [
        {"types": rule.types.split(), "permissions": rule.permissions, "held_to": list(rule.held_to), "editable": sorted(rule.editable)}
        for rule in RULES[role]
    ]
    return {"role": role, "rules": rules}
