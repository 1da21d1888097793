"""Who is next"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.create_index("queue_entry_waiting", "queue_entry", ["location", "zone", "credit", "token"], postgresql_where=sa.text("state = 'waiting'"))
