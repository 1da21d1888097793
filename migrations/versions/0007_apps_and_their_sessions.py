"""Apps, and what they have been let in to"""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    pass
