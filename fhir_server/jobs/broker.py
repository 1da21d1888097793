"""The broker: BROKER_URL's, or the database itself by kombu's transport for SQL, in a schema of its own.

https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.sqlalchemy.html

Of that transport the reading is replaced. It marks a message as taken and keeps it for ever, and several readers wait for each other; here the
message goes, each reader takes another one, and looking into an empty queue is one statement in place of two and a transaction. The writing is one
statement as well: by way of objects that are mapped to rows it took 15 ms.
"""

from __future__ import annotations

import json
import time
from queue import Empty
from typing import Any, Final

from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, sqlalchemy
from kombu.utils.json import dumps
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from fhir_server.settings import NETWORK, Settings, SetupError

POLL_SECONDS: Final = 0.5
"""How often a worker looks for tasks: 0.3 % of a core, and a task begins a quarter of a second later on average."""

_ALIAS: Final = "fhirdb"
_TAKE: Final = text(
    "DELETE FROM kombu_message WHERE id = (SELECT m.id FROM kombu_message m JOIN kombu_queue q ON q.id = m.queue_id"
    " WHERE q.name = :queue ORDER BY m.id LIMIT 1 FOR UPDATE OF m SKIP LOCKED) RETURNING payload"
)
_PUT: Final = text(
    "INSERT INTO kombu_message (id, visible, payload, version, queue_id)"
    " SELECT nextval('message_id_sequence'), true, :payload, 1, q.id FROM kombu_queue q WHERE q.name = :queue RETURNING id"
)


class Channel(sqlalchemy.Channel):
    """Takes messages for good."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # It has two names for what is put.
        named = {"queue": queue, "payload": dumps(payload)}  # type: ignore[no-untyped-call]  # kombu is not typed
        try:
            if self.session.execute(_PUT, named).first() is None:
                self._new_queue(queue)  # type: ignore[no-untyped-call]  # as above
                self.session.execute(_PUT, named)
            self.session.commit()
        except DBAPIError:
            self.session.rollback()
            raise

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        del timeout
        row = self.session.execute(_TAKE, {"queue": queue}).first()
        self.session.commit()
        if row is None:
            raise Empty
        return json.loads(row[0])


class Transport(sqlalchemy.Transport):
    """The database as broker."""

    Channel = Channel
    polling_interval = POLL_SECONDS
    connection_errors: tuple[type[Exception], ...] = (DBAPIError, OSError)  # type: ignore[assignment]  # kombu's is of one kind

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Takes one message, or waits for half a second and raises TimeoutError.

        kombu's own waits for the two that it is asked to, and until then a worker does not see that it is to end.
        """
        del connection
        try:
            self.cycle.get(self._deliver, timeout=timeout)  # type: ignore[union-attr]  # It has one from its making on.
        except Empty:
            time.sleep(POLL_SECONDS if timeout is None else min(timeout, POLL_SECONDS))
            raise TimeoutError from None


TRANSPORT_ALIASES[_ALIAS] = f"{__name__}:Transport"


def location(settings: Settings) -> dict[str, Any]:
    """Where the broker is, as Celery's settings have it. The settings name a broker or a database."""
    if settings.broker_url is not None:
        return {"broker_url": settings.broker_url}
    url = str(settings.database_url).replace("postgresql://", "postgresql+psycopg://", 1)
    session = {"options": "-c search_path=broker -c jit=off -c statement_timeout=20000", "application_name": "fhir-server broker", **NETWORK}
    options = {"isolation_level": "AUTOCOMMIT", "pool_size": 3, "max_overflow": 3, "pool_pre_ping": True, "connect_args": session}
    return {"broker_url": f"{_ALIAS}+{url}", "broker_transport_options": options}


def reach(settings: Settings) -> None:
    """Connects to the broker once. Raises SetupError where it cannot be had within some seconds; the text has no password in it."""
    found = location(settings)
    try:
        options = found.get("broker_transport_options")
        with Connection(found["broker_url"], transport_options=options, connect_timeout=5) as connection:  # type: ignore[no-untyped-call]
            connection.ensure_connection(max_retries=1, timeout=5)
            _declare(connection)
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        name = "BROKER_URL" if settings.broker_url is not None else "the database"
        raise SetupError(f"the broker does not answer ({type(error).__name__}); see that it runs, and that {name} is right") from None


def _declare(connection: Connection) -> None:
    for is_last in (False, True):
        try:
            connection.default_channel.queue_declare("fhir-server", durable=True, auto_delete=False)  # type: ignore[no-untyped-call]
        except IntegrityError:
            # Another process that begins at the same moment has made it; the next look finds it, once the session is told of the fault.
            if is_last:
                raise
            session: Any = getattr(connection.default_channel, "session")  # noqa: B009 - of the transport for SQL alone, which is where the fault is from
            session.rollback()
        else:
            return
