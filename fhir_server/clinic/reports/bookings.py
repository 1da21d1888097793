"""How much of what is offered is booked, and who does not come."""

from __future__ import annotations

from typing import Any, Final

from .names import ROLES, names, role_arguments
from .report import Column, Desk, Report, Row, share

_HEADS: Final = {
    "schedule": "s.schedule",
    "day": "(lower(s.during) AT TIME ZONE %(zone)s)::date",
    "practitioner": "coalesce(roles.doctor, CASE WHEN p.type = %(roles)s THEN 'PractitionerRole/' ELSE 'Practitioner/' END || p.id, '')",
    "service": "coalesce(y.url || '|', '') || coalesce(v.code, '')",
}
_OFFERED: Final = """
SELECT grouping({first}) AS whole, {groups}, count(*), sum(length), coalesce(sum(length) FILTER (WHERE status <> 'free'), 0)
FROM (
    SELECT {heads}, s.status, (extract(epoch FROM upper(s.during) - lower(s.during)) / 60)::numeric AS length FROM slot_time s
    WHERE s.during && tstzrange(%(lo)s, %(hi)s) AND lower(s.during) >= %(lo)s AND lower(s.during) < %(hi)s
        AND s.status IN ('free', 'busy', 'busy-tentative')
        AND (%(practitioner)s::text IS NULL
            OR EXISTS (SELECT FROM schedule_actor a WHERE a.schedule = s.schedule AND a.actor = 'Practitioner/' || %(practitioner)s))
        AND (%(location)s::text IS NULL
            OR EXISTS (SELECT FROM schedule_actor a WHERE a.schedule = s.schedule AND a.actor = 'Location/' || %(location)s))) AS s
GROUP BY GROUPING SETS (({groups}), ()) ORDER BY whole, {groups}
"""
_OWNERS: Final = "SELECT schedule, min(actor) FROM schedule_actor WHERE schedule = ANY(%s) AND actor LIKE 'Practitioner/%%' GROUP BY schedule"
_KEPT: Final = """
WITH {roles},
a AS MATERIALIZED (
    SELECT DISTINCT d.rid, t.code AS status FROM sp_date d JOIN sp_token t ON t.rid = d.rid AND t.pid = %(status)s
    WHERE d.pid = %(date)s AND d.lo >= %(lo)s AND d.lo < %(hi)s AND t.code NOT IN ('entered-in-error', 'waitlist')),
e AS MATERIALIZED (
    SELECT DISTINCT {head} AS head, a.rid, a.status FROM a {joined}
    WHERE (%(practitioner)s::text IS NULL OR EXISTS (
        SELECT FROM sp_reference o LEFT JOIN roles x ON o.type = %(roles)s AND x.role = 'PractitionerRole/' || o.id
        WHERE o.rid = a.rid AND o.pid = ANY(%(actor)s::smallint[]) AND o.type IN (%(practitioners)s, %(roles)s)
            AND CASE WHEN o.type = %(roles)s THEN x.doctor ELSE 'Practitioner/' || o.id END = 'Practitioner/' || %(practitioner)s)))
SELECT head, count(*), count(*) FILTER (WHERE status IN ('arrived', 'checked-in', 'fulfilled')), count(*) FILTER (WHERE status = 'noshow'),
    count(*) FILTER (WHERE status = 'cancelled'), count(*) FILTER (WHERE status IN ('proposed', 'pending', 'booked'))
FROM e GROUP BY head ORDER BY head
"""
_JOINED: Final = {
    "practitioner": """
LEFT JOIN sp_reference p ON p.rid = a.rid AND p.pid = ANY(%(actor)s::smallint[]) AND p.type IN (%(practitioners)s, %(roles)s)
LEFT JOIN roles ON p.type = %(roles)s AND roles.role = 'PractitionerRole/' || p.id
""",
    "service": "LEFT JOIN sp_token v ON v.rid = a.rid AND v.pid = %(service_type)s AND v.code <> '' LEFT JOIN token_system y ON y.sid = v.system",
}


def _utilisation(desk: Desk) -> tuple[list[Row], list[Row]]:
    groups = ", ".join(desk.by)
    heads = ", ".join(f"{_HEADS[each]} AS {each}" for each in desk.by)
    found = desk.rows(_OFFERED.format(first=desk.by[0], groups=groups, heads=heads))
    made: tuple[list[Row], list[Row]] = ([], [])
    owners = _owners(desk, {row[1 + desk.by.index("schedule")] for row in found} if "schedule" in desk.by else set())
    for whole, *cells in found:
        head: list[Any] = []
        for group, value in zip(desk.by, cells, strict=False):
            head += [value, owners.get(value)] if group == "schedule" else [value.isoformat() if value is not None else None]
        slots, offered, booked = cells[len(desk.by) :]
        if slots:
            rate = round(float(booked / offered), 4) if offered else None
            made[whole].append((*head, slots, round(float(offered), 1), round(float(booked), 1), rate))
    return made


def _owners(desk: Desk, schedules: set[Any]) -> dict[Any, str | None]:
    """Whose Schedules these are, by name."""
    wanted = sorted(each for each in schedules if each is not None)
    whose: dict[str, str] = dict(desk.connection.execute(_OWNERS, (wanted,)).fetchall()) if wanted else {}
    known = names(desk, whose.values())
    return {schedule: known[doctor] for schedule, doctor in whose.items()}


def _no_shows(desk: Desk) -> tuple[list[Row], list[Row]]:
    params = desk.registry.supported_params("Appointment")
    numbers = {name: params[code].pid for name, code in (("date", "date"), ("status", "status"), ("service_type", "service-type"))}
    arguments = {**desk.arguments, **role_arguments(desk), **numbers, "actor": list(params["actor"].pids)}
    (group,) = desk.by
    found = desk.rows(_KEPT.format(roles=ROLES, head=_HEADS[group], joined=_JOINED[group]), arguments)
    totals = desk.rows(_KEPT.format(roles=ROLES, head="NULL::text", joined=""), arguments)
    known = names(desk, (row[0] for row in found) if group == "practitioner" else ())
    whose = desk.asked.filters.get("practitioner")
    rows = [
        (row[0] or None, *((known[row[0]],) if group == "practitioner" else ()), *_kept(row[1:]))
        for row in found
        if whose is None or group != "practitioner" or row[0] == f"Practitioner/{whose}"
    ]
    return rows, [((None,) * (2 if group == "practitioner" else 1) + _kept(row[1:])) for row in totals]


def _kept(counts: tuple[Any, ...]) -> Row:
    whole, kept, missed, cancelled, open_ = counts
    return (whole, kept, missed, cancelled, open_, share(missed, kept + missed))


UTILISATION: Final = Report(
    "utilisation",
    "Utilisation",
    "Minutes of Slots that are booked, of those that are offered, by Slot.schedule and the day of Slot.start in the clinic's zone. Offered are"
    " Slots whose status is free, busy or busy-tentative; booked are those that are busy or busy-tentative. Slots that overlap count each.",
    (
        Column("schedule", "text", "The id of the Schedule.", optional=True),
        Column("name", "text", "The name of the Practitioner whose it is.", optional=True),
        Column("day", "date", "The day.", optional=True),
        Column("slots", "count", "Slots that are offered."),
        Column("offered", "minutes", "Minutes of these."),
        Column("booked", "minutes", "Minutes of those that are booked."),
        Column("share", "share", "Booked of offered."),
    ),
    _utilisation,
    groups=("schedule", "day"),
    usual=("schedule", "day"),
    together=2,
    filters=("practitioner", "location"),
    of_group={"schedule": ("schedule", "name"), "day": ("day",)},
)
NO_SHOWS: Final = Report(
    "no-shows",
    "No-show rate",
    "Appointments by the day of Appointment.start in the clinic's zone: those with the status noshow, of these and those that were kept"
    " (arrived, checked-in or fulfilled). Appointments that are waitlist or entered-in-error are not counted. The practitioner is each"
    " participant.actor that is a Practitioner, or the practitioner of a PractitionerRole; the service is each coding of serviceType, as"
    " system|code in small letters. An Appointment of several counts for each of them, and once in the totals.",
    (
        Column("practitioner", "text", "The reference of the Practitioner; null without one.", optional=True),
        Column("name", "text", "The practitioner's name.", optional=True),
        Column("service", "text", "The service, as system|code; null without one.", optional=True),
        Column("appointments", "count", "Appointments."),
        Column("kept", "count", "Those that were kept."),
        Column("missed", "count", "Those with the status noshow."),
        Column("cancelled", "count", "Those that were called off."),
        Column("open", "count", "Those that are proposed, pending or booked."),
        Column("rate", "share", "Missed, of kept and missed."),
    ),
    _no_shows,
    groups=("practitioner", "service"),
    usual=("practitioner",),
    together=1,
    filters=("practitioner",),
    of_group={"practitioner": ("practitioner", "name"), "service": ("service",)},
)
