"""Files of bulk exports that tell what was deleted"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("bulk_file", sa.Column("deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False))
