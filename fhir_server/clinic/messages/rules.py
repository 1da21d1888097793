"""How people are told, as administrators decide: what the clinic is called, its language, when reminders go out, and when nothing may ring."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from fhir_server.access.policy import Policy
from fhir_server.clinic import ruling
from fhir_server.outcome import Outcome
from fhir_server.store import Store
from fhir_server.store.database import Connection

from .events import AT_ONCE, EVENTS, Channel

_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?", re.ASCII)
_MOST: Final = 5
_LONGEST: Final = 60 * 24 * 60  # Minutes: two months.
_IN_TIME: Final = timedelta(minutes=30)


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules. `reminders` are minutes before an appointment.

    From `quiet_from` to `quiet_to`, by the clinic's clock, no reminder leaves, and no SMS but those that say at once what became of an
    appointment, or are for people in the clinic. Both are None where there are no such hours. Of the events in `silent` nobody is told.
    """

    clinic: str = ""
    language: str = "en"
    reminders: tuple[int, ...] = (48 * 60, 3 * 60)
    quiet_from: str | None = "21:00"
    quiet_to: str | None = "08:00"
    silent: tuple[str, ...] = ()

    def checked(self) -> Rules:
        """The rules themselves. Raises Outcome `invalid` for what cannot be."""
        if not _LANGUAGE.fullmatch(self.language):
            raise Outcome("invalid", "A language is as en or de-AT", expression="language")
        if len(self.reminders) > _MOST or any(not 1 <= each <= _LONGEST for each in self.reminders):
            raise Outcome("invalid", f"Up to {_MOST} reminders, each 1 to {_LONGEST} minutes before", expression="reminders")
        if not set(self.silent) <= set(EVENTS):
            raise Outcome("invalid", f"Events are {', '.join(EVENTS)}", expression="silent")
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise Outcome("invalid", "Quiet hours have a beginning and an end, or neither", expression="quiet_from")
        for name, value in (("quiet_from", self.quiet_from), ("quiet_to", self.quiet_to)):
            if value is not None and not _CLOCK.fullmatch(value):
                raise Outcome("invalid", "A time of day is as 21:00", expression=name)
        return self

    def allowed(self, event: str, channel: Channel, due: datetime, start: datetime | None, zone: ZoneInfo) -> datetime:
        """When a message that is due may leave: then, or after quiet hours, or before them where that would be too late for its appointment."""
        quiet = self.quiet_at(due, zone) if event not in AT_ONCE and (channel == "sms" or event == "reminder") else None
        if quiet is None:
            return due
        begin, end = quiet
        return begin if start is not None and end > start - _IN_TIME else end

    def quiet_at(self, at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """Beginning and end of the quiet hours that a moment is in; None where it is in none."""
        if self.quiet_from is None or self.quiet_to is None or self.quiet_from == self.quiet_to:
            return None
        today = at.astimezone(zone).date()
        for day in (today - timedelta(days=1), today):
            later = day + timedelta(days=1) if self.quiet_to < self.quiet_from else day
            begin = datetime.combine(day, time.fromisoformat(self.quiet_from), zone).astimezone(UTC)
            end = datetime.combine(later, time.fromisoformat(self.quiet_to), zone).astimezone(UTC)
            if begin <= at < end:
                return begin, end
        return None


def rules_of(store: Store, connection: Connection) -> Rules:
    """The rules that count now."""
    return ruling.read(Rules, Policy(store).messages(connection))


def set_rules(store: Store, connection: Connection, changes: dict[str, Any], by: str) -> Rules:
    """The rules with some of them changed, within the caller's transaction. Raises Outcome `invalid`."""
    found = ruling.changed(rules_of(store, connection), changes)
    Policy(store).set_messages(ruling.kept(found), by, connection)
    return found
