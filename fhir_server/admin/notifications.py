"""`/notifications`: messages to people, the texts that they are made of, and the rules by which they leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import msgspec
from flask import Response
from flask.views import MethodView

from fhir_server.access.audit import Event
from fhir_server.clinic.messages import rows, rules, templates, wording
from fhir_server.clinic.messages.events import CHANNELS, EVENTS
from fhir_server.clinic.messages.rendering import VARIABLES, size_of
from fhir_server.clinic.messages.rows import Message
from fhir_server.clinic.messages.templates import EXAMPLE, Template
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from . import decisions
from .exchange import Answer, act, act_apart, answered, check_match, etag, number_of, tagged
from .office import caller, instant, office
from .pages import conditions, number_before, paged
from .routes import PREFIX, Routes
from .schemas import notifications as schemas

routes: Final = Routes("notifications", "Messages to people: planned, sent or not and why; their texts; the rules by which they leave.")

_SHOWN: Final = ("id", "event", "focus", "channel", "patient", "state", "reason", "attempts", "fault", "told", "request", "communication")
_MOMENTS: Final = ("due", "expires", "start", "created", "ended")


@routes.route("/notifications")
@routes.arguments(schemas.NotificationQuery, location="query")
@routes.response(200, schemas.Notifications)
def notifications(asked: dict[str, Any]) -> Response:
    """List messages to people

    The newest first; `state=dead` for those that could not be sent.
    """
    after = number_before(asked)
    wanted = conditions(asked)
    with office().store.database.connection() as connection:
        found = rows.page(connection, wanted, after, asked["limit"] + 1)
    return paged(asked, found, lambda row: (str(row.id),), _shown)


@routes.route("/notifications/<identity>")
@routes.response(200, schemas.Notification)
def notification(identity: str) -> Response:
    """Show a message to somebody"""
    with office().store.database.connection() as connection:
        return answered(_shown(_message(connection, identity)))


@routes.route("/notifications/<identity>/replay", methods=["POST"])
@routes.response(200, schemas.Notification)
@routes.idempotent
def replay(identity: str) -> Response:
    """Send a dead message to somebody again

    It is due at once, and looked at anew when it leaves. 409 for one that is not dead, or that tells of a time that is over.
    """

    def work(connection: Connection) -> Answer:
        found = rows.replay(connection, _message(connection, identity, lock=True), office().store.clock())
        told = Event("operation", type="notification", resource=identity, patients=(found.patient,), detail="sent again")
        return Answer(_shown(found), event=told)

    return act(work)


@routes.route("/notifications/run-due", methods=["POST"])
@routes.response(200, schemas.Ran)
@routes.idempotent
def run_due() -> Response:
    """Send all messages that are due

    Hears of what has changed until now first. Answers when all of it has left, or after twenty seconds with what is `left`.
    """
    return act_apart(lambda: Answer(office().messages.run_due()))


@routes.route("/notifications/settings")
class Settings(MethodView):
    """The rules."""

    @routes.tagged(schemas.Rules)
    def get(self) -> Response:
        """Show how people are told"""
        return decisions.show(_rules)

    @routes.arguments(schemas.RuleChanges)
    @routes.tagged(schemas.Rules)
    @routes.conditional
    def patch(self, given: dict[str, Any]) -> Response:
        """Change how people are told

        Counts for what is planned from now on; quiet hours for all that has not left. What is not named stays.
        """
        here, by = office(), caller().actor
        return decisions.change("policy", _rules, lambda connection: rules.set_rules(here.store, connection, given, by))


@routes.route("/notifications/texts")
@routes.arguments(schemas.TextsQuery, location="query")
@routes.response(200, schemas.Texts)
def texts(asked: dict[str, Any]) -> Response:
    """List the texts that count now

    Of each event and channel in one language: the active version, or the text that the program has.
    """
    with office().store.database.connection() as connection:
        found = [templates.chosen(connection, event, channel, (asked["language"],)) for event in EVENTS for channel in CHANNELS]
    return answered({"items": [_text(each) for each in found], "variables": [{"name": name, "about": about} for name, about in VARIABLES.items()]})


@routes.route("/notifications/templates")
class Templates(MethodView):
    """All versions that somebody has written."""

    @routes.arguments(schemas.TemplateQuery, location="query")
    @routes.response(200, schemas.Templates)
    def get(self, asked: dict[str, Any]) -> Response:
        """List versions of texts

        The newest first.
        """
        after = number_before(asked)
        wanted = conditions(asked)
        with office().store.database.connection() as connection:
            found = templates.page(connection, wanted, after, asked["limit"] + 1)
        return paged(asked, found, lambda row: (str(row.id),), _text)

    @routes.arguments(schemas.NewTemplate)
    @routes.creates(schemas.Template)
    def post(self, given: dict[str, Any]) -> Response:
        """Write a version of a text

        It is a draft until it is activated. Gaps are Jinja2's: variables, `if`, and the filters upper, lower, capitalize and trim; nothing else.
        """
        new = _template(given)

        def work(connection: Connection) -> Answer:
            body = _text(templates.add(connection, new, caller().actor, office().now()))
            return tagged(body, made=f"{PREFIX}/notifications/templates/{body['id']}")

        return act(work)


@routes.route("/notifications/templates/preview", methods=["POST"])
@routes.arguments(schemas.NewTemplate)
@routes.response(200, schemas.Preview)
def preview(given: dict[str, Any]) -> Response:
    """Preview a text

    With its gaps filled by an example, and for an SMS how long that is. Keeps nothing.
    """
    template = _template(given)
    templates.examine(template)
    here = office()
    with here.store.database.connection() as connection:
        clinic = rules.rules_of(here.store, connection).clinic
    zone = here.settings.clinic_timezone
    day, time = wording.in_words(here.now(), template.language, zone)
    made = templates.rendered(template, {**EXAMPLE, "clinic": clinic, "day": day, "time": time, "old_day": day})
    size = asdict(size_of(made.text)) if template.channel == "sms" else None
    return answered({"subject": made.subject, "text": made.text, "sms": size})


@routes.route("/notifications/templates/<identity>")
@routes.tagged(schemas.Template)
def template(identity: str) -> Response:
    """Show a version of a text"""
    with office().store.database.connection() as connection:
        body = _text(_found(connection, identity))
    return answered(body, headers={"ETag": etag(body)})


@routes.route("/notifications/templates/<identity>/activate", methods=["POST"])
@routes.tagged(schemas.Template)
@routes.conditional
@routes.idempotent
def activate(identity: str) -> Response:
    """Let a version of a text count

    In the place of the one that did, which is retired. A retired one may be activated again.
    """
    return _change(identity, templates.activate)


@routes.route("/notifications/templates/<identity>/retire", methods=["POST"])
@routes.tagged(schemas.Template)
@routes.conditional
@routes.idempotent
def retire(identity: str) -> Response:
    """Take a version of a text out of use

    Where it counted, the program's own text does again.
    """
    return _change(identity, templates.retire)


def _change(identity: str, do: Callable[[Connection, Template, str, datetime], Template]) -> Response:
    def work(connection: Connection) -> Answer:
        found = _found(connection, identity, lock=True)
        check_match(_text(found))
        return tagged(_text(do(connection, found, caller().actor, office().now())))

    return act(work)


def _message(connection: Connection, identity: str, *, lock: bool = False) -> Message:
    found = rows.get(connection, number_of(identity, "message"), lock=lock)
    if found is None:
        raise Outcome("not-found", "There is no such message")
    return found


def _found(connection: Connection, identity: str, *, lock: bool = False) -> Template:
    found = templates.get(connection, number_of(identity, "text"), lock=lock)
    if found is None:
        raise Outcome("not-found", "There is no such text")
    return found


def _template(given: dict[str, Any]) -> Template:
    return Template(None, given["event"], given["channel"], given["language"].lower(), 0, "draft", given.get("subject"), given["text"])


def _rules(connection: Connection) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(rules.rules_of(office().store, connection))
    return found | {name: list(found[name]) for name in ("reminders", "silent")}


def _shown(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _SHOWN} | {name: instant(getattr(message, name)) for name in _MOMENTS}


def _text(template: Template) -> dict[str, Any]:
    return asdict(template) | {name: instant(getattr(template, name)) for name in ("created", "activated", "retired")}
