"""`/sessions`: who is signed in, and the end of that."""

from __future__ import annotations

from typing import Any, Final

from flask import Response
from flask.views import MethodView

from fhir_server.access.accounts.sessions import OpenSession, open_session, open_sessions, revoke
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection

from .exchange import Answer, act, answered
from .office import instant, office
from .pages import moment_before, paged
from .routes import Routes
from .schemas import sessions as schemas

routes: Final = Routes("sessions", "Who is signed in. A session that ends makes its tokens fail at once, on every process.")


@routes.route("/sessions")
class Sessions(MethodView):
    """All open sessions."""

    @routes.arguments(schemas.SessionQuery, location="query")
    @routes.response(200, schemas.Sessions)
    def get(self, asked: dict[str, Any]) -> Response:
        """List sessions

        Open ones, the newest first.
        """
        after = moment_before(asked)
        with office().store.database.connection() as connection:
            rows = open_sessions(
                connection, office().now(), account=asked.get("user"), client=asked.get("client"), after=after, limit=asked["limit"] + 1
            )
        return paged(asked, rows, lambda row: (row.created.isoformat(), row.id), _shown)


@routes.route("/sessions/<identity>")
class Session(MethodView):
    """One session."""

    @routes.response(200, schemas.Session)
    def get(self, identity: str) -> Response:
        """Show a session"""
        with office().store.database.connection() as connection:
            found = open_session(connection, office().now(), identity)
        if found is None:
            raise _nothing()
        return answered(_shown(found))

    @routes.empty
    def delete(self, identity: str) -> Response:
        """End a session"""

        def work(connection: Connection) -> Answer:
            if not revoke(connection, office().now(), session=identity):
                raise _nothing()
            return Answer(status=204)

        return act(work)


@routes.route("/sessions/revoke", methods=["POST"])
@routes.arguments(schemas.Chosen)
@routes.response(200, schemas.Revoked)
@routes.idempotent
def revoke_many(given: dict[str, Any]) -> Response:
    """End many sessions at once

    All of an account, of a role, of an app, or of everybody: in one statement, whose end is the end of them all.
    """

    def work(connection: Connection) -> Answer:
        chosen = {"account": given.get("user"), "role": given.get("role"), "client": given.get("client")}
        return Answer({"revoked": revoke(connection, office().now(), **chosen)})

    return act(work)


def _shown(session: OpenSession) -> dict[str, Any]:
    return {
        "id": session.id,
        "user": session.account,
        "login": session.login,
        "client": session.client,
        "created": instant(session.created),
        "last_seen": instant(session.last_seen),
        "expires": instant(session.expires),
        "address": session.address,
        "agent": session.agent,
    }


def _nothing() -> Outcome:
    return Outcome("not-found", "There is no such session, or it has ended")
