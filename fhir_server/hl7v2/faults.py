"""What is wrong with a message, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `code` is of HL7 table 0357; `text` never has a word of what stands in the message. `severity` E refuses the message."""

    code: str
    text: str
    segment: str = ""
    sequence: int = 1
    field: int | None = None
    repetition: int | None = None
    component: int | None = None
    severity: Literal["E", "W", "I"] = "E"
    diagnostic: str = ""
