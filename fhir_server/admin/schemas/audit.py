"""Events of the audit trail as they are asked for and shown."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from fhir_server.store.trail import KINDS

from .common import Page, Paging, moment, shown

_SHORT = validate.Length(1, 200)


class EventQuery(Paging):
    """Which events to list; all conditions have to hold."""

    kind = fields.String(validate=validate.OneOf(KINDS))
    outcome = fields.Integer(validate=validate.OneOf((0, 4, 8, 12)), metadata={"description": "0 done, 4 the caller's fault, 8 and 12 the server's."})
    actor = fields.String(validate=_SHORT, metadata={"description": "The name that the caller went by: a login, or what a token is called."})
    account = fields.String(validate=_SHORT, metadata={"description": "The id of the caller's account."})
    patient = fields.String(validate=_SHORT, metadata={"description": "The id of a Patient whose record it was about."})
    type = fields.String(validate=_SHORT, metadata={"description": "What it was done to: a resource type, or another thing as `account`."})
    resource = fields.String(validate=_SHORT, metadata={"description": "The id of what it was done to."})
    request_id = fields.String(validate=_SHORT, metadata={"description": "The request's X-Request-Id."})
    since = fields.AwareDateTime(metadata={"description": "From this instant on, with its zone."})
    before = fields.AwareDateTime(metadata={"description": "Before this instant, with its zone."})


class Event(Schema):
    """An event."""

    id = shown("The id, also that of the AuditEvent.")
    recorded = moment("When it happened.")
    received = moment("When it was taken from a client that has told of it; null for the server's own.", may_lack=True)
    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    action = shown("C, R, U, D or E, as in AuditEvent.action.")
    outcome = fields.Integer(required=True)
    actor = shown("The name that the caller went by.")
    account = shown("The id of the caller's account.", may_lack=True)
    fhirUser = shown("Who the caller is in FHIR.", may_lack=True)  # noqa: N815 - the name that SMART has for it
    roles = fields.List(fields.String(), required=True)
    client = shown("The app that the caller used.", may_lack=True)
    session = shown("The session.", may_lack=True)
    purpose = shown("A code of v3-ActReason, as BTG where the glass was broken.", may_lack=True)
    address = shown("Where the request came from.", may_lack=True)
    request_id = shown("The request's X-Request-Id.", may_lack=True)
    type = shown("What it was done to.", may_lack=True)
    resource = shown("The id of what it was done to.", may_lack=True)
    version = fields.Integer(required=True, allow_none=True)
    patients = fields.List(fields.String(), required=True, metadata={"description": "The ids of the Patients whose record it was about."})
    query = shown("What was asked.", may_lack=True)
    detail = shown("A few words.", may_lack=True)


class Events(Page):
    """Events, the newest first."""

    items = fields.List(fields.Nested(Event), required=True)


class Verdict(Schema):
    """What the audit chain was found to be."""

    ok = fields.Boolean(required=True, metadata={"description": "Whether every event is as it was written."})
    entries = fields.Integer(required=True, metadata={"description": "Events in order, up to the first that is not."})
    archived = fields.Integer(required=True, metadata={"description": "How many of them, the oldest, are in archives and were not looked at."})
    head = shown("The hash of the last of them. Kept elsewhere it shows later that none was cut off since.")
    unsealed = fields.Integer(required=True, metadata={"description": "Events of the last moments, which are not in the chain yet."})
    fault = shown("The first record that is not in order, and how.", may_lack=True)
