"""The tasks of a worker, each run here as Celery would: what the clock asks for is there, and what is due again soon is asked for at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from fhir_server.jobs.application import SCHEDULE, application
from fhir_server.jobs.tasks import CONSUMERS, define_tasks
from fhir_server.settings import Settings
from tests.clinic.subscriptions.test_subscriptions import House as Clinic
from tests.clinic.subscriptions.test_subscriptions import appointment, hooked
from tests.conftest import until
from tests.hl7v2.outbound.conftest import House, Listener, ack, filled, house, listen
from tests.hl7v2.outbound.world import PATIENT

__all__ = ["filled", "house", "listen"]

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning")

Made = Callable[[House | Clinic], Celery]


@pytest.fixture
def worker(tmp_path: Path) -> Made:
    """The tasks of a worker on somebody's database. It has no threads of its own, so what is asked for stays in the queue."""

    def make(here: House | Clinic) -> Celery:
        settings = Settings(data=tmp_path, jwt_secret="x" * 32, database_url=here.store.url)
        app = application(settings)
        assert len(define_tasks(app, here.store, settings, threading.Event())) == CONSUMERS
        return app

    return make


@pytest.fixture(scope="module")
def clinic(fresh_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    made = Clinic(fresh_database(), tmp_path_factory.mktemp("data"))
    yield made
    made.store.close()


def asked(url: str) -> list[str]:
    """The tasks that wait, each taken out of the queue."""
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('broker.kombu_message')").fetchone() == (None,):
            return []
        found = connection.execute("DELETE FROM broker.kombu_message RETURNING payload::json -> 'headers' ->> 'task'").fetchall()
    return [task for (task,) in found]


def test_what_the_clock_asks_for_is_a_task(house: House, worker: Made) -> None:
    assert set(SCHEDULE) - set(worker(house).tasks) == set()


def test_a_message_to_a_peer_is_asked_for_again_soon_until_it_is_taken(house: House, listen: Callable[..., Listener], worker: Made) -> None:
    deliver = worker(house).tasks["hl7v2.deliver"]
    hears = listen(lambda message, times: None if times == 1 else ack(message))
    peer = house.peer(hears.port, "A28")
    house.put(PATIENT | {"id": "soon"})
    house.hear()
    deliver.apply((str(peer.id),)).get()
    assert asked(house.url) == ["hl7v2.deliver"]
    until(lambda: house.outbound.due() != [])
    deliver.apply((str(peer.id),)).get()
    assert (house.rows("state"), asked(house.url)) == ([("delivered",)], [])


def test_a_notification_is_asked_for_again_soon_until_it_is_taken(clinic: Clinic, worker: Made) -> None:
    deliver = worker(clinic).tasks["subscriptions.deliver"]
    with hooked() as hook:
        subscription = clinic.subscribe(hook.url)
        clinic.put(appointment("soon"))
        clinic.hear()
        hook.status = 503
        deliver.apply((subscription,)).get()
        assert asked(clinic.store.url) == ["subscriptions.deliver"]
        hook.status = 200
        clinic.clock.at += timedelta(minutes=1)
        deliver.apply((subscription,)).get()
        assert asked(clinic.store.url) == []
        assert [each.state for each in clinic.deliveries(subscription)] == ["delivered"]
