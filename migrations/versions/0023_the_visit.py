"""The visit"""

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Adds nothing yet."""
