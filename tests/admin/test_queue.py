"""Minutes of queues, and waits, for administrators."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.admin.conftest import Desk, problem


def test_a_place_has_the_usual_minutes_until_it_has_its_own(desk: Desk, place: str) -> None:
    usual = {"follow-up": {"target": 30, "maximum": 60}, "regular": {"target": 60, "maximum": 120}}
    assert desk.ok("GET", f"/queue/settings/{place}") == {"location": place, **usual}
    tag = desk("GET", f"/queue/settings/{place}").headers["ETag"]
    own = {"regular": {"target": 20, "maximum": 45}}
    assert desk.ok("PATCH", f"/queue/settings/{place}", own, If_Match=tag) == {"location": place, **usual, **own}
    problem(desk("PATCH", f"/queue/settings/{place}", own, If_Match=tag), 412)
    assert desk.ok("GET", f"/queue/settings/{place}")["regular"] == own["regular"]


def test_of_several_who_have_read_the_same_minutes_one_changes_them(desk: Desk, place: str) -> None:
    tag = desk("GET", f"/queue/settings/{place}").headers["ETag"]

    def changed(target: int) -> int:
        own = {"regular": {"target": target, "maximum": 90}}
        return desk("PATCH", f"/queue/settings/{place}", own, If_Match=tag).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(changed, range(10, 14))) == [200, 412, 412, 412]


@pytest.mark.parametrize("body", [
    {"regular": {"target": 60, "maximum": 30}}, {"regular": {"target": 0, "maximum": 30}}, {"regular": {"target": 10}},
    {"regular": {"target": "10", "maximum": 30}}, {"emergency": {"target": 1, "maximum": 2}}, {"regular": {"target": 1, "maximum": 10_000}},
])  # fmt: skip
def test_minutes_that_make_no_sense_are_refused(desk: Desk, place: str, body: dict[str, Any]) -> None:
    problem(desk("PATCH", f"/queue/settings/{place}", body), 422)


def test_a_place_that_is_not_there_has_neither(desk: Desk) -> None:
    problem(desk("GET", "/queue/settings/nowhere"), 404)
    problem(desk("PATCH", "/queue/settings/nowhere", {}), 404)
    problem(desk("GET", "/queue/statistics?location=nowhere"), 404)


def test_a_quiet_place_has_no_waits(desk: Desk, place: str) -> None:
    found = desk.ok("GET", f"/queue/statistics?location={place}&from=2031-01-01T00:00:00Z&to=2031-02-01T00:00:00%2B01:00")
    assert (found["location"], found["items"], found["from"][:10]) == (place, [], "2031-01-01")
    problem(desk("GET", "/queue/statistics"), 400)
