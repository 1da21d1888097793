"""What administrators decide about appointments."""

from __future__ import annotations

import pytest

from tests.web.conftest import Json

from .conftest import Desk, problem


def test_what_is_not_decided_has_defaults_and_what_is_named_changes(desk: Desk) -> None:
    before = desk.ok("GET", "/scheduling/policies")
    assert before["patient"]["open_bookings"] == 20
    assert before["practice"] == {"no_show_minutes": None, "offer_minutes": 30, "country": None, "subdivision": None, "closed": []}
    changes = {"patient": {"notice_minutes": 60, "open_bookings": None}, "practice": {"country": "DE", "subdivision": "BY", "closed": ["2031-12-24"]}}
    after = desk.ok("PATCH", "/scheduling/policies", changes)
    assert after["patient"] == before["patient"] | changes["patient"]
    assert after["practice"] == before["practice"] | changes["practice"]
    assert desk.ok("GET", "/scheduling/policies") == after
    undone = {"patient": before["patient"], "practice": before["practice"]}
    assert desk.ok("PATCH", "/scheduling/policies", undone) == before


def test_another_state_than_the_one_that_was_read_is_kept(desk: Desk) -> None:
    problem(desk("PATCH", "/scheduling/policies", {"staff": {"horizon_days": 1}}, If_Match='"another"'), 412)
    tag = desk("GET", "/scheduling/policies").headers["ETag"]
    desk.ok("PATCH", "/scheduling/policies", {}, If_Match=tag)


@pytest.mark.parametrize(
    "body",
    [
        {"nurse": {}},
        {"patient": {"notice_minutes": -1}},
        {"patient": {"notice_minutes": "1"}},
        {"practice": {"closed": ["2031-02-30"]}},
        {"practice": {"country": "XX"}},
        {"practice": {"country": "DE", "subdivision": "CA"}},
    ],
)
def test_what_makes_no_sense_is_refused(desk: Desk, body: Json) -> None:
    problem(desk("PATCH", "/scheduling/policies", body), 422)


def test_nobody_is_affected_where_there_are_no_rules(desk: Desk) -> None:
    assert desk.ok("GET", "/scheduling/affected?schedule=nothing") == {"items": []}
    problem(desk("GET", "/scheduling/affected?schedule=../x"), 400)
