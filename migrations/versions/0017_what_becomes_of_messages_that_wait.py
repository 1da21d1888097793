"""What becomes of messages of HL7 v2 that wait"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("hl7v2_message", sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("hl7v2_message", sa.Column("linked", sa.Text(collation="C"), nullable=True))
