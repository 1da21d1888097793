"""The process that asks for what is done by the clock. https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html"""

from __future__ import annotations

from fhir_server.settings import Settings

from .application import application
from .broker import reach


def run_scheduler(settings: Settings) -> None:
    """Asks for scheduled tasks until SIGTERM or SIGINT. Several at once do no harm. Raises SetupError where the broker is away."""
    reach(settings)
    application(settings).Beat(loglevel="WARNING", quiet=True, redirect_stdouts=False).run()
