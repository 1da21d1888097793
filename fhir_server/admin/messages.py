"""`/hl7v2/messages`: the messages of HL7 v2 that came, and what is done about those that wait.

A message is a part of a patient's record: who looks at one leaves an event in the audit trail.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Response, request
from flask.views import MethodView

from fhir_server import fhirjson
from fhir_server.access.audit import Event
from fhir_server.hl7v2.intake.inbox import Json
from fhir_server.hl7v2.text.message import LIMIT
from fhir_server.store.database import Connection

from .exchange import Answer, act, act_apart, answered, check_match, done_by_caller, etag
from .office import instant, office
from .pages import conditions, cursor_of, moment_before, paged
from .routes import Routes
from .schemas import messages as schemas

MAX_BODY: Final = 2 * LIMIT + 1024 * 1024
"""Bytes of a body: an end of a line of a message is two characters in JSON."""
_TYPE: Final = "hl7v2-message"
_MOMENTS: Final = ("received", "settled", "replayed")

routes: Final = Routes(
    "messages", "Messages of HL7 v2: as they came, what became of them, and what is done about those that wait.", max_body=MAX_BODY
)


@routes.route("/hl7v2/messages")
@routes.arguments(schemas.MessageQuery, location="query")
@routes.response(200, schemas.Messages)
def messages(asked: dict[str, Any]) -> Response:
    """List messages of HL7 v2

    The newest first. All conditions have to hold; `state=waiting` are those that somebody has to do something about.
    """
    rows = office().inbox.page(conditions(asked), moment_before(asked), asked["limit"] + 1)
    patients = (asked["patient"],) if "patient" in asked else ()
    office().store.note(done_by_caller(Event("search", type=_TYPE, patients=patients, query=request.full_path)))
    return paged(asked, rows, lambda row: (row["received"].isoformat(), row["id"]), _shown)


@routes.route("/hl7v2/messages/<identity>")
class Message(MethodView):
    """One message."""

    @routes.tagged(schemas.WholeMessage)
    def get(self, identity: str) -> Response:
        """Show a message of HL7 v2

        As it came and in its segments, its faults, its answers, and what it became; where it was refused, what the maps would make of it now.
        """
        found = office().inbox.message(identity)
        about = (found["patient"], found["linked"], *(found["mapped"] or {}).get("candidates", ()))
        patients = tuple(dict.fromkeys(each for each in about if each))
        office().store.note(done_by_caller(Event("read", type=_TYPE, resource=identity, patients=patients)))
        return answered(fhirjson.dumps(_shown(found)), headers={"ETag": _tag(found)})

    @routes.arguments(schemas.Correction)
    @routes.tagged(schemas.Message)
    @routes.conditional
    def patch(self, given: dict[str, Any], identity: str) -> Response:
        """Correct a message of HL7 v2

        Keeps another text beside the one that came, and does nothing with it until the message is replayed. null takes it back.
        """
        revision = _matched(identity)

        def work(connection: Connection) -> Answer:
            found = office().inbox.correct(connection, identity, given["message"], revision)
            detail = "correction taken back" if given["message"] is None else "corrected"
            patients = (found["patient"],) if found["patient"] else ()
            return Answer(_shown(found), 200, {"ETag": _tag(found)}, Event("update", type=_TYPE, resource=identity, patients=patients, detail=detail))

        return act(work)


@routes.route("/hl7v2/messages/<identity>/replay", methods=["POST"])
@routes.arguments(schemas.Replay)
@routes.tagged(schemas.ReplayedMessage)
@routes.conditional
@routes.idempotent
def replay(given: dict[str, Any], identity: str) -> Response:
    """Replay a message of HL7 v2

    Processes it again: as it came, or as corrected before or by `message`, or as one about a `patient`. Replaying what was processed changes nothing
    that is the same. Its sender is not told.
    """
    revision = _matched(identity) if "If-Match" in request.headers else None

    def work() -> Answer:
        by = done_by_caller(Event("message"))
        found = office().inbox.replay(identity, by, text=given.get("message"), patient=given.get("patient"), revision=revision)
        return Answer(_shown(found), 200, {"ETag": _tag(found)})

    return act_apart(work)


@routes.route("/hl7v2/messages/replay", methods=["POST"])
@routes.arguments(schemas.ChosenMessages)
@routes.response(200, schemas.ReplayedMessages)
@routes.idempotent
def replay_many(asked: dict[str, Any]) -> Response:
    """Replay many messages of HL7 v2

    Those that fulfil all conditions, the oldest first, as after an edit of a table: up to `limit` of them, and no longer than about ten seconds. Send
    the same conditions with the `cursor` of the answer until it is null.
    """
    place = moment_before(asked)

    def work() -> Answer:
        done, left, last = office().inbox.replay_many(conditions(asked), place, asked["limit"], done_by_caller(Event("message")))
        following = cursor_of(asked, (last[0].isoformat(), last[1])) if last is not None else None
        return Answer({"items": done, "left": left, "cursor": following})

    return act_apart(work)


def _matched(identity: str) -> int:
    """The revision that a change is meant for. Raises Outcome `not-found`, `precondition`."""
    revision = office().inbox.revision(identity)
    check_match([identity, revision])
    return revision


def _tag(message: Json) -> str:
    return etag([message["id"], message["revision"]])


def _shown(message: Json) -> Json:
    return message | {name: instant(message[name]) for name in _MOMENTS}
