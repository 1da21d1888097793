"""Positions: what is near, also across the date line and around the poles."""

from __future__ import annotations

import math
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhirjson import Number
from fhir_server.search.params import Context, Row, position
from fhir_server.spec import r4
from tests.search.agreement import assert_agreement, plan

CONTEXT = Context(r4(), {}, ZoneInfo("UTC"))


def rows(latitude: Any, longitude: Any) -> list[Row]:
    maker = position.maker("Location.position", None, CONTEXT)
    assert maker is not None
    return list(maker({"latitude": latitude, "longitude": longitude}))


def near(query: str, latitude: float, longitude: float) -> bool:
    return position.matches(position.parse(query, None, (), CONTEXT), (latitude, longitude))


# Vienna, St Stephen's to Bratislava's castle, and other distances that anybody can look up.
@pytest.mark.parametrize(
    ("query", "latitude", "longitude", "matched"),
    [
        ("48.2085|16.3731|55|km", 48.1421, 17.1000, True),
        ("48.2085|16.3731|54|km", 48.1421, 17.1000, False),
        ("48.2085|16.3731|55", 48.1421, 17.1000, True),
        ("48.2085|16.3731", 48.1421, 17.1000, False),
        ("48.2085|16.3731", 48.1421, 16.9000, True),
        ("48.2085|16.3731||mi", 48.1421, 16.9000, True),
        ("48.2085|16.3731|55000|m", 48.1421, 17.1000, True),
        ("48.2085|16.3731|34|[mi_i]", 48.1421, 17.1000, True),
        ("48.2085|16.3731|34|mi", 48.1421, 17.1000, True),
        ("48.2085|16.3731|34|[mi_us]", 48.1421, 17.1000, True),
        ("48.2085|16.3731|33|mi", 48.1421, 17.1000, False),
        ("48.2085|16.3731|0", 48.2085, 16.3731, True),
        ("48.2085|16.3731|0", 48.2086, 16.3731, False),
        ("0|179.9|30", 0, -179.9, True),
        ("0|-179.9|30", 0, 179.9, True),
        ("0|180|1", 0, -180, True),
        ("89.9|0|30", 89.9, 180, True),
        ("-89.9|10|30", -89.9, -170, True),
        ("90|0|1", 90, 135, True),
        ("0|0|20100", 0, 180, True),
        ("0|0|1e9", 10, 179, True),
        ("51.4775|0|5571", 40.6413, -73.7781, True),
        ("51.4775|0|5500", 40.6413, -73.7781, False),
    ],
)
def test_distances(query: str, latitude: float, longitude: float, matched: bool) -> None:  # noqa: FBT001
    assert near(query, latitude, longitude) is matched


def test_a_position_is_a_row() -> None:
    assert rows(Number("48.2"), Number("16.4")) == [(48.2, 16.4)]
    assert rows(-90, Number("-0.0")) == [(-90.0, 0.0)]
    assert rows(0, 190) == [(0.0, -170.0)]
    assert rows(Number("90.1"), 0) == rows(0, Number("1e100")) == []
    maker = position.maker("Location.position", None, CONTEXT)
    assert maker is not None
    assert not list(maker({"altitude": 5}))
    assert position.maker("Quantity", None, CONTEXT) is None


@pytest.mark.parametrize("text", ["", "48.2", "48.2|16.4|5|km|x", "48.2,16.4"])
def test_a_value_of_another_form_is_told_the_right_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not \[latitude\]\|\[longitude\]\|\[distance\]\|\[unit\]"):
        position.parse(text, None, (), CONTEXT)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("north|16.4", "a latitude that is no number"),
        ("48.2|", "a longitude that is no number"),
        ("90.5|16.4", "a latitude that is not from -90 to 90"),
        ("48.2|181", "a longitude that is not from -180 to 180"),
        ("48.2|16.4|-1", "a distance that is not 0 or more"),
        ("48.2|16.4|far", "a distance that is no number"),
        ("nan|16.4", "a latitude that is no number"),
        ("48.2|16.4|1_0", "a distance that is no number"),
        ("48.2|16.4|5|kg", "no unit of length"),
        ("48.2|16.4|5|parsecs", "no unit of length"),
        ("48.2|16.4|1e500", "a distance that is no number"),
    ],
)
def test_a_part_that_is_wrong_is_named(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        position.parse(text, None, (), CONTEXT)


def test_positions_have_no_order() -> None:
    assert position.ORDER is None
    with pytest.raises(TypeError):
        position.ends((0.0, 0.0))


latitudes = st.one_of(st.sampled_from(("90", "-90", "0", "89.99", "-89.99", "48.2")), st.decimals(-90, 90, places=4).map(str))
longitudes = st.one_of(st.sampled_from(("180", "-180", "0", "179.99", "-179.99", "16.4")), st.decimals(-180, 180, places=4).map(str))
places = st.builds(lambda north, east: {"position": {"latitude": Number(north), "longitude": Number(east)}}, latitudes, longitudes)
distances = st.one_of(st.sampled_from(("0", "1", "50", "5000", "10007", "20016", "1e6")), st.integers(0, 20100).map(str))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    held=st.lists(places, min_size=3, max_size=12),
    asked=st.lists(st.builds(lambda north, east, far: f"{north}|{east}|{far}", latitudes, longitudes, distances), min_size=4, max_size=12),
)
def test_sql_finds_what_matches(database: Any, held: list[dict[str, Any]], asked: list[str]) -> None:
    """Also that the box around the circle cuts nothing off."""
    assert_agreement(database, "Location", "near", held, asked)


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 360), st.floats(0, 20_000))
def test_what_lies_at_a_distance_is_found_by_a_little_more(latitude: float, longitude: float, bearing: float, kilometres: float) -> None:
    """The way from a point along a bearing, by spherical trigonometry."""
    angle, course, north = kilometres * 1000 / position.RADIUS, math.radians(bearing), math.radians(latitude)
    there = math.asin(max(-1.0, min(1.0, math.sin(north) * math.cos(angle) + math.cos(north) * math.sin(angle) * math.cos(course))))
    east = math.atan2(math.sin(course) * math.sin(angle) * math.cos(north), math.cos(angle) - math.sin(north) * math.sin(there))
    around = (longitude + math.degrees(east) + 540) % 360 - 180
    assert near(f"{latitude:.12f}|{longitude:.12f}|{kilometres + 0.1:.6f}", math.degrees(there), around)
    if kilometres > 1:
        assert not near(f"{latitude:.12f}|{longitude:.12f}|{kilometres - 0.5:.6f}", math.degrees(there), around)


def test_latitudes_are_a_range_of_the_index(database: Any) -> None:
    text = plan(database, "Location", "near", "48.2|16.4|5", {"latitude": "g % 180 - 90", "longitude": "g % 360 - 180"})
    assert "sp_position_latitude" in text
    condition = next(line for line in text.splitlines() if "Index Cond" in line)
    assert "latitude >= " in condition
    assert "latitude <= " in condition
