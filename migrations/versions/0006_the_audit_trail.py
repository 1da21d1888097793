"""The audit trail"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

# Who acts, as `access.audit.acting` has told for this transaction.
_WHO = """
CREATE FUNCTION audit_who(OUT actor text, OUT account text, OUT fhir_user text, OUT roles text[], OUT client text, OUT session text,
    OUT address text, OUT request_id text, OUT detail text) LANGUAGE sql STABLE AS $$
SELECT coalesce(x.actor, 'system'), x.account, x.fhir_user, coalesce(x.roles, '{}'), x.client, x.session, x.address, x.request_id, x.detail
FROM json_to_record(coalesce(nullif(current_setting('audit.who', true), ''), '{}')::json) AS x(actor text, account text, fhir_user text,
    roles text[], client text, session text, address text, request_id text, detail text)
$$
"""

# Written by the database, so that whatever opens or ends a session leaves its event with it.
_OF_SESSIONS = """
CREATE FUNCTION audit_session() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owner account%ROWTYPE;
    app text := to_jsonb(NEW)->>'client';
    kind text := CASE
        WHEN TG_OP = 'INSERT' THEN CASE WHEN app IS NULL THEN 'sign-in' ELSE 'token-issue' END
        WHEN NEW.reason = 'logged out' THEN 'sign-out'
        WHEN NEW.reason = 'reused token' THEN 'token-reuse'
        ELSE 'revocation' END;
BEGIN
    SELECT * INTO owner FROM account WHERE id = NEW.account;
    INSERT INTO audit_event (recorded, kind, action, outcome, actor, account, fhir_user, roles, client, session, address, request_id,
        type, resource, patients, detail)
    SELECT date_trunc('milliseconds', clock_timestamp()), kind,
        CASE kind WHEN 'token-issue' THEN 'C' WHEN 'revocation' THEN 'D' ELSE 'E' END,
        CASE kind WHEN 'token-reuse' THEN 4 ELSE 0 END,
        coalesce(owner.login, app, 'unknown'), owner.id,
        coalesce('Practitioner/' || owner.practitioner, 'Patient/' || owner.patient, 'RelatedPerson/' || owner.related_person),
        coalesce(owner.roles, '{}'), app, NEW.id,
        nullif(coalesce(w.address, CASE WHEN TG_OP = 'INSERT' THEN NEW.address END), ''), w.request_id,
        'session', NEW.id, '{}',
        CASE WHEN TG_OP = 'UPDATE' THEN NEW.reason || CASE WHEN w.actor <> 'system' THEN ', by ' || w.actor ELSE '' END END
    FROM audit_who() w;
    RETURN NULL;
END $$
"""

# Names what has changed; of roles and state also from what to what.
_OF_ACCOUNTS = """
CREATE FUNCTION audit_account() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed text[];
    said text;
    kind text := 'account-change';
    -- Only its owner sets a password that has not to be changed first, takes up an authenticator app, or proves an address.
    own boolean := false;
BEGIN
    IF TG_OP = 'INSERT' THEN
        kind := CASE WHEN NEW.applicant IS NULL THEN 'account-change' ELSE 'registration' END;
        said := 'added: ' || array_to_string(NEW.roles, ', ');
    ELSE
        SELECT array_agg(n.key ORDER BY n.key) INTO changed
        FROM jsonb_each(to_jsonb(NEW)) n JOIN jsonb_each(to_jsonb(OLD)) o ON o.key = n.key
        WHERE n.value IS DISTINCT FROM o.value AND n.key <> 'created';
        IF changed IS NULL THEN
            RETURN NULL;
        END IF;
        IF changed <@ '{password_hash,password_expired}' THEN
            kind := 'password-change';
        END IF;
        own := changed <@ '{password_hash,password_expired,totp_secret,totp_offered,email_proved,phone_proved}'
            AND NOT NEW.password_expired AND (NEW.totp_secret IS NOT NULL OR OLD.totp_secret IS NULL);
        said := 'changed: ' || array_to_string(changed, ', ');
        IF NEW.roles <> OLD.roles THEN
            said := said || '; roles ' || array_to_string(OLD.roles, ', ') || ' -> ' || array_to_string(NEW.roles, ', ');
        END IF;
        IF NEW.state <> OLD.state THEN
            said := said || '; state ' || OLD.state || ' -> ' || NEW.state;
        END IF;
    END IF;
    INSERT INTO audit_event (recorded, kind, action, outcome, actor, account, fhir_user, roles, client, session, address, request_id,
        type, resource, patients, detail)
    SELECT date_trunc('milliseconds', clock_timestamp()), kind, CASE TG_OP WHEN 'INSERT' THEN 'C' ELSE 'U' END, 0,
        CASE WHEN o THEN NEW.login ELSE w.actor END, CASE WHEN o THEN NEW.id ELSE w.account END,
        CASE WHEN o THEN coalesce('Practitioner/' || NEW.practitioner, 'Patient/' || NEW.patient, 'RelatedPerson/' || NEW.related_person)
            ELSE w.fhir_user END,
        CASE WHEN o THEN NEW.roles ELSE w.roles END, w.client, w.session, w.address, w.request_id,
        'account', NEW.id, '{}', said || coalesce(' (' || w.detail || ')', '')
    FROM audit_who() w, LATERAL (SELECT own AND w.actor = 'system' AND w.detail IS NULL) x(o);
    RETURN NULL;
END $$
"""


def _text(name: str, *, nullable: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _texts(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, postgresql.ARRAY(sa.Text(collation="C")), nullable=False)


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("xid", sa.BigInteger(), server_default=sa.text("pg_current_xact_id()::text::bigint"), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("recorded", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("received", sa.TIMESTAMP(timezone=True), nullable=True),
        _text("kind", nullable=False),
        _text("action", nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        _text("actor", nullable=False),
        _text("account"),
        _text("fhir_user"),
        _texts("roles"),
        _text("client"),
        _text("session"),
        _text("purpose"),
        _text("address"),
        _text("request_id"),
        _text("type"),
        _text("resource"),
        sa.Column("version", sa.Integer(), nullable=True),
        _texts("patients"),
        _text("query"),
        _text("detail"),
        sa.Column("body", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_event_recorded", "audit_event", ["recorded", "id"])
    op.create_index("audit_event_actor", "audit_event", ["actor", "id"])
    op.create_index("audit_event_fhir_user", "audit_event", ["fhir_user", "id"], postgresql_where=sa.text("fhir_user IS NOT NULL"))
    op.create_index("audit_event_resource", "audit_event", ["type", "resource", "id"], postgresql_where=sa.text("resource IS NOT NULL"))
    op.create_index("audit_event_received", "audit_event", ["id"], postgresql_where=sa.text("received IS NOT NULL"))
    op.create_index("audit_event_patients", "audit_event", ["patients"], postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 512})
    op.create_table(
        "audit_chain",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("hash", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("event"),
    )
    op.execute(
        "CREATE FUNCTION audit_is_appended_to() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit trail is only ever added to' USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    for table in ("audit_event", "audit_chain"):
        op.execute(
            f"CREATE TRIGGER {table}_is_appended_to BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_appended_to()"
        )
        # Holds for a superuser too, and for sessions that replicate.
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_is_appended_to")
        op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM CURRENT_USER")
    op.execute(_WHO)
    op.execute(_OF_SESSIONS)
    op.execute("CREATE TRIGGER session_begins AFTER INSERT ON session FOR EACH ROW EXECUTE FUNCTION audit_session()")
    op.execute(
        "CREATE TRIGGER session_ends AFTER UPDATE ON session FOR EACH ROW"
        " WHEN (OLD.ended IS NULL AND NEW.ended IS NOT NULL) EXECUTE FUNCTION audit_session()"
    )
    op.execute(_OF_ACCOUNTS)
    op.execute("CREATE TRIGGER account_changes AFTER INSERT OR UPDATE ON account FOR EACH ROW EXECUTE FUNCTION audit_account()")
