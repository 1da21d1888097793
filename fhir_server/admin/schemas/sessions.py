"""Sessions as they are shown, and as they are chosen to end."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from fhir_server.access import ROLES

from .common import Page, Paging, Strict, Switch, moment, shown


class SessionQuery(Paging):
    """Whose sessions to list."""

    user = fields.String(validate=validate.Length(1, 64), metadata={"description": "The id of an account; without it those of all."})
    client = fields.String(validate=validate.Length(1, 64), metadata={"description": "The id of a client."})


class Session(Schema):
    """An open session."""

    id = shown("The id of the session.")
    user = shown("The id of the account; null where a backend service acts for itself.", may_lack=True)
    login = shown("The login of the account.", may_lack=True)
    client = shown("The id of the app or service that holds the tokens; null where people sign in themselves.", may_lack=True)
    created = moment("When it began.")
    last_seen = moment("When it was refreshed last.")
    expires = moment("When it ends in any case.")
    address = shown("Where the sign-in came from.")
    agent = shown("The program that has signed in, as it calls itself.")


class Sessions(Page):
    """Sessions, the newest first."""

    items = fields.List(fields.Nested(Session), required=True)


class Chosen(Strict):
    """Whose sessions are to end: just one of these."""

    class Meta(Strict.Meta):
        """Options of marshmallow."""

    user = fields.String(validate=validate.Length(1, 64), metadata={"description": "The id of an account."})
    role = fields.String(validate=validate.OneOf(ROLES), metadata={"description": "All accounts with this role."})
    client = fields.String(validate=validate.Length(1, 64), metadata={"description": "All that an app was let in to, by its id."})
    all = Switch(validate=validate.Equal(True), metadata={"description": "Everybody's, also your own.", "enum": [True]})

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ValidationError("Just one of user, role, client and all is needed.")


class Revoked(Schema):
    """What was ended."""

    revoked = fields.Integer(required=True, metadata={"description": "How many sessions were open, and are not any more."})
