"""Who is next: properties of the order, and a whole day with the time passed in."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.clinic.queue.order import DEFAULTS, SKIPPED_FOR, ZONES, Limits, credit, estimate, in_order, is_over, waited

NOON = datetime(2031, 3, 3, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Somebody:
    token: int
    zone: str
    credit: datetime
    assigned: datetime
    skipped: datetime | None = None


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def somebody(token: int, zone: str = "regular", ago: float = 0, assigned: float | None = None) -> Somebody:
    return Somebody(token, zone, NOON - minutes(ago), NOON - minutes(ago if assigned is None else assigned))


def tokens(*those: Somebody, now: datetime = NOON) -> list[int]:
    return [each.token for each in in_order(those, now, DEFAULTS)]


MOMENT = st.integers(0, 300).map(lambda ago: NOON - minutes(ago))
SOMEBODY = st.builds(Somebody, st.integers(1, 10_000), st.sampled_from(ZONES), MOMENT, MOMENT, st.none() | MOMENT)
CROWD = st.lists(SOMEBODY, max_size=12, unique_by=lambda each: each.token)


def test_emergencies_are_first_by_when_they_became_one() -> None:
    late, early = somebody(1, "emergency", ago=200, assigned=5), somebody(2, "emergency", ago=10, assigned=10)
    assert tokens(somebody(3, ago=300), late, early) == [2, 1, 3]


def test_others_go_by_the_share_of_their_target() -> None:
    assert tokens(somebody(1, ago=30), somebody(2, "follow-up", ago=20), somebody(3, "follow-up", ago=10)) == [2, 1, 3]


def test_whoever_passes_the_maximum_is_next_also_where_another_has_the_larger_share() -> None:
    limits = {"follow-up": Limits(10, 200), "regular": Limits(60, 120)}
    over, quick = somebody(1, ago=121), somebody(2, "follow-up", ago=100)
    assert [each.token for each in in_order((quick, over), NOON, limits)] == [1, 2]


def test_ties_go_to_whoever_began_earlier_and_then_by_token() -> None:
    assert tokens(somebody(2, ago=60), somebody(1, ago=60), somebody(3, "follow-up", ago=30)) == [1, 2, 3]


def test_whoever_comes_early_waits_from_their_time_on_and_whoever_comes_late_from_the_arrival() -> None:
    assert credit(NOON, NOON + minutes(40)) == NOON + minutes(40)
    assert credit(NOON, NOON - minutes(40)) == NOON
    assert credit(NOON, None) == NOON
    early = replace(somebody(1), credit=NOON + minutes(40))
    assert waited(early, NOON) == 0
    assert tokens(early, somebody(2)) == [2, 1]


def test_whoever_did_not_answer_is_behind_those_who_are_there_for_a_while() -> None:
    absent = replace(somebody(1, ago=50), skipped=NOON)
    assert tokens(absent, somebody(2, ago=1)) == [2, 1]
    assert tokens(absent, somebody(2, ago=1), now=NOON + SKIPPED_FOR) == [1, 2]
    assert tokens(replace(absent, zone="emergency"), somebody(2, ago=1)) == [1, 2]


@pytest.mark.parametrize(("ahead", "each", "rooms", "expected"), [(0, 12, 1, 0), (3, 12, 1, 36), (3, 12, 2, 18), (1, 7.5, 2, 4), (2, 10, 0, 20)])
def test_the_estimate(ahead: int, each: float, rooms: int, expected: int) -> None:
    assert estimate(ahead, each, rooms) == expected


@given(CROWD)
def test_an_order_has_everybody_once_and_emergencies_in_front(crowd: list[Somebody]) -> None:
    ordered = in_order(crowd, NOON, DEFAULTS)
    assert sorted(each.token for each in ordered) == sorted(each.token for each in crowd)
    zones = [each.zone == "emergency" for each in ordered]
    assert zones == sorted(zones, reverse=True)


@given(CROWD, st.integers(0, 400), SOMEBODY)
def test_whoever_is_ahead_by_share_stays_ahead_of_those_who_come_later(crowd: list[Somebody], later: int, new: Somebody) -> None:
    """Nobody starves: who comes later in the same zone is never before one who waits, whenever one looks."""
    there = [replace(each, skipped=None) for each in crowd if each.zone != "emergency"]
    now = NOON + minutes(later)
    for each in there:
        comer = replace(new, token=99_999, zone=each.zone, credit=each.credit + minutes(1), skipped=None)
        if each.zone != "emergency":
            ordered = in_order([*there, comer], now, DEFAULTS)
            assert ordered.index(each) < ordered.index(comer)


@given(SOMEBODY, st.sampled_from(ZONES))
def test_moving_to_another_zone_keeps_what_was_waited(each: Somebody, zone: str) -> None:
    assert waited(replace(each, zone=zone, assigned=NOON), NOON) == waited(each, NOON)


def test_a_day_in_which_red_is_first_and_nobody_waits_past_the_maximum_without_an_alert() -> None:
    """Three doctors, visits of twelve minutes on average, for eight hours more load than they can serve; minute by minute, the time passed in."""
    chance = random.Random(7)
    free = [0.0] * 3
    waiting: list[Somebody] = []
    alerted: set[int] = set()
    waits: dict[str, list[float]] = {zone: [] for zone in ZONES}
    for minute in range(16 * 60):
        now = NOON + minutes(minute)
        if minute < 8 * 60 and chance.random() < 0.28:
            waiting.append(Somebody(minute, chance.choices(ZONES, (5, 25, 70))[0], now, now))
        alerted |= {each.token for each in waiting if is_over(each, now, DEFAULTS)}
        for doctor in range(3):
            if free[doctor] > minute or not waiting:
                continue
            called = in_order(waiting, now, DEFAULTS)[0]
            red = [each for each in waiting if each.zone == "emergency"]
            over = [each for each in waiting if is_over(each, now, DEFAULTS)]
            assert called in (red or over or waiting)
            waiting.remove(called)
            waits[called.zone].append(waited(called, now))
            assert called.token in alerted or called.zone == "emergency" or waits[called.zone][-1] < DEFAULTS[called.zone].maximum
            free[doctor] = minute + chance.expovariate(1 / 12)
    assert not waiting
    means = {zone: sum(found) / len(found) for zone, found in waits.items()}
    assert means["emergency"] < 10
    assert means["emergency"] < means["follow-up"] < means["regular"]
    assert max(waits["regular"]) > DEFAULTS["regular"].maximum, "the day is too quiet to show anything"
