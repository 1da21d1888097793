"""The task of bulk exports."""

from __future__ import annotations

from celery import Celery

from fhir_server.operations.bulk import Maker

from .application import OPTIONS


def define_bulk(app: Celery, maker: Maker) -> None:
    """Gives an application the task."""

    @app.task(name="bulk.run", **OPTIONS)
    def run() -> None:
        """Makes the exports that wait."""
        maker.run()
