"""Who came when, and how long they waited."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from fhir_server.clinic.queue.order import DEFAULTS, ZONES

from .names import names
from .report import Column, Desk, Report, Row, minutes, share

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PLACE: Final = (Column("location", "text", "The id of the Location; null where the Encounter names none."), Column("name", "text", "Its name."))
_WAITS: Final = """
WITH d AS (SELECT * FROM unnest(%(zones)s::text[], %(targets)s::int[], %(maxima)s::int[]) AS d(zone, target, maximum)),
v AS (
    SELECT v.location, v.zone, v.went, extract(epoch FROM v.seen - v.arrived)::float8 AS waited, coalesce(q.target, d.target) * 60 AS target,
        coalesce(q.maximum, d.maximum) * 60 AS maximum
    FROM visit_time v LEFT JOIN d ON d.zone = v.zone LEFT JOIN queue_setting q ON q.location = v.location AND q.zone = v.zone
    WHERE v.arrived >= %(lo)s AND v.arrived < %(hi)s AND (%(location)s::text IS NULL OR v.location = %(location)s))
SELECT grouping(location) AS whole, location, zone, count(*), count(waited), count(*) FILTER (WHERE went),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY waited), percentile_cont(0.9) WITHIN GROUP (ORDER BY waited), max(waited),
    min(target) / 60, max(target) / 60, count(*) FILTER (WHERE waited <= target), count(*) FILTER (WHERE waited >= maximum), count(target + waited)
FROM v GROUP BY GROUPING SETS ((location, zone), (zone)) ORDER BY whole, location, array_position(%(order)s::text[], zone), zone
"""
_ARRIVALS: Final = """
SELECT extract(isodow FROM at)::int, extract(hour FROM at)::int, count(*)
FROM (SELECT date_trunc('hour', v.arrived AT TIME ZONE %(zone)s) AS at FROM visit_time v
    WHERE v.arrived >= %(lo)s AND v.arrived < %(hi)s AND (%(location)s::text IS NULL OR v.location = %(location)s)) AS v
GROUP BY 1, 2 ORDER BY 1, 2
"""


def _waits(desk: Desk) -> tuple[list[Row], list[Row]]:
    usual = {"zones": list(DEFAULTS), "targets": [each.target for each in DEFAULTS.values()], "maxima": [each.maximum for each in DEFAULTS.values()]}
    found = desk.rows(_WAITS, {**desk.arguments, **usual, "order": list(ZONES)})
    known = names(desk, {f"Location/{row[1]}" for row in found if row[1]})
    made: tuple[list[Row], list[Row]] = ([], [])
    for whole, location, zone, came, seen, went, median, ninetieth, longest, low, high, within, over, measured in found:
        place = (None, None) if whole else (location or None, known.get(f"Location/{location}"))
        target = low if low == high else None
        waits = (minutes(median), minutes(ninetieth), minutes(longest), target, share(within, measured), share(over, measured))
        made[whole].append((*place, zone or None, came, seen, went, *waits))
    return made


def _arrivals(desk: Desk) -> tuple[list[Row], list[Row]]:
    first, last = desk.asked.first, desk.asked.last
    days = [0] * len(_WEEKDAYS)
    for n in range((last - first).days + 1):
        days[(first + timedelta(days=n)).weekday()] += 1
    found = desk.rows(_ARRIVALS)
    rows: list[Row] = [(_WEEKDAYS[day - 1], hour, count, days[day - 1], round(count / days[day - 1], 2)) for day, hour, count in found]
    whole = sum(count for _, _, count in found)
    return rows, [(None, None, whole, sum(days), round(whole / sum(days), 2))]


_COUNTED: Final = (
    " Somebody has come when the first arrived or triaged period of Encounter.statusHistory starts; while they wait, when the first of its"
    " Encounter.location periods starts, or else Encounter.period. Encounters without such a time, planned ones and those entered in error are"
    " not counted. The Location is that of the first Encounter.location."
)
WAITS: Final = Report(
    "waits",
    "Waits by zone",
    "How long those who came on these days waited until they were seen, by Location and by the zone in the extension queue-priority. They were"
    " seen when the first in-progress period of Encounter.statusHistory starts, or, where the status is in-progress, onleave or finished and"
    f" there is none, when the last arrived or triaged period ends; a time before they came is none.{_COUNTED}"
    " Target and maximum are those of the queue at the Location;"
    " emergencies have none.",
    (
        *_PLACE,
        Column("zone", "text", "The zone; null where the Encounter has none."),
        Column("came", "count", "Who came."),
        Column("seen", "count", "Who was seen."),
        Column("left", "count", "Who was not: the Encounter is cancelled."),
        Column("median", "minutes", "What half of those who were seen waited at most."),
        Column("ninetieth", "minutes", "What nine of ten of them waited at most."),
        Column("longest", "minutes", "The longest wait."),
        Column("target", "number", "Minutes that one should wait at most; null where there is none, or where places differ."),
        Column("within_target", "share", "Those of them who waited so long at most."),
        Column("over_maximum", "share", "Those of them who waited for the maximum or longer."),
    ),
    _waits,
    filters=("location",),
)
ARRIVALS: Final = Report(
    "arrivals",
    "Arrivals by hour",
    f"Encounters by the hour at which somebody came, and its day of the week, in the clinic's zone.{_COUNTED}",
    (
        Column("weekday", "text", "monday to sunday."),
        Column("hour", "number", "0 to 23, of the clinic's clocks: when these go back, one hour is there twice."),
        Column("arrivals", "count", "Who came then."),
        Column("days", "count", "How many of such days there are in the time."),
        Column("mean", "number", "Arrivals on one of these days."),
    ),
    _arrivals,
    filters=("location",),
)
