"""Runs migrations against the URL that `fhir_server.store.postgres.migrate` hands over."""

from alembic import context
from sqlalchemy import NullPool, create_engine

import fhir_server.access.tables
import fhir_server.clinic.billing.gateway.tables
import fhir_server.clinic.billing.tables
import fhir_server.clinic.messages.tables
import fhir_server.clinic.scheduling.tables
import fhir_server.hl7v2.outbound.tables
import fhir_server.hl7v2.tables  # noqa: F401 - the tables of all are part of the metadata once they are there
from fhir_server.store.tables import metadata

url = context.config.attributes["url"].replace("postgresql://", "postgresql+psycopg://", 1)
with create_engine(url, poolclass=NullPool).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
