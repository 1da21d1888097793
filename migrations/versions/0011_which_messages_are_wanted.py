"""Which messages people want"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # By SMS to those who ask for it.
    for name, default in (("notify_email", "true"), ("notify_sms", "false")):
        op.add_column("account", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.text(default)))
