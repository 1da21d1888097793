"""Boards as they are and as they change, and the page for a wall."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.access import issue, issue_board
from fhir_server.clinic.acting import Act
from fhir_server.clinic.queue.arriving import walk_in
from fhir_server.clinic.queue.moving import call_next
from fhir_server.outcome import Outcome
from fhir_server.search import SYSTEM
from fhir_server.store.ops import Create
from fhir_server.web import Live
from fhir_server.web.boards import STREAM
from fhir_server.web.live import MAX_STREAMS
from tests.web.conftest import SECRET, Clinic, clinic, make_clinic, outside, shared

__all__ = ["clinic", "make_clinic", "outside", "shared"]
ACT = Act("queue-next", SYSTEM)


class Line:
    """One who reads."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.has_news = threading.Event()
        self.is_closed = False

    def send(self, data: bytes) -> bool:
        self.told.append(data)
        self.has_news.set()
        return not self.is_closed

    def close(self) -> None:
        self.is_closed = True


def made(clinic: Clinic, kind: str, **fields: Any) -> str:
    version = clinic.store.transact([Create({"resourceType": kind, **fields})], SYSTEM).written[0].version
    assert version is not None
    return version.id


@pytest.fixture
def place(clinic: Clinic) -> str:
    return made(clinic, "Location", name="Ground floor")


def come(clinic: Clinic, place: str, zone: str | None = None) -> None:
    walk_in(clinic.store, ACT, made(clinic, "Patient", name=[{"family": "Secret"}]), place, zone)


def wall(clinic: Clinic, place: str) -> str:
    return issue_board(SECRET, place, ttl=600, now=clinic.clock())


def test_the_board_is_the_operations_with_a_tag_of_its_own(clinic: Clinic, place: str) -> None:
    come(clinic, place)
    staff = issue(SECRET, role="staff", user=None, patient=None, scope=None, ttl=600, now=clinic.clock())
    answer = clinic("GET", f"/queue/{place}", token=staff)
    assert answer.status_code == 200
    assert json.loads(answer.data) == json.loads(clinic("GET", f"/fhir/Location/{place}/$queue-board", token=staff).data)
    again: dict[str, Any] = {"headers": {"Authorization": f"Bearer {staff}", "If-None-Match": answer.headers["ETag"]}}
    assert clinic("GET", f"/queue/{place}", **again).status_code == 304
    come(clinic, place)
    assert clinic("GET", f"/queue/{place}", **again).status_code == 200


def test_who_may_look(clinic: Clinic, place: str) -> None:
    admin = issue(SECRET, role="admin", user=None, patient=None, scope=None, ttl=600, now=clinic.clock())
    for path in (f"/queue/{place}", f"/queue/{place}/events"):
        assert clinic("GET", path).status_code == 401
        assert clinic("GET", f"{path}?token={wall(clinic, place)}").status_code == 200
        assert clinic("GET", path, token=wall(clinic, place)).status_code == 200
        assert clinic("GET", path, token=wall(clinic, made(clinic, "Location"))).status_code == 403
        assert clinic("GET", f"{path}?token={admin}").status_code == 401, "a token that opens more does not belong into an address"
        patient = issue(SECRET, role="patient", user=None, patient="p1", scope=None, ttl=600, now=clinic.clock())
        assert clinic("GET", path, token=patient).status_code == 403
    assert clinic("GET", "/queue/nowhere", token=admin).status_code == 404


def test_an_answer_of_events_begins_with_the_board_unless_it_is_known(clinic: Clinic, place: str) -> None:
    token = wall(clinic, place)
    answer = clinic("GET", f"/queue/{place}/events", token=token)
    assert (answer.mimetype, answer.headers["Cache-Control"]) == ("text/event-stream", "no-store")
    retry, event, identity, data, *_ = [line for line in answer.text.split("\n") if line]
    assert (retry, event) == ("retry: 1000", "event: board")
    assert json.loads(data.removeprefix("data: ")) == json.loads(clinic("GET", f"/queue/{place}", token=token).data)
    known: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}", "Last-Event-ID": identity.removeprefix("id: ")}}
    assert "event:" not in clinic("GET", f"/queue/{place}/events", **known).text


def watched(clinic: Clinic, place: str) -> Line:
    """Somebody who reads events, as the gateway has them read."""
    line = Line()
    live: Live = clinic.app.extensions["live"]
    live.watch(line, place, lambda: not line.is_closed, "", sees_encounters=False)
    return line


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_change_is_told_to_those_who_watch_that_board(clinic: Clinic, place: str) -> None:
    other = made(clinic, "Location")
    here, there = watched(clinic, place), watched(clinic, other)
    come(clinic, place, "emergency")
    until(lambda: any(b'"emergency"' in told for told in here.told))
    call_next(clinic.store, ACT, place, room="7")
    until(lambda: any(b'"called"' in told for told in here.told))
    assert b'"7"' in here.told[-1]
    assert not any(b"Secret" in told or b"Encounter/" in told for told in here.told)
    assert not any(b"emergency" in told for told in there.told)


def test_the_view_hands_the_answer_over(clinic: Clinic, place: str) -> None:
    taken: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        result = clinic.app.wsgi_app(environ, start_response)
        taken.append(environ.get(STREAM))
        return result

    from werkzeug.test import Client

    client = Client(application)
    client.get(f"/queue/{place}/events?token={wall(clinic, place)}")
    client.get(f"/queue/{place}?token={wall(clinic, place)}")
    assert taken[1] is None
    line = Line()
    taken[0](line)
    come(clinic, place)
    assert line.has_news.wait(20)


def test_there_is_an_end_to_how_many_watch_and_to_all_of_it(clinic: Clinic, place: str) -> None:
    live = Live(clinic.store)
    lines = [Line() for _ in range(MAX_STREAMS)]
    for line in lines:
        live.check_room()
        live.watch(line, place, lambda: True, "", sees_encounters=False)
    with pytest.raises(Outcome) as caught:
        live.check_room()
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "10")
    live.close()
    assert all(line.is_closed for line in lines)
    late = Line()
    live.watch(late, place, lambda: True, "", sees_encounters=False)
    assert late.is_closed


def test_the_wall_shows_tokens_rooms_and_zones_in_words_and_nobody(clinic: Clinic, place: str) -> None:
    come(clinic, place, "emergency")
    come(clinic, place)
    call_next(clinic.store, ACT, place, room="<7>")
    page = clinic("GET", f"/board/{place}?token={wall(clinic, place)}")
    assert page.status_code == 200
    assert "Room &lt;7&gt;" in page.text
    assert "Regular" in page.text
    assert 'http-equiv="refresh"' in page.text
    assert "Secret" not in page.text
    assert "<script" not in page.text
    assert clinic("GET", f"/board/{place}").status_code == 303
    assert clinic("GET", f"/board/{place}?token={wall(clinic, made(clinic, 'Location'))}").status_code == 403
