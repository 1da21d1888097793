"""The process that asks for what is done by the clock. https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.settings import Settings

from .application import SCHEDULE, application
from .broker import reach


def run_scheduler(settings: Settings, ready: Callable[[str], None]) -> None:
    """Asks for scheduled tasks until SIGTERM or SIGINT. Several at once do no harm. Calls `ready` when it begins, with what to tell people.

    Raises SetupError where the broker is away.
    """
    reach(settings)
    ready(f"{len(SCHEDULE)} tasks")
    application(settings).Beat(loglevel="WARNING", quiet=True, redirect_stdouts=False).run()
