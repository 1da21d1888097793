"""Messages to people"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

TYPES = ("Appointment", "DiagnosticReport", "MedicationRequest", "PractitionerRole")


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _moment(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_index("account_patient", "account", ["patient"], postgresql_where=sa.text("patient IS NOT NULL"))
    op.create_table(
        "message_refusal", _text("patient"), _text("channel"), _moment("at", nullable=False), sa.PrimaryKeyConstraint("patient", "channel")
    )
    op.create_table(
        "message_template",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        *(_text(name) for name in ("event", "channel", "language")),
        sa.Column("version", sa.Integer(), nullable=False),
        _text("state"),
        _text("subject", nullable=True),
        _text("text"),
        _moment("created", nullable=False),
        _text("created_by"),
        _moment("activated"),
        _moment("retired"),
        sa.CheckConstraint("state IN ('draft', 'active', 'retired')", name="message_template_state"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event", "channel", "language", "version"),
    )
    op.create_index(
        "message_template_active", "message_template", ["event", "channel", "language"], unique=True, postgresql_where=sa.text("state = 'active'")
    )
    _messages()
    # From here on, so that what happens before the first worker starts is told too.
    for name in TYPES:
        op.execute(sa.text("INSERT INTO outbox_listener (consumer, type) VALUES ('messages', :type)").bindparams(type=name))
    op.execute("UPDATE search_generation SET listening = listening + 1")


def _messages() -> None:
    op.create_table(
        "message",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        *(_text(name) for name in ("event", "focus", "about", "occurrence", "channel", "patient", "state")),
        _text("reason", nullable=True),
        _moment("due", nullable=False),
        _moment("expires"),
        _moment("start"),
        _text("details", nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _moment("created", nullable=False),
        _moment("claimed"),
        _moment("ended"),
        _text("fault", nullable=True),
        _text("told", nullable=True),
        _text("request", nullable=True),
        _text("communication", nullable=True),
        _text("recorded", nullable=True),
        sa.CheckConstraint(
            "state IN ('planned', 'sending', 'sent', 'dead', 'suppressed', 'revoked', 'expired')",
            name="message_state",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event", "about", "occurrence", "channel", "patient", name="message_once"),
    )
    op.create_index("message_due", "message", ["due", "id"], postgresql_where=sa.text("state = 'planned'"))
    op.create_index("message_focus", "message", ["focus"], postgresql_where=sa.text("state = 'planned'"))
    op.create_index("message_patient", "message", ["patient", "id"])
    op.create_index("message_sending", "message", ["id"], postgresql_where=sa.text("state = 'sending'"))
    op.create_index("message_dead", "message", ["id"], postgresql_where=sa.text("state = 'dead'"))
    op.create_index("message_unrecorded", "message", ["id"], postgresql_where=sa.text("recorded IS DISTINCT FROM state AND state <> 'sending'"))
    op.create_index("message_ended", "message", ["ended"], postgresql_where=sa.text("ended IS NOT NULL"))
