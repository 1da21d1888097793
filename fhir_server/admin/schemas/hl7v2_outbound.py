"""Peers of HL7 v2 and the messages on their way to them, as they come in and go out."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields, validate

from fhir_server.hl7v2.outbound.deliveries import STATES
from fhir_server.hl7v2.outbound.peers import CHARSETS, EVENTS, VERSIONS

from .common import Page, Paging, Strict, Switch, moment, shown

_NAME: Final = validate.Length(1, 100)
_WORD: Final = validate.Length(0, 180)


def _events(**options: Any) -> fields.List[Any]:
    told = "Trigger events that it is told of. O21 goes out as O01 to versions before 2.5."
    return fields.List(
        fields.String(validate=validate.OneOf(list(EVENTS))), validate=validate.Length(1, len(EVENTS)), metadata={"description": told}, **options
    )


class _Entered(Strict):
    """What may be entered at first and later."""

    tls = Switch(metadata={"description": "Whether to speak TLS; its certificate has to be good for `host`."})
    ca = fields.String(
        allow_none=True, validate=validate.Length(1, 32_000), metadata={"description": "Who vouches for its certificate, in PEM; else the machine's."}
    )
    own_application = fields.String(validate=_WORD, metadata={"description": "MSH-3: what this server is called there."})
    own_facility = fields.String(validate=_WORD, metadata={"description": "MSH-4."})
    version = fields.String(validate=validate.OneOf(VERSIONS), metadata={"description": "Of HL7 v2."})
    charset = fields.String(validate=validate.OneOf(list(CHARSETS)), metadata={"description": "MSH-18."})
    seconds = fields.Integer(strict=True, validate=validate.Range(1, 120), metadata={"description": "How long an answer may take."})


class NewPeer(_Entered):
    """A peer to register. Without a version it is spoken to in 2.5.1, without a character set in UTF-8."""

    name = fields.String(required=True, validate=_NAME, metadata={"description": "What people are shown."})
    host = fields.String(required=True, validate=validate.Length(1, 253), metadata={"description": "A name or an address."})
    port = fields.Integer(required=True, strict=True, validate=validate.Range(1, 65535))
    application = fields.String(required=True, validate=_WORD, metadata={"description": "MSH-5: what it is called."})
    facility = fields.String(required=True, validate=_WORD, metadata={"description": "MSH-6."})
    events = _events(required=True)


class PeerChanges(_Entered):
    """What is to change of a peer; what is not named stays, null takes away."""

    name = fields.String(validate=_NAME)
    host = fields.String(validate=validate.Length(1, 253))
    port = fields.Integer(strict=True, validate=validate.Range(1, 65535))
    application = fields.String(validate=_WORD)
    facility = fields.String(validate=_WORD)
    events = _events()
    disabled = Switch(metadata={"description": "Whether it is told nothing more. What waits for it waits on."})


class Peer(Schema):
    """A peer."""

    id = shown("Its number here.")
    name = shown("What people are shown.")
    host = shown("A name or an address.")
    port = fields.Integer(required=True)
    tls = fields.Boolean(required=True)
    ca = shown("Who vouches for its certificate, in PEM.", may_lack=True)
    application = shown("MSH-5.")
    facility = shown("MSH-6.")
    own_application = shown("MSH-3.")
    own_facility = shown("MSH-4.")
    version = shown("Of HL7 v2.")
    charset = shown("MSH-18.")
    events = fields.List(fields.String(), required=True)
    seconds = fields.Integer(required=True)
    created = moment("When it was registered.")
    created_by = shown("The login of an administrator.")
    disabled = moment("Since when it is told nothing; null where it is.", may_lack=True)


class Peers(Page):
    """Peers, the newest first."""

    items = fields.List(fields.Nested(Peer), required=True)


class PeerState(Schema):
    """How it goes with a peer now."""

    waiting = fields.Integer(required=True, metadata={"description": "Messages that wait for it."})
    dead = fields.Integer(required=True, metadata={"description": "Messages that it has refused, or not answered, or that could not be made."})
    failures = fields.Integer(required=True, metadata={"description": "Tries in a row that came to nothing."})
    fault = shown("Why the last one did.", may_lack=True)
    due = moment("When the next one is; null for at once.", may_lack=True)


class DeliveryQuery(Paging):
    """Which messages."""

    peer = fields.String(validate=validate.Length(1, 64))
    state = fields.String(validate=validate.OneOf(STATES))
    type = fields.String(validate=validate.Length(1, 64))
    resource = fields.String(validate=validate.Length(1, 64))
    control_id = fields.String(validate=validate.Length(1, 64))


class DeliveryInList(Schema):
    """A message without its text."""

    id = fields.Integer(required=True)
    peer = shown("The id of the peer.")
    control_id = shown("MSH-10.")
    event = shown("As SIU^S12.")
    type = shown("The type of the resource that has changed.")
    resource = shown("Its id.")
    version = fields.Integer(required=True, metadata={"description": "Its version."})
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    attempts = fields.Integer(required=True, metadata={"description": "How often it was sent."})
    created = moment("When it was made.")
    sent = moment("When it was sent last.", may_lack=True)
    ended = moment("When the peer took it, or it died.", may_lack=True)
    fault = shown("Why it is dead, or why the last try came to nothing.", may_lack=True)


class Delivery(DeliveryInList):
    """A message."""

    message = shown("As it goes out, a segment to a line; null where none could be made.", may_lack=True)
    answer = shown("The acknowledgement as it came.", may_lack=True)


class Deliveries(Page):
    """Messages, the newest first."""

    items = fields.List(fields.Nested(DeliveryInList), required=True)
