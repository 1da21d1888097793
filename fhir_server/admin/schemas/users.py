"""Accounts as they come in and go out."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields, post_load, validate

from fhir_server.access import ROLES
from fhir_server.access.accounts.administration import IDENTITIES
from fhir_server.access.accounts.passwords import LONGEST, SHORTEST

from .common import Page, Paging, Strict, moment, shown

STATES: Final = ("invited", "active", "locked", "disabled")
_LOGIN: Final = validate.Length(1, 100)
_ROLE: Final = validate.OneOf(ROLES)


def _roles(**options: Any) -> fields.List[Any]:
    return fields.List(fields.String(validate=_ROLE), validate=validate.Length(1, len(ROLES)), **options)


def _contact(text: str, most: int) -> fields.String:
    return fields.String(allow_none=True, validate=validate.Length(1, most), metadata={"description": text})


def _identity(resource_type: str) -> fields.String:
    form = validate.Regexp(rf"^({resource_type}/)?[A-Za-z0-9\-.]{{1,64}}$", error=f"Not the id of a {resource_type}.")
    return fields.String(
        allow_none=True,
        validate=form,
        metadata={"description": f"The id of the {resource_type} that this person is, or {resource_type}/ and the id."},
    )


class _Entered(Strict):
    """What may be entered at first and later."""

    email = _contact("Where codes go by mail. What an administrator enters counts as proved.", 254)
    phone = _contact("Where codes go by SMS, as +49 170 1234567.", 32)
    practitioner = _identity("Practitioner")
    patient = _identity("Patient")
    related_person = _identity("RelatedPerson")

    @post_load
    def as_ids(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """References become ids."""
        people = {name: data[name].removeprefix(f"{kind}/") for name, kind in IDENTITIES.items() if data.get(name)}
        return data | people


class NewUser(_Entered):
    """An account to make."""

    login = fields.String(required=True, validate=_LOGIN, metadata={"description": "Without blanks; capitals do not matter."})
    password = fields.String(
        allow_none=True,
        validate=validate.Length(SHORTEST, LONGEST),
        metadata={"description": "Without one the account is `invited`, and a code to choose one by goes out by mail or SMS.", "format": "password"},
    )
    roles = _roles(required=True, metadata={"description": "The role patient needs `patient`."})


class UserChanges(_Entered):
    """What is to change of an account; what is not named stays, null takes away."""

    roles = _roles(metadata={"description": "All roles from now on."})
    state = fields.String(
        validate=validate.OneOf(("active", "locked", "disabled")), metadata={"description": "`active` opens again what was locked or disabled."}
    )


class UserQuery(Paging):
    """Which accounts to list."""

    login = fields.String(validate=_LOGIN, metadata={"description": "How the login begins."})
    role = fields.String(validate=_ROLE)
    state = fields.String(validate=validate.OneOf(STATES))


class User(Schema):
    """An account."""

    id = shown("The id of the account.")
    login = shown("By what its owner signs in.")
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    roles = fields.List(fields.String(), required=True)
    email = shown("In lists all but the first letter and the domain is left out.", may_lack=True)
    email_proved = fields.Boolean(required=True)
    phone = shown("In lists all but the last two digits is left out.", may_lack=True)
    phone_proved = fields.Boolean(required=True)
    practitioner = shown("The id of the Practitioner that this person is.", may_lack=True)
    patient = shown("The id of the Patient that this person is.", may_lack=True)
    related_person = shown("The id of the RelatedPerson that this person is.", may_lack=True)
    fhirUser = shown("Who this person is in FHIR, as Practitioner/7.", may_lack=True)  # noqa: N815 - the name that SMART has for it
    totp = fields.Boolean(required=True, metadata={"description": "Whether an authenticator app is the second factor."})
    password_expired = fields.Boolean(required=True, metadata={"description": "Whether the password has to be changed at the next sign-in."})
    created = moment("When the account was made.")


class Users(Page):
    """Accounts by login."""

    items = fields.List(fields.Nested(User), required=True)


class NewPassword(Schema):
    """A password that is shown this once."""

    password = shown("To be told to the account's owner, who has to change it at the next sign-in.")


class Invited(Schema):
    """How an invitation goes."""

    sent = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf(("email", "sms")),
        metadata={"description": "The way that the code goes; null where none is there: then `fhir-server user otp LOGIN` shows one."},
    )
