"""Brings a database to the newest schema, and its dictionaries to the specification. https://alembic.sqlalchemy.org"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from fhir_server.search.params.derived import derived
from fhir_server.spec import r4

from .cluster import unreachable

MIGRATIONS = Path(__file__).parents[3] / "migrations"
_LOCK = 0x46484952
# Versions from a dump of another database carry its transaction numbers, which this one has not given out yet: they were there before all of its own.
_RESTORED = "UPDATE resource_version SET xid = 0 WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"


def migrate(url: str) -> None:
    """Safe to repeat, and to call from several processes at once: one does the work, the others wait.

    Raises SetupError where the database cannot be reached.
    """
    try:
        connected = psycopg.connect(url, autocommit=True)
    except psycopg.OperationalError as error:
        raise unreachable(error) from None
    with connected as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        command.upgrade(_config(url), "head")
        _fill_dictionaries(connection)
        connection.execute(_RESTORED)


@cache
def newest_revision() -> str | None:
    """The revision that this version of the program needs."""
    return ScriptDirectory.from_config(_config("")).get_current_head()


def knows(revision: str) -> bool:
    """Whether this version of the program can bring a database of that revision to the newest."""
    return any(each.revision == revision for each in ScriptDirectory.from_config(_config("")).walk_revisions())


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def _fill_dictionaries(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    spec = r4()
    stated = [(name, param) for name in spec.resource_types for param in spec.search_params(name).values()]
    # 5,600 of them, each with those that its modifiers ask for.
    parameters = [(name, each.code, each.url) for name, param in stated for each in (param, *derived(param))]
    # Only what is missing is offered: ON CONFLICT would take a number for each row anyway, and a small integer has 32,767 of them.
    with connection.transaction():
        connection.execute(
            "INSERT INTO resource_type (name) SELECT name FROM unnest(%s::text[]) AS new (name)"
            " WHERE NOT EXISTS (SELECT FROM resource_type old WHERE old.name = new.name)",
            (list(spec.resource_types),),
        )
        connection.execute(
            "INSERT INTO search_param (type, code, url)"
            " SELECT type, code, url FROM unnest(%s::text[], %s::text[], %s::text[]) AS new (type, code, url)"
            " WHERE NOT EXISTS (SELECT FROM search_param old WHERE old.type = new.type AND old.code = new.code)",
            tuple(map(list, zip(*parameters, strict=True))),
        )
