"""`worker` and `scheduler`: background work by itself, for several hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fhir_server.settings import SetupError

from .common import data_option, settings_of, with_database

if TYPE_CHECKING:
    from fhir_server.settings import Settings

_COMPANION = click.option("--companion", is_flag=True, hidden=True, help="Started by `serve`, on its database, and ends with it.")


@click.command()
@data_option
@_COMPANION
def worker(data: Path, *, companion: bool) -> None:
    """Run background work: what follows a change, as messages to other systems.

    Needs DATABASE_URL, migrated by `fhir-server migrate`, and the same BROKER_URL as everywhere else, if any is set. Ends on SIGTERM within seconds.
    """
    from fhir_server.jobs.worker import run_worker

    _run(run_worker, "worker", data, companion=companion)


@click.command()
@data_option
@_COMPANION
def scheduler(data: Path, *, companion: bool) -> None:
    """Run the clock of background work: one for all hosts; several do no harm.

    Needs DATABASE_URL or BROKER_URL as `worker` does.
    """
    from fhir_server.jobs.scheduler import run_scheduler

    _run(run_scheduler, "scheduler", data, companion=companion)


def _run(work: Callable[[Settings], None], name: str, data: Path, *, companion: bool) -> None:
    from fhir_server import telemetry
    from fhir_server.companions import end_with_parent

    settings = settings_of(data)
    if companion:
        end_with_parent()
    elif settings.database_url is None:
        raise SetupError(f"`{name}` needs DATABASE_URL; for everything on one machine use `fhir-server serve`, which runs it too")
    telemetry.configure(settings.log_level)
    with with_database(settings, migrated=False) as found:
        work(found)


COMMANDS = (worker, scheduler)
