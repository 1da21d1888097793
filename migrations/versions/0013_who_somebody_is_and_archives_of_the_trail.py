"""Who somebody is in FHIR, by one rule; archives of the audit trail"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"

# The order of `access.accounts`: who has a RelatedPerson has a Patient too, whose record that opens.
_RULE = """
CREATE FUNCTION account_fhir_user(practitioner text, related_person text, patient text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce('Practitioner/' || practitioner, 'RelatedPerson/' || related_person, 'Patient/' || patient)
$$
"""

# An anchor names an entry that is there, and not the last one, on which the next is built.
_ANCHORED = """
CREATE FUNCTION audit_anchor_is_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM audit_chain c WHERE (c.seq, c.settled, c.hash) = (NEW.seq, NEW.settled, NEW.hash))
        OR NOT EXISTS (SELECT FROM audit_chain c WHERE c.seq > NEW.seq) THEN
        RAISE EXCEPTION 'an anchor is an entry of the audit chain before its last' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.xid := pg_current_xact_id()::text::bigint;
    NEW.made := date_trunc('milliseconds', clock_timestamp());
    RETURN NEW;
END $$
"""
_STATEMENT = """
CREATE OR REPLACE FUNCTION audit_is_appended_to() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME <> 'audit_anchor'
        AND EXISTS (SELECT FROM audit_anchor a WHERE a.xid = pg_current_xact_id()::text::bigint) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the audit trail is only ever added to' USING ERRCODE = 'insufficient_privilege';
END $$
"""
_ROW = """
CREATE FUNCTION audit_is_archived() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entry bigint;
BEGIN
    IF TG_TABLE_NAME = 'audit_chain' THEN
        entry := OLD.seq;
    ELSE
        SELECT c.seq INTO entry FROM audit_chain c WHERE c.event = OLD.id;
    END IF;
    IF entry <= (SELECT max(a.seq) FROM audit_anchor a WHERE a.xid = pg_current_xact_id()::text::bigint) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit trail is only ever added to' USING ERRCODE = 'insufficient_privilege';
END $$
"""


def upgrade() -> None:
    _name_people()
    _allow_archives()


def _allow_archives() -> None:
    op.create_table(
        "audit_anchor",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("hash", postgresql.BYTEA(), nullable=False),
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.Column("made", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.execute(_ANCHORED)
    op.execute(_STATEMENT)
    op.execute(_ROW)
    triggers = (
        ("audit_anchor", "audit_anchor_is_sealed", "BEFORE INSERT ON audit_anchor FOR EACH ROW", "audit_anchor_is_sealed"),
        (
            "audit_anchor",
            "audit_anchor_is_appended_to",
            "BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_anchor FOR EACH STATEMENT",
            "audit_is_appended_to",
        ),
        ("audit_event", "audit_event_is_archived", "BEFORE DELETE ON audit_event FOR EACH ROW", "audit_is_archived"),
        ("audit_chain", "audit_chain_is_archived", "BEFORE DELETE ON audit_chain FOR EACH ROW", "audit_is_archived"),
    )
    for table, name, when, function in triggers:
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {function}()")
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
    op.execute("REVOKE UPDATE, DELETE, TRUNCATE ON audit_anchor FROM CURRENT_USER")


def _name_people() -> None:
    op.execute(_RULE)
    # The triggers as 0006 made them, but for this.
    connection = op.get_bind()
    for function, row in (("audit_session", "owner"), ("audit_account", "NEW")):
        [made] = connection.exec_driver_sql(f"SELECT pg_get_functiondef('{function}'::regproc)").scalars()
        before = f"coalesce('Practitioner/' || {row}.practitioner, 'Patient/' || {row}.patient, 'RelatedPerson/' || {row}.related_person)"
        if before not in made:
            raise RuntimeError(f"{function} is not as it was made")
        op.execute(made.replace(before, f"account_fhir_user({row}.practitioner, {row}.related_person, {row}.patient)"))
