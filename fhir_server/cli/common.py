"""What several commands share: the data directory, the settings, and a database to work on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from fhir_server.settings import Settings, environment

F = TypeVar("F", bound=Callable[..., Any])


def data_option(function: F) -> F:
    """Adds `--data`."""
    option = click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("data"),
        show_default="./data",
        help="The data directory.",
    )
    return option(function)


def settings_of(data: Path) -> Settings:
    """The settings of this process with the `.env` of the working directory. Raises SetupError."""
    return Settings.read(environment(Path.cwd()), data.absolute())


@contextmanager
def with_database(settings: Settings, *, migrated: bool = True) -> Iterator[Settings]:
    """The settings with the URL of a database that runs: DATABASE_URL's, that of the `serve` at work on the data directory, or one of its own.

    It is brought to the newest schema unless told otherwise. Raises SetupError.
    """
    if settings.database_url is None:
        from fhir_server.store import postgres

        with postgres.connect_to_running(settings.data) as url, with_database(replace(settings, database_url=url), migrated=migrated) as found:
            yield found
        return
    if migrated:
        from fhir_server.store import migrate

        migrate(settings.database_url)
    yield settings
