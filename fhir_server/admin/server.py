"""`/search-parameters`, `/reindex-jobs`, `/settings`, `/statistics`: the server itself."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from flask import Response
from flask.views import MethodView

from fhir_server.access.accounts.accounts import count_accounts
from fhir_server.access.accounts.sessions import count_open
from fhir_server.access.audit import Event
from fhir_server.outcome import Outcome
from fhir_server.store.database import Connection
from fhir_server.store.figures import figures
from fhir_server.store.reindexing import jobs
from fhir_server.store.reindexing.reindex import Added, added

from .exchange import Answer, act, address_of, answered
from .office import caller, instant, office
from .pages import moment_before, number_before, paged
from .routes import PREFIX, Routes
from .schemas import server as schemas
from .schemas.common import Paging

routes: Final = Routes("server", "The server itself: search parameters, reindexing, settings, figures.")

_STARTED: Final = time.time()


@routes.route("/search-parameters")
@routes.arguments(Paging, location="query")
@routes.response(200, schemas.Parameters)
def search_parameters(asked: dict[str, Any]) -> Response:
    """List search parameters that were added

    Those that SearchParameter resources have brought, with how far their index rows are. The specification's own are in the CapabilityStatement.
    """
    after = number_before(asked)
    with office().store.database.connection() as connection:
        rows = added(connection, after=after, limit=asked["limit"] + 1)
    return paged(asked, rows, lambda row: (str(row.pid),), _shown_parameter)


@routes.route("/reindex-jobs")
class Jobs(MethodView):
    """All jobs."""

    @routes.arguments(Paging, location="query")
    @routes.response(200, schemas.Jobs)
    def get(self, asked: dict[str, Any]) -> Response:
        """List reindexing jobs

        The newest first.
        """
        after = moment_before(asked)
        with office().store.database.connection() as connection:
            rows = jobs.jobs(connection, after=after, limit=asked["limit"] + 1)
        return paged(asked, rows, lambda row: (row.created.isoformat(), row.id), _shown_job)

    @routes.arguments(schemas.NewJob)
    @routes.response(202, schemas.Job, headers={"Location": {"description": "The address of the job.", "schema": {"type": "string"}}})
    @routes.idempotent
    def post(self, given: dict[str, Any]) -> Response:
        """Ask for a reindexing

        Of everything, a type, a parameter, or a parameter of a type. It runs in the background, while others read and write.
        """
        store = office().store

        def work(connection: Connection) -> Answer:
            try:
                job = store.ask_reindex(connection, given.get("type"), given.get("parameter"), caller().actor)
            except Outcome as outcome:
                raise Outcome("invalid", issues=outcome.issues) if outcome.category == "not-found" else outcome from None
            what = " ".join(given[name] for name in ("type", "parameter") if name in given) or "everything"
            event = Event("operation", type="reindex-job", resource=job.id, detail=f"asked for: {what}")
            return Answer(_shown_job(job), 202, {"Location": address_of(f"{PREFIX}/reindex-jobs/{job.id}")}, event, store.wake)

        return act(work)


@routes.route("/reindex-jobs/<identity>")
@routes.response(200, schemas.Job)
def job(identity: str) -> Response:
    """Show a reindexing job"""
    with office().store.database.connection() as connection:
        found = jobs.job(connection, identity)
    if found is None:
        raise Outcome("not-found", "There is no such job")
    return answered(_shown_job(found))


@routes.route("/settings")
@routes.response(200, schemas.Settings)
def settings() -> Response:
    """Show the settings

    As `fhir-server check` lists them. They come from the environment and are changed there.
    """
    return answered({"items": [{"name": name, "value": value} for name, value in office().settings.listed()]})


@routes.route("/statistics")
@routes.response(200, schemas.Statistics)
def statistics() -> Response:
    """Show figures of now

    Counts every resource: of millions it takes seconds.
    """
    here = office()
    with here.store.database.connection() as connection:
        found = figures(connection)
        body = {
            "version": version("fhir-server"),
            "started": instant(datetime.fromtimestamp(_STARTED, UTC)),
            "uptime": int(time.time() - _STARTED),
            "resources": found.resources,
            "versions": found.versions,
            "sessions": count_open(connection, here.now()),
            "accounts": [{"role": role, "state": state, "count": count} for role, state, count in count_accounts(connection)],
            "database_bytes": found.database_bytes,
            "jobs_open": jobs.open_jobs(connection),
        }
    return answered(body | {"parameters_coming": len(here.store.indexing())})


def _shown_parameter(parameter: Added) -> dict[str, Any]:
    names = ("type", "code", "url", "source", "percent")
    return {name: getattr(parameter, name) for name in names} | {"ready": parameter.percent == 100}  # noqa: PLR2004 - all of it


def _shown_job(job: jobs.Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "type": job.type,
        "parameter": job.code,
        "state": job.state,
        "done": job.done,
        "total": job.total,
        "asked_by": job.actor,
        "created": instant(job.created),
        "started": instant(job.started),
        "ended": instant(job.ended),
        "fault": job.fault,
    }
