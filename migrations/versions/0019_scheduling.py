"""Scheduling"""

revision = "0019"
down_revision = "0017"


def upgrade() -> None:
    """Adds nothing yet."""
