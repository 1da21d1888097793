"""`worker` and `scheduler`: background work by itself, for several hosts, and as parts of `serve`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .common import alone, data_option

if TYPE_CHECKING:
    from fhir_server.settings import Settings


@click.command()
@data_option
def worker(data: Path) -> None:
    """Run background work: what follows a change, as messages to other systems.

    Needs DATABASE_URL, migrated by `fhir-server migrate`, and the same BROKER_URL as everywhere else, if any is set. Ends on SIGTERM within seconds.
    """
    _run(work, "worker", data)


@click.command()
@data_option
def scheduler(data: Path) -> None:
    """Run the clock of background work: one for all hosts; several do no harm.

    Needs DATABASE_URL, and BROKER_URL where `worker` has it.
    """
    _run(schedule, "scheduler", data)


def background() -> list[tuple[str, Callable[[Settings, Callable[[str], None]], None]]]:
    """The parts of `serve` that do background work, by their names."""
    return [("worker", work), ("scheduler", schedule)]


def work(settings: Settings, ready: Callable[[str], None]) -> None:
    """The worker. Imported when it runs, as the scheduler is: neither loads what the other needs."""
    from fhir_server.jobs.worker import run_worker

    run_worker(settings, ready)


def schedule(settings: Settings, ready: Callable[[str], None]) -> None:
    """The scheduler."""
    from fhir_server.jobs.scheduler import run_scheduler

    run_scheduler(settings, ready)


def _run(part: Callable[[Settings, Callable[[str], None]], None], name: str, data: Path) -> None:
    from fhir_server import telemetry

    settings = alone(data, name)
    telemetry.configure(settings.log_level)
    part(settings, lambda _: None)


COMMANDS: Final = (worker, scheduler)
