"""Search parameters, jobs, settings and figures as they are shown."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from .common import Page, Strict, moment, shown


class Parameter(Schema):
    """A search parameter that was added at run time."""

    type = shown("The resource type.")
    code = shown("Its name in searches.")
    url = shown("The canonical URL of its SearchParameter.")
    source = shown("The id of its SearchParameter.")
    ready = fields.Boolean(required=True, metadata={"description": "Whether it answers searches."})
    percent = fields.Integer(required=True, metadata={"description": "How much of its index rows is there."})


class Parameters(Page):
    """Search parameters that were added at run time."""

    items = fields.List(fields.Nested(Parameter), required=True)


class NewJob(Strict):
    """What to index anew: all of it where nothing is named."""

    type = fields.String(validate=validate.Length(1, 64), metadata={"description": "A resource type."})
    parameter = fields.String(validate=validate.Length(1, 64), metadata={"description": "The code of a search parameter."})


class Job(Schema):
    """A reindexing."""

    id = shown("The id of the job.")
    type = shown("The resource type; null for all.", may_lack=True)
    parameter = shown("The search parameter; null for all.", may_lack=True)
    state = fields.String(required=True, validate=validate.OneOf(("waiting", "running", "done", "failed")))
    done = fields.Integer(required=True, metadata={"description": "Resources whose index rows were made."})
    total = fields.Integer(required=True, allow_none=True, metadata={"description": "Resources in all; null before it runs."})
    asked_by = shown("Who has asked for it.")
    created = moment("When it was asked for.")
    started = moment("When it began.", may_lack=True)
    ended = moment("When it ended.", may_lack=True)
    fault = shown("Why it failed.", may_lack=True)


class Jobs(Page):
    """Jobs, the newest first."""

    items = fields.List(fields.Nested(Job), required=True)


class Setting(Schema):
    """A setting in force."""

    name = shown("The name in the environment.")
    value = shown("Its value; of a secret `set` or `unset`.")


class Settings(Schema):
    """All settings."""

    items = fields.List(fields.Nested(Setting), required=True)


class Count(Schema):
    """Accounts of a role in a state; one of several roles counts under each."""

    role = shown("The role.")
    state = shown("The state.")
    count = fields.Integer(required=True)


class Statistics(Schema):
    """Figures of now."""

    version = shown("The version of the program.")
    started = moment("When the process that answers was started.")
    uptime = fields.Integer(required=True, metadata={"description": "Seconds since then."})
    resources = fields.Dict(
        keys=fields.String(), values=fields.Integer(), required=True, metadata={"description": "Resources by type, deleted ones left out."}
    )
    versions = fields.Integer(required=True, metadata={"description": "Versions of all resources, as estimated last."})
    sessions = fields.Integer(required=True, metadata={"description": "Open sessions."})
    accounts = fields.List(fields.Nested(Count), required=True)
    database_bytes = fields.Integer(required=True, metadata={"description": "The size of the database, in bytes."})
    parameters_coming = fields.Integer(required=True, metadata={"description": "Search parameters whose index rows are still being made."})
    jobs_open = fields.Integer(required=True, metadata={"description": "Reindexing jobs that wait or run."})
