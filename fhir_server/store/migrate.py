"""Brings a database to the newest schema, and its dictionaries to the specification. https://alembic.sqlalchemy.org"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from fhir_server.spec import r4

MIGRATIONS = Path(__file__).parents[2] / "migrations"
_LOCK = 0x46484952


def migrate(url: str) -> None:
    """Safe to repeat, and to call from several processes at once: one does the work, the others wait."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        command.upgrade(_config(url), "head")
        _fill_dictionaries(connection)


@cache
def newest_revision() -> str | None:
    """The revision that this version of the program needs."""
    return ScriptDirectory.from_config(_config("")).get_current_head()


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def _fill_dictionaries(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    spec = r4()
    parameters = [(name, param.code, param.url) for name in spec.resource_types for param in spec.search_params(name).values()]
    with connection.transaction():
        connection.execute("INSERT INTO resource_type (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (list(spec.resource_types),))
        connection.execute(
            "INSERT INTO search_param (type, code, url) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) ON CONFLICT (type, code) DO NOTHING",
            tuple(map(list, zip(*parameters, strict=True))),
        )
