"""Messages to people"""

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Adds nothing yet."""
