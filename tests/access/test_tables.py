from __future__ import annotations

from collections.abc import Callable

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import NullPool, create_engine

from fhir_server.access.tables import account
from fhir_server.clinic.billing.gateway.tables import payment_intent
from fhir_server.clinic.messages.tables import message
from fhir_server.clinic.scheduling.tables import scheduling_setting
from fhir_server.hl7v2.outbound.tables import hl7v2_peer
from fhir_server.hl7v2.tables import hl7v2_message


def test_the_migrations_make_the_tables_that_are_declared(fresh_database: Callable[[], str]) -> None:
    # Each module of tables adds its own to the one set when it is imported.
    assert {account.name, hl7v2_message.name, hl7v2_peer.name, message.name} <= set(account.metadata.tables)
    engine = create_engine(fresh_database().replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        # Each module of tables adds its own to the one set when it is imported.
        assert scheduling_setting.metadata is payment_intent.metadata is account.metadata
        assert compare_metadata(context, account.metadata) == []
