"""`/scheduling`: what each role is held to when it books, what holds for all, and appointments that the rules of Schedules have left behind."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any, Final

from flask import Response
from flask.views import MethodView
from marshmallow import Schema, ValidationError, fields, validate

from fhir_server.access.audit import Event
from fhir_server.clinic.scheduling import policies, publishing, rules
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from . import decisions
from .exchange import answered, done_by_caller
from .office import instant, office
from .routes import Routes
from .schemas.common import Strict, moment, shown

routes: Final = Routes("scheduling", "Appointments: what the clinic has decided about bookings, and who is affected by other hours.")

_MOST_MINUTES: Final = 366 * 24 * 60
_MOST_DAYS: Final = 3_660


def _number(most: int, description: str) -> fields.Integer:
    return fields.Integer(
        strict=True, allow_none=True, validate=validate.Range(0, most), metadata={"description": f"{description}; null for no limit."}
    )


def _day(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValidationError("Not a date such as 2026-12-24.") from None


class BookingPolicy(Strict):
    """What a role is held to; staff pass over it with `override` and a reason."""

    notice_minutes = _number(_MOST_MINUTES, "Bookings begin so many minutes from now at the soonest")
    horizon_days = _number(_MOST_DAYS, "Bookings begin so many days from now at the latest")
    longest_minutes = _number(_MOST_MINUTES, "A booking takes so many minutes at the most")
    open_bookings = _number(10_000, "A patient has so many appointments to come at the most")
    cancel_minutes = _number(_MOST_MINUTES, "What begins within so many minutes is neither cancelled nor moved")


class Practice(Strict):
    """What holds for all."""

    no_show_minutes = _number(_MOST_MINUTES, "Who is booked and has not come so many minutes after the start is a no-show; null: nobody by the clock")
    offer_minutes = fields.Integer(
        strict=True,
        validate=validate.Range(1, _MOST_MINUTES),
        metadata={"description": "Who waits for a time has so many minutes to take one that is offered."},
    )
    country = fields.String(
        allow_none=True, validate=validate.Length(2, 2), metadata={"description": "Its public holidays are free, as ISO 3166 has it: DE; null: none."}
    )
    subdivision = fields.String(allow_none=True, validate=validate.Length(1, 10), metadata={"description": "A part of the country, as BY or CA."})
    closed = fields.List(
        fields.String(validate=[validate.Regexp(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), _day], metadata={"format": "date"}),
        validate=validate.Length(max=1_000),
        metadata={"description": "Days of the clinic's own on which it is closed."},
    )


class Decisions(Strict):
    """All that is decided, or what is to change of it."""

    patient = fields.Nested(BookingPolicy)
    doctor = fields.Nested(BookingPolicy)
    staff = fields.Nested(BookingPolicy)
    practice = fields.Nested(Practice)


class Asked(Strict):
    """The query for those who are affected."""

    schedule = fields.String(validate=validate.Regexp(r"^[A-Za-z0-9\-.]{1,64}$"), metadata={"description": "The id of a Schedule; without, all."})


class Affected(Schema):
    """An appointment to come at a time that is not offered."""

    appointment = shown("Its id.")
    schedule = shown("The id of the Schedule.")
    actor = shown("Whose time it is, as Practitioner/7.")
    start = moment("When it begins.")
    end = moment("When it ends.")


class AllAffected(Schema):
    """Appointments, the soonest first."""

    items = fields.List(fields.Nested(Affected), required=True)


@routes.route("/scheduling/policies")
class Policies(MethodView):
    """What is decided."""

    @routes.tagged(Decisions)
    def get(self) -> Response:
        """Show what is decided about appointments"""
        return decisions.show(_shown)

    @routes.arguments(Decisions)
    @routes.tagged(Decisions)
    @routes.conditional
    def patch(self, given: dict[str, Any]) -> Response:
        """Change what is decided about appointments

        Every process goes by it from the next request on. What is not named stays. Slots follow other holidays within minutes.
        """

        def decide(connection: Connection) -> None:
            for role in policies.ROLES:
                if given.get(role):
                    policies.decide(connection, role, given[role])
            if given.get("practice"):
                policies.decide(connection, None, given["practice"])
            practice = policies.practice(connection)
            if not rules.is_country(practice.country, practice.subdivision):
                raise Outcome("invalid", "The holidays of this country, or of this part of it, are not known", expression="practice.country")

        told = Event("policy-change", type="scheduling", detail=f"changed: {', '.join(given)}")
        return decisions.change("scheduling_setting", _shown, decide, told)


@routes.route("/scheduling/affected")
@routes.arguments(Asked, location="query")
@routes.response(200, AllAffected)
def affected(asked: dict[str, Any]) -> Response:
    """List appointments that other hours have left behind

    Those to come of people whose Schedules have rules, at times that the rules do not have, as after a leave was entered; up to 1,000. They are not
    changed by themselves.
    """
    found = publishing.affected(office().store, asked.get("schedule"))
    office().store.note(done_by_caller(Event("search", type="Appointment", query="scheduling/affected")))
    return answered({"items": [asdict(each) | {"start": instant(each.start), "end": instant(each.end)} for each in found]})


def _shown(connection: Connection) -> dict[str, Any]:
    body: dict[str, Any] = {role: asdict(policies.policy(connection, role)) for role in policies.ROLES}
    return body | {"practice": asdict(policies.practice(connection))}
