"""What patients have forbidden"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "consent_rule",
        sa.Column("rid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rid"),
    )
    op.create_table(
        "consent_generation",
        sa.Column(
            "single", sa.Boolean(), sa.CheckConstraint("single", name="consent_generation_single"), server_default=sa.text("true"), nullable=False
        ),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("single"),
    )
    op.execute("INSERT INTO consent_generation (generation) VALUES (1)")
    # Consents from before: what of them restricts nothing is left out when they are read.
    op.execute(
        "INSERT INTO consent_rule (rid, body) SELECT r.rid, v.body FROM resource r JOIN resource_version v ON v.vid = r.vid"
        " JOIN resource_type t ON t.tid = r.type WHERE t.name = 'Consent' AND NOT r.deleted AND (v.body LIKE '%\"deny\"%' OR v.body LIKE '%OPTOUT%')"
    )
