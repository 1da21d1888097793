"""What a report is: its name, what each figure means, what can be asked for, and a function that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from fhir_server.clinic.billing.money import rounded
from fhir_server.outcome import Outcome
from fhir_server.search import Registry
from fhir_server.store.database import Connection

MOST_DAYS: Final = 1_096
"""Days that a report is about at the most: three years."""
USUAL_DAYS: Final = timedelta(days=29)
"""From the first day to the last where no first one is asked for."""
MOST_ROWS: Final = 20_000
_SECONDS: Final = 60

Kind = Literal["text", "date", "count", "money", "minutes", "share", "number"]
Filter = Literal["practitioner", "location", "currency", "category"]
Value = str | int | float | None
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `text` says what it means. Money is a text with all digits of its currency; a share is a number from 0 to 1; minutes have one digit.

    One that not every way of grouping has is `optional`.
    """

    name: str
    kind: Kind
    text: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: days of the clinic's zone, both included; ids that narrow it; what it is grouped by, None for the usual."""

    first: date
    last: date
    by: tuple[str, ...] | None = None
    filters: Mapping[Filter, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A report: its rows, sorted, and what they come to together; None where a column does not apply. In the order of the columns."""

    columns: tuple[Column, ...]
    rows: list[Row]
    totals: list[Row]


@dataclass(frozen=True, slots=True)
class Desk:
    """What a report is made with: a read-only transaction of one moment, `now`."""

    connection: Connection
    registry: Registry
    asked: Asked
    by: tuple[str, ...]
    now: datetime

    @property
    def zone(self) -> ZoneInfo:
        """The clinic's."""
        return self.registry.zone

    @property
    def arguments(self) -> dict[str, Any]:
        """What statements ask for by name: days, moments from the first day's beginning to the last one's end, and filters, None for none."""
        lo, hi = (midnight(day, self.zone) for day in (self.asked.first, self.asked.last + timedelta(days=1)))
        wanted = self.asked.filters
        narrowed = {name: wanted.get(name) for name in ("practitioner", "location", "currency", "category")}
        return {"first": self.asked.first, "last": self.asked.last, "lo": lo, "hi": hi, "zone": self.zone.key, **narrowed}

    def rows(self, statement: str, arguments: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a statement. Raises Outcome `too-costly` for more than MOST_ROWS."""
        given = arguments if arguments is not None else self.arguments
        found = self.connection.execute(f"{statement} LIMIT {MOST_ROWS + 1}", given).fetchall()
        if len(found) > MOST_ROWS:
            raise Outcome("too-costly", f"The report has more than {MOST_ROWS:,} rows; ask for a shorter time, or group by less")
        return found


@dataclass(frozen=True, slots=True)
class Report:
    """A report. `meaning` says what it counts, in resources and elements of FHIR.

    `groups` are what its rows can be told apart by, so many `together` at the most, and `usual` what they are without being asked. One that is about
    a state has a day only, and no time from which on.
    """

    name: str
    title: str
    meaning: str
    columns: tuple[Column, ...]
    work: Callable[[Desk], tuple[Sequence[Row], Sequence[Row]]]
    groups: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    together: int = 0
    filters: tuple[Filter, ...] = ()
    of_a_day: bool = False
    of_group: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The columns that stand for each group; those of other groups are left out."""

    def columns_of(self, by: Sequence[str]) -> tuple[Column, ...]:
        """The columns when it is grouped so: those of the groups first, in the order in which these were asked for."""
        heads = [name for group in by for name in self.of_group.get(group, ())]
        known = {column.name: column for column in self.columns}
        grouping = {name for names in self.of_group.values() for name in names}
        return (*(known[name] for name in heads), *(column for column in self.columns if column.name not in grouping))


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins in a zone."""
    return datetime.combine(day, time(), zone)


def told(amount: Decimal | None, currency: str) -> str:
    """An amount with all digits of its currency; one that another system has given more digits keeps them."""
    given = amount if amount is not None else Decimal(0)
    try:
        shown = rounded(given, currency)
    except Outcome:
        return f"{given:f}"
    return f"{shown:f}" if shown == given else f"{given.normalize():f}"


def share(part: int, whole: int) -> float | None:
    """A part of a whole, to four digits; None of nothing."""
    return round(part / whole, 4) if whole else None


def minutes(seconds: float | Decimal | None) -> float | None:
    """Minutes to one digit."""
    return round(float(seconds) / _SECONDS, 1) if seconds is not None else None
