"""Messages to people, their texts and the rules for them, as they come in and go out."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields, validate

from fhir_server.clinic.messages.events import CHANNELS, EVENTS
from fhir_server.clinic.messages.rendering import MAX_SOURCE
from fhir_server.clinic.messages.rows import STATES
from fhir_server.clinic.messages.templates import STATES as TEMPLATE_STATES

from .common import Page, Paging, Strict, moment, shown

_LANGUAGE: Final = validate.Regexp(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})?$")


def _event(**options: Any) -> fields.String:
    return fields.String(validate=validate.OneOf(list(EVENTS)), metadata={"description": "What people are told of."}, **options)


def _channel(**options: Any) -> fields.String:
    return fields.String(validate=validate.OneOf(CHANNELS), **options)


class NotificationQuery(Paging):
    """Which messages."""

    event = _event()
    state = fields.String(validate=validate.OneOf(STATES))
    channel = _channel()
    patient = fields.String(validate=validate.Length(1, 64), metadata={"description": "The id of a Patient."})
    focus = fields.String(validate=validate.Length(1, 128), metadata={"description": "What they are about, as Appointment/12."})


class Notification(Schema):
    """A message to somebody, without its text and its address."""

    id = fields.Integer(required=True)
    event = _event(required=True)
    focus = shown("What it is about, as Appointment/12.")
    channel = _channel(required=True)
    patient = shown("The id of the Patient.")
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    reason = shown("Why it was not sent: a code of message-reason.", may_lack=True)
    attempts = fields.Integer(required=True, metadata={"description": "How often it was tried."})
    fault = shown("Why the last try came to nothing.", may_lack=True)
    told = shown("The subject, or the SMS, that was sent.", may_lack=True)
    request = shown("The id of its CommunicationRequest.", may_lack=True)
    communication = shown("The id of its Communication.", may_lack=True)
    due = moment("When it leaves, or left, at the earliest.")
    expires = moment("When it is of no use any more.", may_lack=True)
    start = moment("The time of the appointment that it tells of.", may_lack=True)
    created = moment("When it was planned.")
    ended = moment("When it was sent, or given up.", may_lack=True)


class Notifications(Page):
    """Messages, the newest first."""

    items = fields.List(fields.Nested(Notification), required=True)


class Ran(Schema):
    """What became of how many messages."""

    sent = fields.Integer(required=True)
    again = fields.Integer(required=True, metadata={"description": "Due later: a try has failed, or there are quiet hours."})
    suppressed = fields.Integer(required=True, metadata={"description": "Not wanted, or there is no address."})
    revoked = fields.Integer(required=True, metadata={"description": "What they told is not so any more."})
    expired = fields.Integer(required=True)
    dead = fields.Integer(required=True, metadata={"description": "Could not be sent."})
    left = fields.Integer(required=True, metadata={"description": "Still due."})


def _reminders(**options: Any) -> fields.List[Any]:
    told = "Minutes before an appointment at which its patient is reminded."
    return fields.List(fields.Integer(strict=True), validate=validate.Length(0, 5), metadata={"description": told}, **options)


def _silent(**options: Any) -> fields.List[Any]:
    told = "Events that nobody is told of."
    return fields.List(
        fields.String(validate=validate.OneOf(list(EVENTS))), validate=validate.Length(0, 20), metadata={"description": told}, **options
    )


class Rules(Schema):
    """How people are told."""

    clinic = shown("What the clinic is called in messages; empty for `your clinic`.")
    language = shown("Where a patient's record names none that there are texts in.")
    reminders = _reminders(required=True)
    quiet_from = shown("From then on no reminder leaves and no SMS that can wait, as 21:00 by the clinic's clock; null for always.", may_lack=True)
    quiet_to = shown("Until then.", may_lack=True)
    silent = _silent(required=True)


class RuleChanges(Strict):
    """What is to change of it; what is not named stays."""

    clinic = fields.String(validate=validate.Length(0, 80))
    language = fields.String(validate=_LANGUAGE)
    reminders = _reminders()
    quiet_from = fields.String(allow_none=True, validate=validate.Length(5, 5))
    quiet_to = fields.String(allow_none=True, validate=validate.Length(5, 5))
    silent = _silent()


class NewTemplate(Strict):
    """A text for an event, a channel and a language."""

    event = _event(required=True)
    channel = _channel(required=True)
    language = fields.String(required=True, validate=_LANGUAGE, metadata={"description": "As en or de-AT."})
    subject = fields.String(validate=validate.Length(1, 300), metadata={"description": "Of a mail; an SMS has none."})
    text = fields.String(required=True, validate=validate.Length(1, MAX_SOURCE))


class TextsQuery(Strict):
    """Which texts."""

    language = fields.String(load_default="en", validate=_LANGUAGE)


class TemplateQuery(Paging):
    """Which versions."""

    event = _event()
    channel = _channel()
    language = fields.String(validate=_LANGUAGE)
    state = fields.String(validate=validate.OneOf(TEMPLATE_STATES))


class Template(Schema):
    """A version of a text."""

    id = fields.Integer(required=True, allow_none=True, metadata={"description": "Its number; null for the program's own."})
    event = _event(required=True)
    channel = _channel(required=True)
    language = shown("As en or de-AT.")
    version = fields.Integer(required=True, metadata={"description": "Counted for each event, channel and language; 0 for the program's own."})
    state = fields.String(required=True, validate=validate.OneOf(TEMPLATE_STATES))
    subject = shown("Of a mail.", may_lack=True)
    text = shown("With its gaps.")
    created = moment("When it was written.", may_lack=True)
    created_by = shown("The login of an administrator.", may_lack=True)
    activated = moment("When it was activated last.", may_lack=True)
    retired = moment("When another one took its place.", may_lack=True)


class Templates(Page):
    """Versions, the newest first."""

    items = fields.List(fields.Nested(Template), required=True)


class Variable(Schema):
    """What a text may name."""

    name = shown("As it stands in the gap.")
    about = shown("What it holds.")


class Texts(Schema):
    """The texts that count, and what they may name."""

    items = fields.List(fields.Nested(Template), required=True)
    variables = fields.List(fields.Nested(Variable), required=True)


class Size(Schema):
    """How long an SMS is."""

    alphabet = fields.String(required=True, validate=validate.OneOf(("GSM-7", "UCS-2")))
    length = fields.Integer(required=True, metadata={"description": "Septets, or UTF-16 code units."})
    segments = fields.Integer(required=True, metadata={"description": "Parts that it is sent and paid for in."})


class Preview(Schema):
    """A text with its gaps filled."""

    subject = shown("Of a mail.", may_lack=True)
    text = shown("As somebody would read it.")
    sms = fields.Nested(Size, required=True, allow_none=True)
