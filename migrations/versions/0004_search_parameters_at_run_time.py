"""Search parameters at run time"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("search_param", sa.Column("source", sa.Text(collation="C"), nullable=True))
    op.add_column("search_param", sa.Column("walked", sa.BigInteger(), server_default=sa.text("-1"), nullable=False))
    op.add_column("search_param", sa.Column("retired", sa.TIMESTAMP(timezone=True), nullable=True))
    op.create_table(
        "search_generation",
        sa.Column("single", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.CheckConstraint("single", name="search_generation_single"),
        sa.PrimaryKeyConstraint("single"),
    )
    op.execute("INSERT INTO search_generation (generation) VALUES (0)")
