"""What patients permit"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "consent_permit",
        sa.Column("rid", sa.BigInteger(), nullable=False),
        sa.Column("patient", sa.Text(collation="C"), nullable=False),
        sa.Column("parties", ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("purposes", ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("types", ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("lo", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hi", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("consent_permit_patient", "consent_permit", ["patient"])
    op.create_index("consent_permit_rid", "consent_permit", ["rid"])
    # The rows of Consents from before are made with the search rows, when these are found not to fit.
    op.execute(
        "UPDATE index_settings SET fingerprint = fingerprint || '; consents=unread' WHERE EXISTS"
        " (SELECT FROM resource r JOIN resource_type t ON t.tid = r.type WHERE t.name = 'Consent' AND NOT r.deleted)"
    )
