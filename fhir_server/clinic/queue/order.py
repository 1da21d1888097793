"""Who is next. Pure: times come in, a list goes out.

Emergencies first, by when they became one. All others by how much of their target they have waited, so that whoever waits longer moves up whatever
the zone, and whoever has passed the maximum before those who have not. Why so: docs/decisions/0030-the-queue.md
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

EMERGENCY: Final = "emergency"
ZONES: Final = (EMERGENCY, "follow-up", "regular")
"""From the most urgent on."""
SKIPPED_FOR: Final = timedelta(minutes=10)
"""How long whoever did not answer is behind those who are there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Minutes of a zone: what one should wait at most, and what passes for too long. The emergency zone has neither."""

    target: int
    maximum: int


DEFAULTS: Final[Mapping[str, Limits]] = {"follow-up": Limits(30, 60), "regular": Limits(60, 120)}


class Waiting(Protocol):
    """Somebody who waits. Waiting counts from `credit`; `assigned` is when the zone was given; `skipped` when nobody answered the call."""

    @property
    def zone(self) -> str: ...  # noqa: D102 - the class says what they are
    @property
    def assigned(self) -> datetime: ...  # noqa: D102
    @property
    def credit(self) -> datetime: ...  # noqa: D102
    @property
    def token(self) -> int: ...  # noqa: D102
    @property
    def skipped(self) -> datetime | None: ...  # noqa: D102


_T = TypeVar("_T", bound=Waiting)


def waited(each: Waiting, now: datetime) -> float:
    """Minutes that count; none before the time of an appointment."""
    return max(0.0, (now - each.credit).total_seconds() / 60)


def is_over(each: Waiting, now: datetime, limits: Mapping[str, Limits]) -> bool:
    """Whether somebody has waited for too long."""
    return each.zone != EMERGENCY and waited(each, now) >= limits[each.zone].maximum


def rank(zone: str) -> int:
    """0 for the most urgent zone."""
    return ZONES.index(zone)


def key(each: Waiting, now: datetime, limits: Mapping[str, Limits]) -> tuple[float, ...]:
    """What the order is by: the smallest is next."""
    absent = each.skipped is not None and now < each.skipped + SKIPPED_FOR
    if each.zone == EMERGENCY:
        return (0, absent, each.assigned.timestamp(), each.credit.timestamp(), each.token)
    share = waited(each, now) / limits[each.zone].target
    return (1, absent, not is_over(each, now, limits), -share, each.credit.timestamp(), each.token)


def in_order(those: Iterable[_T], now: datetime, limits: Mapping[str, Limits]) -> list[_T]:
    """Those who wait, the next one first. 500 take a millisecond."""
    return sorted(those, key=lambda each: key(each, now, limits))


def credit(arrival: datetime, start: datetime | None) -> datetime:
    """From when on waiting counts: the time of the appointment, or the arrival where that is later or there is no appointment."""
    return arrival if start is None else max(arrival, start)


def estimate(ahead: int, minutes: float, rooms: int) -> int:
    """Minutes until somebody is called who has so many ahead, where a visit takes so many minutes in each of the rooms at work."""
    return math.ceil(ahead * minutes / max(rooms, 1))
