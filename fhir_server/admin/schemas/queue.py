"""Settings and statistics of queues as they are sent and shown."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from .common import Strict, shown

_MOST = 24 * 60


def _minutes(text: str) -> fields.Integer:
    return fields.Integer(required=True, strict=True, validate=validate.Range(1, _MOST), metadata={"description": text})


class Minutes(Strict):
    """What a zone's waits are measured by."""

    target = _minutes("Minutes that one should wait at most: who has waited the larger share of it is next.")
    maximum = _minutes("Minutes after which one is next, but for emergencies, and an alert is raised.")


class NewQueueSettings(Strict):
    """Minutes of some zones; those that are left out stay."""

    follow_up = fields.Nested(Minutes, data_key="follow-up")
    regular = fields.Nested(Minutes)


class QueueSettings(Schema):
    """Minutes of a queue's zones; emergencies have none."""

    location = shown("The id of the Location.")
    follow_up = fields.Nested(Minutes, required=True, data_key="follow-up")
    regular = fields.Nested(Minutes, required=True)


class QueueStatisticsQuery(Strict):
    """Whose waits are asked for."""

    location = fields.String(required=True, validate=validate.Length(1, 64), metadata={"description": "The id of the Location."})
    start = fields.AwareDateTime(data_key="from", metadata={"description": "Those who came from then on; a day back without it."})
    end = fields.AwareDateTime(data_key="to", metadata={"description": "Those who came before then; now without it."})


def _figure(text: str) -> fields.Float:
    return fields.Float(required=True, allow_none=True, metadata={"description": text})


def _count(text: str) -> fields.Integer:
    return fields.Integer(required=True, metadata={"description": text})


class Waits(Schema):
    """Waits of those who were in a zone at last, in minutes until the first call."""

    zone = shown("The zone.")
    came = _count("Who came.")
    left = _count("Who left without being seen.")
    called = _count("Who was called.")
    alerts = _count("Who waited for too long.")
    mean = _figure("The mean.")
    median = _figure("The median.")
    ninetieth = _figure("What nine of ten waited at most.")
    longest = _figure("The longest.")


class QueueStatistics(Schema):
    """Waits at a Location by zone."""

    location = shown("The id of the Location.")
    start = fields.String(required=True, data_key="from", metadata={"format": "date-time", "description": "From when on."})
    end = fields.String(required=True, data_key="to", metadata={"format": "date-time", "description": "Until when."})
    items = fields.List(fields.Nested(Waits), required=True)
