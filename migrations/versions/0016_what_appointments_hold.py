"""What appointments hold"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # Compares texts and numbers in a GiST index; whoever owns the database may create it.
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    op.create_table(
        "occupancy",
        sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("actor", sa.Text(collation="C"), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("during", TSTZRANGE(), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=True),
        sa.Column("clash", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("rid", "actor"),
        ExcludeConstraint((sa.column("actor"), "="), (sa.column("during"), "&&"), (sa.column("lane"), "="), name="occupancy_once", using="gist"),
    )
    op.create_index("occupancy_clash", "occupancy", ["rid"], postgresql_where=sa.text("clash"))
    # The rows of appointments from before are made with the search rows, when these are found not to fit.
    op.execute(
        "UPDATE index_settings SET fingerprint = fingerprint || '; appointments=unread' WHERE EXISTS"
        " (SELECT FROM resource r JOIN resource_type t ON t.tid = r.type WHERE t.name = 'Appointment' AND NOT r.deleted)"
    )
