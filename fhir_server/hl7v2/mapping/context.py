"""What a conversion knows besides the segment at hand, and what it learns on its way: warnings, and resources that values make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from fhir_server.hl7v2.text.faults import Fault
from fhir_server.hl7v2.text.message import Segment

Json = dict[str, Any]
ANYWHERE: Final = "*"
"""For the name of an element: any of them."""
_LATEST: Final = 20
_MOST: Final = 1_000
"""Faults that are told of one message, but for those for which it is refused."""


@dataclass(slots=True)
class Context:
    """One message on its way to FHIR.

    `facility` is who sends: the facility, else the application; `dialect` is how they write: separators and character set. `zone` places times
    without an offset. `make` takes a resource that a value describes, a Practitioner for one, and gives the reference to it.
    `segment` and `field` say where the conversion is, for what `warn` reports; `nulls` are the elements of the present resource which the message
    says to be without a value, `open` those that are not what they will be, see Made. `reports` counts what was reported, told before or not, and
    what is right for this message alone: all that a value has led to besides what became of it. `known` are values that were converted before;
    `sender` stands for all that codes depend on besides their text.
    """

    facility: str
    dialect: str
    zone: ZoneInfo
    make: Callable[[Json], Json]
    faults: list[Fault] = field(default_factory=list)
    nulls: set[tuple[str, ...]] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    known: dict[tuple[object, ...], Any] = field(default_factory=dict)
    segment: Segment | None = None
    reports: int = 0
    sender: str = field(init=False)
    field: int | None = None

    def __post_init__(self) -> None:
        """Puts together what stands for the sender."""
        self.sender = f"{self.dialect}\0{self.facility}"

    def leave_open(self, name: str) -> None:
        """Notes that an element is not what it will be; of a value, which is right for this message alone, none that is known by name."""
        self.reports += 1
        self.open.add(name)

    def warn(self, code: str, text: str) -> None:
        """Reports what could not be taken over at the present place; the message goes on without it."""
        self._report(code, text, "W")

    def refuse(self, code: str, text: str) -> None:
        """Reports what makes the message one that cannot be accepted."""
        self._report(code, text, "E")

    def inform(self, code: str, text: str) -> None:
        """Reports what was left out on purpose."""
        self._report(code, text, "I")

    def _report(self, code: str, text: str, severity: Literal["E", "W", "I"]) -> None:
        self.reports += 1
        segment = self.segment
        fault = Fault(
            code=code,
            text=text,
            segment=segment.name if segment is not None else "",
            sequence=segment.sequence if segment is not None else 1,
            field=self.field or None,
            severity=severity,
        )
        if len(self.faults) >= _MOST and severity != "E":
            return
        # A field that several elements are made of is at fault once.
        if fault not in self.faults[-_LATEST:]:
            self.faults.append(fault)
