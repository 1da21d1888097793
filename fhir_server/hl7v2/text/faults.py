"""What is said to a sender about its message: a fault has a code of HL7 table 0357 and, where there is one, a place.

https://terminology.hl7.org/CodeSystem-v2-0357.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["E", "W", "I"]

CONDITIONS: Final[dict[str, str]] = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "104": "Value too long",
    "198": "Non-Conformant Cardinality",
    "199": "Other HL7 Error",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application error",
}
"""The codes of the table and what it calls them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault or notice; it goes to the sender, so its texts never hold what stands in the message.

    `segment`, `sequence` (among those of its name), `field`, `repetition` and `component` say where, counted from 1. `severity` is E (the message
    is refused for it), W or I. `text` is for people, `diagnostic` for who mends the sender, `application` a code of ours that programs may look for.
    """

    code: str
    text: str
    segment: str = ""
    sequence: int = 1
    field: int | None = None
    repetition: int | None = None
    component: int | None = None
    severity: Severity = "E"
    diagnostic: str = ""
    application: str = ""

    @property
    def place(self) -> tuple[str, ...]:
        """The components of an ERL that it fills: segment, sequence, field, repetition, component; none where no segment is at fault."""
        if not self.segment:
            return ()
        parts: list[str] = [self.segment, str(self.sequence)]
        for number in (self.field, self.repetition or (1 if self.component else None), self.component):
            if number is None:
                break
            parts.append(str(number))
        return tuple(parts)
