"""Background work: what changed goes from the outbox to those who listen, and tasks run by Celery. https://docs.celeryq.dev/en/stable/"""

from .broker import reach
from .worker import run_scheduler, run_worker

__all__ = ["reach", "run_scheduler", "run_worker"]
