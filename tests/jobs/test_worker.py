"""Workers as processes: what they do when they die, and when there are two of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from fhir_server.hl7v2.text.message import Message
from fhir_server.jobs import broker
from fhir_server.jobs.application import SCHEDULE, application
from fhir_server.settings import Settings, SetupError
from tests.conftest import until
from tests.hl7v2.outbound.conftest import House, Listener, ack, filled, house, listen
from tests.hl7v2.outbound.world import APPOINTMENT, PATIENT
from tests.jobs.conftest import Start, are_up, starting

__all__ = ["filled", "house", "listen"]


@pytest.fixture
def start(house: House, tmp_path: Path) -> Iterator[Start]:
    with starting(house.url, tmp_path) as begin:
        yield begin


def count(house: House, state: str) -> int:
    return [found for (found,) in house.rows("state")].count(state)


def test_a_change_is_told_within_seconds_and_the_worker_ends_when_asked(house: House, listen: Callable[..., Listener], start: Start) -> None:
    listener = listen()
    house.peer(listener.port)
    worker = start()
    until(lambda: are_up(house.url, 1))
    house.put({**APPOINTMENT, "id": "one"})
    begun = time.monotonic()
    until(lambda: count(house, "delivered") == 1)
    assert time.monotonic() - begun < 10
    assert listener.events() == ["SIU^S12"]
    with psycopg.connect(house.url) as connection:
        assert connection.execute("SELECT count(*) FROM broker.kombu_message").fetchone() == (0,)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0


def test_a_worker_that_is_killed_between_sending_and_writing_down_sends_again_with_the_same_control_id(
    house: House, listen: Callable[..., Listener], start: Start
) -> None:
    listener = listen(lambda message, times: 60.0 if times == 1 else ack(message))
    house.peer(listener.port, seconds=60)
    first = start()
    until(lambda: are_up(house.url, 1))
    house.put({**APPOINTMENT, "id": "one"})
    until(lambda: len(listener.got) == 1)
    first.kill()
    first.wait()
    assert count(house, "waiting") == 1
    start("scheduler")
    start()
    until(lambda: count(house, "delivered") == 1)
    assert len(listener.got) == 2
    assert len(set(listener.ids())) == 1
    assert listener.raw[0] == listener.raw[1]


def test_two_workers_send_everything_once_and_in_order(house: House, listen: Callable[..., Listener], start: Start) -> None:
    def slowly(message: Message, _: int) -> bytes:
        time.sleep(0.01)
        return ack(message)

    listener = listen(slowly)
    house.peer(listener.port, "A28", "A31")
    for _ in range(2):
        start()
    until(lambda: are_up(house.url, 2))
    for number in range(40):
        house.put({**PATIENT, "id": "many", "telecom": [{"system": "phone", "value": str(number)}]})
    until(lambda: count(house, "delivered") == 40)
    phones = [segment.get(13) for message in listener.got for segment in message.segments if segment.name == "PID"]
    assert phones == [str(number) for number in range(40)]
    assert listener.most_open == 1


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning")
def test_a_message_is_taken_from_the_queue_by_one_reader_and_is_gone(house: House) -> None:
    settings = Settings(data=house.settings.data, jwt_secret="x" * 32, database_url=house.url)
    app = application(settings)
    for number in range(3):
        app.send_task("some", (str(number),))
    with app.connection_for_read() as one, app.connection_for_read() as two:
        taken = [each.SimpleQueue("fhir-server").get(block=False) for each in (one, two, one)]
        assert [message.payload[0] for message in taken] == [["0"], ["1"], ["2"]]
        for message in taken:
            message.ack()
    with psycopg.connect(house.url) as connection:
        assert connection.execute("SELECT count(*) FROM broker.kombu_message").fetchone() == (0,)


def test_tasks_carry_ids_and_are_asked_for_again_only_while_they_are_worth_it(house: House) -> None:
    settings = Settings(data=house.settings.data, jwt_secret="x" * 32, database_url=house.url)
    configuration = application(settings).conf
    assert configuration.accept_content == ["json"]
    assert configuration.result_backend is None
    assert configuration.task_acks_late
    assert {name: entry["options"]["expires"] for name, entry in configuration.beat_schedule.items()} == SCHEDULE


@pytest.mark.parametrize("fields", [{"database_url": "postgresql://u:hidden@127.0.0.1:1/none"}, {"broker_url": "redis://u:hidden@127.0.0.1:1"}])
def test_a_broker_that_is_away_is_told_without_its_password(tmp_path: Path, fields: dict[str, str]) -> None:
    with pytest.raises(SetupError) as caught:
        broker.reach(Settings(data=tmp_path, jwt_secret="x" * 32, **fields))  # type: ignore[arg-type]  # either is a text
    assert "hidden" not in str(caught.value)
