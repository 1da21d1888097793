"""Apps and backend services as they come in and go out, and what administrators decide while the server runs."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from fhir_server.access.apps.registration import AUTH_METHODS, GRANT_TYPES
from fhir_server.access.policy import CONSENTING, REACHING, REGISTRATION

from .common import Page, Strict, Switch, moment, shown

_MOST: Final = 20
_ADDRESS: Final = validate.Length(1, 500)
_SCOPE: Final = validate.Length(1, 4000)
_NAME: Final = validate.Length(1, 100)


def _addresses(description: str, **options: Any) -> fields.List[Any]:
    return fields.List(fields.String(validate=_ADDRESS), validate=validate.Length(0, _MOST), metadata={"description": description}, **options)


def _grant_types(**options: Any) -> fields.List[Any]:
    return fields.List(fields.String(validate=validate.OneOf(GRANT_TYPES)), validate=validate.Length(1, len(GRANT_TYPES)), **options)


class _Entered(Strict):
    """What may be entered at first and later."""

    scope = fields.String(validate=_SCOPE, metadata={"description": "The most that it can be given, scopes with blanks between."})
    redirect_uris = _addresses("Where people come back to, letter by letter.")
    origins = _addresses("From where its scripts may call, as https://app.example.org.")
    launch_uri = fields.String(allow_none=True, validate=_ADDRESS, metadata={"description": "Where the clinic opens it for a patient."})
    jwks = fields.Dict(keys=fields.String(), allow_none=True, metadata={"description": "Its public keys, a JSON Web Key Set."})
    jwks_uri = fields.String(allow_none=True, validate=_ADDRESS, metadata={"description": "Where its public keys are, in place of `jwks`."})


class NewClient(_Entered):
    """A client to register."""

    name = fields.String(required=True, validate=_NAME, metadata={"description": "What people are shown."})
    auth_method = fields.String(
        required=True, validate=validate.OneOf(AUTH_METHODS), metadata={"description": "How it shows who it is; `none` for apps that keep no secret."}
    )
    grant_types = _grant_types(required=True)


class ClientChanges(_Entered):
    """What is to change of a client; what is not named stays, null takes away. All that it was let in to ends, unless only `disabled` is named."""

    name = fields.String(validate=_NAME)
    grant_types = _grant_types()
    disabled = Switch(metadata={"description": "Whether it is shut out."})


class Client(Schema):
    """A client."""

    id = shown("The client_id.")
    name = shown("What people are shown.")
    auth_method = fields.String(required=True, validate=validate.OneOf(AUTH_METHODS))
    grant_types = fields.List(fields.String(), required=True)
    scope = shown("The most that it can be given.")
    redirect_uris = fields.List(fields.String(), required=True)
    origins = fields.List(fields.String(), required=True)
    launch_uri = shown("Where the clinic opens it for a patient.", may_lack=True)
    jwks = fields.Dict(keys=fields.String(), required=True, allow_none=True)
    jwks_uri = shown("Where its public keys are.", may_lack=True)
    created = moment("When it was registered.")
    created_by = shown("The login of an administrator, or how it came to be registered.")
    disabled = moment("When it was shut out; null where it is not.", may_lack=True)


class Registered(Client):
    """A client that was just registered."""

    secret = shown("Shown this once; null where it authenticates in another way.", may_lack=True)


class Clients(Page):
    """Clients, the newest first."""

    items = fields.List(fields.Nested(Client), required=True)


class Secret(Schema):
    """A secret that is shown this once."""

    secret = shown("The secret; the one before is void.")


class InitialToken(Schema):
    """A token for one registration."""

    token = shown("To be handed to whoever registers an app: once, within a week. Shown this once.")


def _registration(**options: Any) -> fields.String:
    told = "Who may register apps: anybody, whoever has been handed a token, or administrators alone."
    return fields.String(validate=validate.OneOf(REGISTRATION), metadata={"description": told}, **options)


def _consent(**options: Any) -> fields.String:
    told = (
        "Whether patients' clinical records are open as roles and scopes say unless a Consent forbids it (`permit`), or closed to whoever works here,"
        " and to apps, unless a Consent of the patient permits it (`deny`)."
    )
    return fields.String(validate=validate.OneOf(CONSENTING), metadata={"description": told}, **options)


def _subscriptions(**options: Any) -> fields.String:
    told = "Where notifications of Subscriptions may go: to addresses of the internet (`public`), or to this network and this machine too (`any`)."
    return fields.String(validate=validate.OneOf(REACHING), metadata={"description": told}, **options)


class Policy(Schema):
    """What administrators decide while the server runs."""

    registration = _registration(required=True)
    consent = _consent(required=True)
    subscriptions = _subscriptions(required=True)


class PolicyChanges(Strict):
    """What is to change of it; what is not named stays."""

    registration = _registration()
    consent = _consent()
    subscriptions = _subscriptions()

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("One of registration, consent and subscriptions is needed.")
