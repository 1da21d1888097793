"""`/queue/settings`, `/queue/statistics`: which minutes count at a place, and how long people wait there."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Any, Final

from flask import Response
from flask.views import MethodView

from fhir_server.access.audit import Event
from fhir_server.clinic.queue.upkeep import minutes_of, set_minutes, statistics
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from . import decisions
from .exchange import answered
from .office import instant, office
from .routes import Routes
from .schemas import queue as schemas

routes: Final = Routes("queue", "Queues: the minutes that count at a place, and how long people wait there.")

_DAY: Final = timedelta(days=1)
_NAMES: Final = {"follow_up": "follow-up", "regular": "regular"}


@routes.route("/queue/settings/<identity>")
class Settings(MethodView):
    """The minutes of one place."""

    @routes.tagged(schemas.QueueSettings)
    def get(self, identity: str) -> Response:
        """Show the minutes of a queue"""
        return decisions.show(partial(_shown, identity))

    @routes.arguments(schemas.NewQueueSettings)
    @routes.tagged(schemas.QueueSettings)
    @routes.conditional
    def patch(self, given: dict[str, Any], identity: str) -> Response:
        """Change the minutes of a queue

        They count from the next look at the queue on.
        """
        minutes, told = {_NAMES[name]: each for name, each in given.items()}, Event("update", type="queue-settings", resource=identity)
        return decisions.change("queue_setting", partial(_shown, identity), lambda connection: set_minutes(connection, identity, minutes), told)


@routes.route("/queue/statistics")
@routes.arguments(schemas.QueueStatisticsQuery, location="query")
@routes.response(200, schemas.QueueStatistics)
def waits(asked: dict[str, Any]) -> Response:
    """Show how long people waited

    By the zone that they were in at last.
    """
    here = office()
    end = asked.get("end", here.now())
    start = asked.get("start", end - _DAY)
    with here.store.database.connection() as connection:
        _check(connection, asked["location"])
        found = statistics(connection, asked["location"], start, end)
    return answered({"location": asked["location"], "from": instant(start), "to": instant(end), "items": [asdict(each) for each in found]})


def _shown(location: str, connection: Connection) -> dict[str, Any]:
    _check(connection, location)
    found = minutes_of(connection, location)
    return {"location": location} | {zone: found[zone] for zone in _NAMES.values()}


def _check(connection: Connection, location: str) -> None:
    if not office().store.is_there(connection, "Location", location):
        raise Outcome("not-found", "There is no such Location")
