"""Nobody changes or deletes an event, not even the database's own user."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from fhir_server.access.audit import Event, record
from tests.audit.conftest import Trail


@pytest.mark.parametrize("table", ["audit_event", "audit_chain"])
@pytest.mark.parametrize("session", ["", "SET session_replication_role = replica"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET {} = {}",
        "DELETE FROM {}",
        "DELETE FROM {} WHERE false",
        "TRUNCATE {}",
        "INSERT INTO {} SELECT * FROM {} ON CONFLICT DO NOTHING",
    ],
)
def test_the_servers_own_database_user_can_only_append(shared: Trail, table: str, session: str, statement: str) -> None:
    record(shared.store, Event("sign-in", "anna"))
    shared.seal()
    column = "actor" if table == "audit_event" else "event"
    text = statement.format(table, *([column, column] if "SET" in statement else [table]))
    before = shared.sql(f"SELECT count(*) FROM {table}")
    with psycopg.connect(shared.url, autocommit=True) as connection:
        if session:
            connection.execute(session)
        if statement.startswith("INSERT"):
            with pytest.raises((errors.GeneratedAlways, errors.UniqueViolation)):
                connection.execute(text.replace(" ON CONFLICT DO NOTHING", ""))
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(text)
    assert shared.sql(f"SELECT count(*) FROM {table}") == before


def test_the_owner_has_no_right_to_change_them(shared: Trail) -> None:
    rows = shared.sql(
        "SELECT acl.privilege_type FROM pg_class c, aclexplode(c.relacl) acl"
        " WHERE c.relname IN ('audit_event', 'audit_chain') AND acl.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')"
    )
    assert rows == []
