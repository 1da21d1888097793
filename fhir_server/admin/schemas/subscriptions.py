"""Subscriptions and their notifications, as they go out."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from fhir_server.clinic.subscriptions.rows import DELIVERIES, STATES

from .common import Page, Paging, moment, shown


class Subscription(Schema):
    """How it goes with a Subscription."""

    id = shown("The id of the FHIR resource.")
    holder = shown("Who has written it last: what is open to them is what it tells of.")
    client = shown("The client that they did it by.", may_lack=True)
    state = fields.String(required=True, validate=validate.OneOf(STATES), metadata={"description": "`new` has still to be checked."})
    type = shown("What its criteria are about.", may_lack=True)
    waiting = fields.Integer(required=True, metadata={"description": "Notifications that wait for it."})
    dead = fields.Integer(required=True, metadata={"description": "Notifications that it has not taken."})
    failures = fields.Integer(required=True, metadata={"description": "Tries in a row that came to nothing."})
    fault = shown("Why the last one did, or why it is in error.", may_lack=True)
    due = moment("When the next try is; null for at once.", may_lack=True)
    ends = moment("When it is turned off.", may_lack=True)


class Subscriptions(Page):
    """Subscriptions, by id."""

    items = fields.List(fields.Nested(Subscription), required=True)


class SubscriptionSecret(Schema):
    """What notifications are signed with."""

    secret = shown("The key of HMAC-SHA256 in the header X-Signature. Shown this once.")


class NotificationsQuery(Paging):
    """Which notifications."""

    subscription = fields.String(validate=validate.Length(1, 64))
    state = fields.String(validate=validate.OneOf(DELIVERIES))
    type = fields.String(validate=validate.Length(1, 64))
    resource = fields.String(validate=validate.Length(1, 64))


class SubscriptionDelivery(Schema):
    """A notification."""

    id = fields.Integer(required=True, metadata={"description": "Its number, as in the header X-Delivery-Id."})
    subscription = shown("The id of the Subscription.")
    type = shown("The type of the resource that has changed.")
    resource = shown("Its id.")
    version = fields.Integer(required=True, metadata={"description": "Its version."})
    state = fields.String(required=True, validate=validate.OneOf(DELIVERIES))
    attempts = fields.Integer(required=True, metadata={"description": "How often it was sent."})
    fault = shown("Why it is dead.", may_lack=True)
    created = moment("When the change was heard of.")
    ended = moment("When it was taken, or given up.", may_lack=True)


class SubscriptionDeliveries(Page):
    """Notifications, the newest first."""

    items = fields.List(fields.Nested(SubscriptionDelivery), required=True)
