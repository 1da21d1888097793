"""Messages of HL7 v2 as they are asked for, shown, corrected and replayed."""

from __future__ import annotations

from typing import Final

from marshmallow import Schema, fields, validate

from fhir_server.admin.pages import MAX_PAGE

from .common import Page, Paging, Strict, Switch, moment, shown

STATES: Final = ("received", "processed", "warning", "unmatched", "unmapped", "invalid", "rejected", "unreadable", "failed")
_SHORT: Final = validate.Length(1, 200)
_STATE: Final = validate.OneOf((*STATES, "waiting"))
_STATES: Final = (
    "processed and warning: in the record, the latter with faults; unmatched, unmapped, invalid: refused until somebody has named the patient, the"
    " code, or has mended it; failed: for a reason of the server's; received: still to be processed; rejected: not wanted; unreadable: no message."
)


def _text(description: str) -> fields.String:
    return fields.String(validate=_SHORT, metadata={"description": description})


class _Conditions(Strict):
    """Which messages are meant; all conditions have to hold."""

    application = _text("The sending application, MSH-3.")
    facility = _text("The sending facility, MSH-4.")
    control_id = _text("The control id, MSH-10.")
    type = _text("The type, MSH-9.1, as `ORU`.")
    event = _text("The trigger event, MSH-9.2, as `R01`.")
    peer = _text("Who sent it: the name in its certificate or its address; over HTTP the name of the token.")
    patient = _text("The id of the Patient whom it is about.")
    since = fields.AwareDateTime(metadata={"description": "Came at this instant or later, with its zone."})
    before = fields.AwareDateTime(metadata={"description": "Came before this instant, with its zone."})


class MessageQuery(_Conditions, Paging):
    """Which messages to list."""

    state = fields.String(validate=_STATE, metadata={"description": "The state, or `waiting` for all that somebody has to do something about."})
    reused = fields.Boolean(truthy={"true"}, falsy={"false"}, metadata={"description": "Whether another message of its sender has its control id."})


class ChosenMessages(_Conditions):
    """Which messages to replay."""

    state = fields.String(load_default="waiting", validate=_STATE, metadata={"description": "The state; without one all that wait."})
    reused = Switch(metadata={"description": "Whether another message of its sender has its control id."})
    limit = fields.Integer(
        load_default=MAX_PAGE, strict=True, validate=validate.Range(1, MAX_PAGE), metadata={"description": "The most messages of this request."}
    )
    cursor = fields.String(validate=validate.Length(1, 4000), metadata={"description": "Of the answer before, to go on behind it."})


class Correction(Strict):
    """What a message should have said."""

    message = fields.String(
        required=True,
        allow_none=True,
        validate=validate.Length(1),
        metadata={"description": "The whole message with the same MSH-10; its lines may end as they like. null takes a correction back."},
    )


class Replay(Strict):
    """How to process a message again; without anything as it came, or was corrected and linked before."""

    message = fields.String(validate=validate.Length(1), metadata={"description": "The whole message corrected, with the same MSH-10."})
    patient = fields.String(
        validate=validate.Regexp(r"^[A-Za-z0-9\-.]{1,64}$", error="Not the id of a Patient."),
        metadata={"description": "The id of the Patient whom it is about, where it does not tell. The message's identifiers become the patient's."},
    )


class MessageFault(Schema):
    """What is said of a message."""

    severity = fields.String(required=True, validate=validate.OneOf(("E", "W", "I")), metadata={"description": "Error, warning or notice."})
    code = shown("A code of HL7 table 0357.")
    place = shown("Where, in words; empty where it is about all of the message.")
    text = shown("What.")
    segment = shown("The name of the segment.")
    sequence = fields.Integer(required=True, metadata={"description": "Which of the segments of this name."})
    field = fields.Integer(required=True, allow_none=True)
    repetition = fields.Integer(required=True, allow_none=True)
    component = fields.Integer(required=True, allow_none=True)
    diagnostic = shown("For whoever mends the sender.")
    application = shown("A code of the server's.")


class Message(Schema):
    """A message."""

    id = shown("The digest of its bytes.")
    received = moment("When it came first.")
    transport = fields.String(required=True, validate=validate.OneOf(("mllp", "http")))
    peer = shown("Who sent it.")
    address = shown("From where.", may_lack=True)
    application = shown("MSH-3.")
    facility = shown("MSH-4.")
    control_id = shown("MSH-10.")
    type = shown("MSH-9.1.")
    event = shown("MSH-9.2.")
    version = shown("MSH-12.")
    state = fields.String(required=True, validate=validate.OneOf(STATES), metadata={"description": _STATES})
    code = shown("What it was answered, as in MSA-1.", may_lack=True)
    fault = shown("The gravest of its faults, with its place.", may_lack=True)
    attempts = fields.Integer(required=True, metadata={"description": "How often it was processed."})
    settled = moment("When its state was found.", may_lack=True)
    replayed = moment("When it was replayed last.", may_lack=True)
    patient = shown("The id of the Patient whom it is about.", may_lack=True)
    linked = shown("The id of the Patient whom an administrator has chosen for it.", may_lack=True)
    corrected = fields.Boolean(required=True, metadata={"description": "Whether there is a correction."})
    reused = fields.Boolean(required=True, metadata={"description": "Whether another message of its sender had its control id before."})
    repeats = fields.Integer(required=True, metadata={"description": "How often the same came again."})
    pruned = fields.Boolean(required=True, metadata={"description": "Whether its text was removed."})
    revision = fields.Integer(required=True, metadata={"description": "Another one after each change."})


class ReplayedMessage(Message):
    """A message with what has come of it."""

    faults = fields.List(fields.Nested(MessageFault), required=True)
    unhandled = fields.List(fields.String(), required=True, metadata={"description": "Segments that nothing was made of, as `ZPI` or `OBX 3`."})
    written = fields.List(fields.String(), required=True, metadata={"description": "Versions that it stands in, as `Observation/7/_history/2`."})


class SegmentText(Schema):
    """A segment."""

    name = shown("Its name.")
    sequence = fields.Integer(required=True, metadata={"description": "Which of those of its name."})
    text = shown("As it stands, up to 2,000 characters.")
    whole = fields.Boolean(required=True, metadata={"description": "Whether that is all of it."})


class MessageText(Schema):
    """The text of a message."""

    text = shown("The message in its character set.")
    base64 = shown("All bytes as they came, where the text does not tell them.", may_lack=True)
    unreadable = shown("Why it cannot be read.", may_lack=True)
    segments = fields.List(fields.Nested(SegmentText), required=True, metadata={"description": "The first 1,000; none where it cannot be read."})


class MappedResource(Schema):
    """A resource that a message would make."""

    fullUrl = shown("What the others refer to it by.")  # noqa: N815 - as in a Bundle
    resource = fields.Dict(required=True, metadata={"description": "The resource, without an id."})


class Mapped(Schema):
    """What the maps of now would make of a message."""

    resources = fields.List(fields.Nested(MappedResource), required=True)
    omitted = fields.Integer(required=True, metadata={"description": "How many resources are left out for their size."})
    faults = fields.List(fields.Nested(MessageFault), required=True)
    candidates = fields.List(fields.String(), required=True, metadata={"description": "The ids of Patients who have one of its identifiers."})


class WholeMessage(ReplayedMessage):
    """All of a message."""

    raw = fields.Nested(MessageText, required=True, allow_none=True, metadata={"description": "As it came; null where its text was removed."})
    correction = fields.Nested(MessageText, required=True, allow_none=True, metadata={"description": "As it should have been."})
    unread = fields.List(
        fields.String(), required=True, metadata={"description": "Fields of the other segments that are in no resource, as `PID-23`; up to 100."}
    )
    accept = shown("The accept acknowledgement of enhanced mode.", may_lack=True)
    ack = shown("The acknowledgement of the application, as it is answered now.", may_lack=True)
    mapped = fields.Nested(
        Mapped, required=True, allow_none=True, metadata={"description": "What it would become now; null where it is in the record, see `written`."}
    )


class Messages(Page):
    """Messages, the newest first."""

    items = fields.List(fields.Nested(Message), required=True)


class Replayed(Schema):
    """What became of one message."""

    id = shown("Its id.")
    state = shown("Its state now; null where it could not be processed.", may_lack=True)
    code = shown("AA, AE or AR.", may_lack=True)
    problem = shown("Why it could not be processed.", may_lack=True)


class ReplayedMessages(Schema):
    """What became of many messages."""

    items = fields.List(fields.Nested(Replayed), required=True)
    left = fields.Integer(required=True, metadata={"description": "How many fulfil the conditions behind these, counted up to 10,000."})
    cursor = shown("Where to go on; null where none is left.", may_lack=True)
