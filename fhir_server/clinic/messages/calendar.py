"""An appointment as an entry for calendars, that a message carries. https://www.rfc-editor.org/rfc/rfc5545, https://www.rfc-editor.org/rfc/rfc5546"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Final, Literal
from urllib.parse import urlsplit

from icalendar import Calendar, Event, vCalAddress, vText

from fhir_server.settings import CANON

Method = Literal["REQUEST", "CANCEL"]
_HOST: Final = urlsplit(CANON).hostname or ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An appointment of an id, at its `version`: that goes up with each change, as SEQUENCE has to. `status` is TENTATIVE, CONFIRMED or CANCELLED.

    `organizer` is the sender of the mail, an address with a name or without.
    """

    appointment: str
    version: int
    start: datetime
    end: datetime
    status: Literal["TENTATIVE", "CONFIRMED", "CANCELLED"]
    summary: str
    url: str
    organizer: str
    attendee: str
    at: datetime

    @property
    def method(self) -> Method:
        """What calendars are asked to do."""
        return "CANCEL" if self.status == "CANCELLED" else "REQUEST"

    def text(self) -> str:
        """The entry as a text/calendar part. Its UID stays the same as long as the appointment is there."""
        calendar = Calendar()
        calendar.add("prodid", "-//clinic-fhir//fhir-server//EN")
        calendar.add("version", "2.0")
        calendar.add("method", self.method)
        event = Event()
        event.add("uid", f"{self.appointment}@{_HOST}")
        event.add("sequence", self.version)
        event.add("dtstamp", self.at.astimezone(UTC))
        event.add("dtstart", self.start.astimezone(UTC))
        event.add("dtend", self.end.astimezone(UTC))
        event.add("summary", self.summary)
        event.add("status", self.status)
        event.add("class", "PRIVATE")
        event.add("transp", "TRANSPARENT" if self.status == "CANCELLED" else "OPAQUE")
        if self.url:
            event.add("url", self.url)
        name, address = parseaddr(self.organizer)
        organizer = vCalAddress(f"mailto:{address}")
        if name:
            organizer.params["cn"] = vText(name)
        event.add("organizer", organizer)
        attendee = vCalAddress(f"mailto:{self.attendee}")
        attendee.params["rsvp"] = vText("FALSE")
        event.add("attendee", attendee)
        calendar.add_component(event)
        return str(calendar.to_ical().decode())
