"""From changes to planned messages, in the transaction that strikes the changes off the outbox: each change becomes its messages once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from weakref import ref
from zoneinfo import ZoneInfo

from fhir_server import fhirjson
from fhir_server.access.accounts.notifications import Choice, Choices
from fhir_server.access.roles import role_scopes
from fhir_server.clinic.acting import resource_of
from fhir_server.clinic.scheduling.booking import OFFERED_BY
from fhir_server.search import SYSTEM, Query, Registry, compile_search, matches
from fhir_server.store import Snapshot, Store
from fhir_server.store.database import Connection
from fhir_server.store.ops import Version
from fhir_server.store.outbox import Change

from . import events, rows
from .events import ENDING, Json
from .recipients import is_alive, recipient
from .rows import New
from .rules import Rules, rules_of

CONSUMER: Final = "messages"
"""Under this name changes are listened to; the migration says of which types."""

AFFECTED: Final = 1_000
"""Appointments that one absence is told to."""
_NEWS: Final = timedelta(days=7)  # So long a message is of use that has no appointment's time.


@dataclass(frozen=True, slots=True)
class _Told:
    """An event for a patient, before it is known by which ways they are told: not before `due`, of what happened at `since`."""

    event: str
    focus: str
    about: str
    occurrence: str
    patient: str
    since: datetime
    due: datetime
    expires: datetime
    start: datetime | None = None
    details: Mapping[str, str | bool] | None = None


class Planner:
    """Plans messages. Safe to share between threads."""

    def __init__(self, store: Store, choices: Choices, zone: ZoneInfo) -> None:
        """`zone` is the clinic's."""
        self._store = store
        self._choices = choices
        self._zone = zone
        self._released: tuple[Callable[[], Registry | None], list[Query]] = (lambda: None, [])

    def hear(self, connection: Connection, changes: Sequence[Change]) -> bool:
        """Plans what some changes mean, and takes back what they make void; whether there was something. About eight statements for all of them."""
        now, rules = self._store.clock(), rules_of(self._store, connection)
        with self._store.latest(SYSTEM) as db:
            found = db.versions([(each.type, each.resource, number) for each in changes for number in (each.version, each.version - 1) if number > 0])
            selves = self._choices.patients_of(connection, (each.actor for each in changes))
            told, void = self._gathered(db, changes, found, selves, rules)
            patients = {each.id: resource_of(each) for each in db.read_many([("Patient", name) for name in {one.patient for one in told}])}
        rows.void(connection, sorted(void), now)
        choices = self._choices.of(connection, patients)
        planned = list(self._planned(told, patients, choices, rules, now))
        rows.plan(connection, planned, now)
        return bool(planned or void)

    def _gathered(
        self, db: Snapshot, changes: Sequence[Change], found: Mapping[Any, Version], selves: Mapping[str, str], rules: Rules
    ) -> tuple[list[_Told], set[str]]:
        told: list[_Told] = []
        void: set[str] = set()
        for change in changes:
            now, before = (resource_of(found.get((change.type, change.resource, number))) for number in (change.version, change.version - 1))
            if change.type == "Appointment":
                patient = events.patient_of(now) or events.patient_of(before)
                by_patient = patient is not None and (selves.get(change.actor) == patient or change.actor == "role/patient")
                listed = change.actor == OFFERED_BY
                heard = events.of_appointment(now, before, self._zone, change.at, by_patient=by_patient, by_waiting_list=listed)
                if heard.void:
                    focus = f"Appointment/{change.resource}"
                    void.add(focus)
                    told = [each for each in told if each.focus != focus]
                if patient is not None and heard.event is not None:
                    told += self._appointment(change, heard.event, patient, now, before, rules)
            elif change.type == "PractitionerRole":
                told += self._leave(db, change, now, before)
            else:
                told += self._ready(change, now, before)
        return [each for each in told if each.event not in rules.silent], void

    def _appointment(self, change: Change, event: str, patient: str, now: Json | None, before: Json | None, rules: Rules) -> Iterator[_Told]:
        start = events.start_of(before if event in ENDING else now, self._zone)
        assert start is not None
        focus = f"Appointment/{change.resource}"
        details: dict[str, str | bool] = {"pending": (now or {}).get("status") == "pending"}
        if event == "moved" and (old := events.start_of(before, self._zone)) is not None:
            details["old"] = old.isoformat()
        until = events.held_until(now, self._zone) if event == "offered" and now is not None else None
        if until is not None:
            details["until"] = until.isoformat()
        # What an operator loads is no news to anybody.
        if not (event == "booked" and change.kind == "create" and change.actor == SYSTEM.actor):
            yield _Told(event, focus, focus, str(change.version), patient, change.at, change.at, until or start, start, details)
        # One that was asked for is reminded of as well, in case it is validated late. Whether it still stands is asked when the reminder leaves.
        for minutes in rules.reminders if event in ("booked", "moved") else ():
            due = start - timedelta(minutes=minutes)
            if due > change.at:
                yield _Told("reminder", focus, focus, f"{minutes} {change.version}", patient, change.at, due, start, start)

    def _ready(self, change: Change, now: Json | None, before: Json | None) -> Iterator[_Told]:
        focus = f"{change.type}/{change.resource}"
        patient = events.patient_of(now)
        if patient is None or now is None:
            return
        if change.type == "MedicationRequest" and (event := events.of_prescription(now, before)):
            yield _Told(event, focus, events.slip_of(now, focus), "", patient, change.at, change.at, change.at + _NEWS)
        if change.type == "DiagnosticReport" and (event := events.of_report(now, before, self.is_released)):
            yield _Told(event, focus, focus, str(now.get("status")), patient, change.at, change.at, change.at + _NEWS)

    def is_released(self, report: Json) -> bool:
        """Whether the role of patients opens a result to the one whose it is."""
        registry = self._store.registry
        known, queries = self._released
        if known() is not registry:
            # The first, or search parameters have come or gone; those of before are let go of.
            queries = _released(registry)
            self._released = ref(registry), queries
        return any(matches(query, report, registry) for query in queries)

    def _leave(self, db: Snapshot, change: Change, now: Json | None, before: Json | None) -> Iterator[_Told]:
        """Those whose appointments a new absence is about."""
        if now is None or now.get("active") is False:
            return
        old = events.absences(before, self._zone)
        for lo, hi in events.absences(now, self._zone):
            if (lo, hi) in old or hi <= change.at:
                continue
            for appointment in self._affected(db, change, now, max(lo, change.at), hi):
                patient, start = events.patient_of(appointment), events.start_of(appointment, self._zone)
                if patient is not None and start is not None and start > change.at and events.standing(appointment) is not None:
                    focus = f"Appointment/{appointment['id']}"
                    yield _Told("leave", focus, focus, f"{lo.isoformat()} {hi.isoformat()}", patient, change.at, change.at, start, start)

    def _affected(self, db: Snapshot, change: Change, role: Json, lo: datetime, hi: datetime) -> Iterator[Json]:
        """The appointments of a role, or of who has it, but for those that name another role of theirs."""
        registry, own = self._store.registry, f"PractitionerRole/{change.resource}"
        actors = ",".join(filter(None, (own, str(role.get("practitioner", {}).get("reference", "")))))
        span = [("date", f"ge{lo.isoformat()}"), ("date", f"lt{hi.isoformat()}")]
        criteria = [("actor", actors), ("status", "pending,booked"), *span, ("_count", str(AFFECTED))]
        for row in db.select(compile_search(registry.parse("Appointment", criteria, strict=True), registry, SYSTEM))[:AFFECTED]:
            appointment: Json = fhirjson.loads(db.body_of(row))
            roles = {str(each.get("actor", {}).get("reference", "")) for each in appointment.get("participant", ())}
            roles = {each for each in roles if each.startswith("PractitionerRole/")}
            if not roles or own in roles:
                yield appointment

    def _planned(
        self, told: Iterable[_Told], patients: Mapping[str, Json | None], choices: Mapping[str, Choice], rules: Rules, now: datetime
    ) -> Iterator[New]:
        reminded: set[tuple[str, str, datetime]] = set()
        for each in told:
            patient = patients.get(each.patient)
            if patient is None or not is_alive(patient):
                continue
            reached = recipient(patient, choices[each.patient], now, self._zone)
            if not reached.channels and each.event not in events.OF_THE_RECORD | {"reminder"}:
                yield _new(each, "email", now, "no-address" if reached.welcome else "not-wanted")
            for channel in reached.channels:
                # A version's time may be a little ahead of the clock.
                wished = each.due if each.event == "reminder" else min(each.due, now)
                due = rules.allowed(each.event, channel, wished, each.start, self._zone)
                if each.event != "reminder":
                    # Only quiet hours put it before what it tells of: there is no time left after them.
                    yield _new(each, channel, max(due, wished), "quiet-hours" if due < wished else None)
                elif due > each.since and (each.focus, channel, due) not in reminded:
                    # Two that quiet hours have put at one time are one.
                    reminded.add((each.focus, channel, due))
                    yield _new(each, channel, due)


def _released(registry: Registry) -> list[Query]:
    """The searches for results that the role of patients opens; a result that fits one is released."""
    found = [scope.query for scope in role_scopes("patient", None, "any") if scope.opens("DiagnosticReport", "r")]
    pairs = [[(name, value) for name, _, value in (part.partition("=") for part in text.split("&")) if name] for text in found]
    return [registry.parse("DiagnosticReport", each, strict=True) for each in pairs]


def _new(told: _Told, channel: events.Channel, due: datetime, reason: str | None = None) -> New:
    return New(told.event, told.focus, told.about, told.occurrence, channel, told.patient, due, told.expires, told.start, told.details, reason)
