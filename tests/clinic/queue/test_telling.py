"""People in a queue are told that they are called, and that it is nearly their turn."""

from __future__ import annotations

from fhir_server.clinic.queue.moving import call_next, happen
from tests.clinic.queue.test_upkeep import ACT, Day, day, identity, opened

__all__ = ["day", "opened"]


def told(day: Day, encounter: str) -> list[str]:
    with day.store.database.connection() as connection:
        rows = connection.execute("SELECT event FROM message WHERE focus = %s ORDER BY id", (f"Encounter/{encounter}",)).fetchall()
    return [event for (event,) in rows]


def test_who_is_called_is_told_at_each_call_and_the_next_two_once(day: Day) -> None:
    first, second, third, fourth = (day.come() for _ in range(4))
    assert identity(call_next(day.store, ACT, day.location)) == first
    assert [told(day, each) for each in (first, second, third, fourth)] == [["called"], ["nearly-your-turn"], ["nearly-your-turn"], []]
    day.later(1)
    happen(day.store, ACT, first, "recall")
    day.later(1)
    assert identity(call_next(day.store, ACT, day.location)) == second
    assert told(day, first) == ["called", "called"]
    assert told(day, second) == ["nearly-your-turn", "called"]
    assert [told(day, each) for each in (third, fourth)] == [["nearly-your-turn"], ["nearly-your-turn"]]
