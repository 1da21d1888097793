"""Dates, times of day and points in time of any precision.

https://hl7.org/fhirpath/N1/#date, #datetime, #time
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from typing import Literal as OneOf

Kind = OneOf["Date", "DateTime", "Time"]

_DATE: Final = r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?"
_CLOCK: Final = r"(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d{1,12})?))?)?"
_ZONE: Final = r"(Z|[+-]\d\d:\d\d)?"
_FORMS: Final[dict[Kind, re.Pattern[str]]] = {
    "Date": re.compile(_DATE, re.ASCII),
    "DateTime": re.compile(rf"{_DATE}(?:T(?:{_CLOCK}{_ZONE})?)?", re.ASCII),
    "Time": re.compile(rf"T?{_CLOCK}", re.ASCII),
}
_HIGHEST: Final = (9999, 12, 31, 23, 59, 60)
_WIDEST_ZONE: Final = 14 * 60
_DAY: Final = 86_400
_SECONDS: Final = {"second": Decimal(1), "millisecond": Decimal("0.001"), "minute": Decimal(60), "hour": Decimal(3600)}
_NAMES: Final = ("year", "month", "day", "hour", "minute", "second")
_TO_NEXT: Final = {"month": 12, "day": 30, "hour": 24, "minute": 60, "second": 60, "millisecond": 1000}
_DATE_PARTS: Final = 3
_ALL_PARTS: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class Temporal:
    """A Date, DateTime or Time as precise as it was written.

    `parts` are year, month, day, hour, minute and second (a Decimal), or hour, minute and second of a Time, as many as are known;
    `zone` is the offset from UTC in minutes, None where none was given. `text` has no leading `@` or `T`.
    """

    kind: Kind
    parts: tuple[int | Decimal, ...]
    zone: int | None
    text: str
    suffix: str = field(default="", repr=False)

    @classmethod
    def read(cls, kind: Kind, text: str) -> Temporal | None:
        """The value of FHIR text such as `2020-02` or `12:30:00`; None for what is not in the calendar."""
        match = _FORMS[kind].fullmatch(text)
        if match is None:
            return None
        groups = list(match.groups())
        suffix = (groups.pop() or "") if kind == "DateTime" else ""
        known = [group for group in groups if group is not None]
        seconds_at = 2 if kind == "Time" else 5
        parts = tuple(Decimal(group) if at == seconds_at else int(group) for at, group in enumerate(known))
        if not _in_calendar(kind, parts):
            return None
        zone = _minutes(suffix)
        if zone is not None and abs(zone) > _WIDEST_ZONE:
            return None
        return cls(kind, parts, zone, text.removesuffix("T").removeprefix("T"), suffix)

    @classmethod
    def literal(cls, text: str) -> Temporal | None:
        """The value of a literal with its `@`: a Date unless it has a `T`."""
        kind: Kind = "Time" if text.startswith("@T") else "DateTime" if "T" in text else "Date"
        return cls.read(kind, text[1:])

    @classmethod
    def of(cls, moment: datetime) -> Temporal:
        """A moment to the millisecond."""
        text = moment.isoformat(timespec="milliseconds")
        value = cls.read("DateTime", text)
        assert value is not None
        return value

    def to(self, kind: Kind) -> Temporal:
        """A DateTime's day as a Date or its clock as a Time; a Date as a DateTime."""
        if kind == self.kind:
            return self
        if kind == "Date":
            return Temporal(kind, self.parts[:_DATE_PARTS], None, self.text.partition("T")[0])
        if kind == "Time":
            return _render(kind, self.parts[_DATE_PARTS:], None, "")
        return Temporal(kind, self.parts, None, self.text)

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        """Sameness of what is written; `compare` knows of precision and zones."""
        return isinstance(other, Temporal) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))

    def add(self, amount: Decimal, unit: str) -> Temporal | None:
        """This value moved by so many calendar units (`day`, `month`, …), fractions dropped; None beyond the years 1 to 9999."""
        names = _NAMES[_DATE_PARTS:] if self.kind == "Time" else _NAMES
        finest = names[len(self.parts) - 1]
        if unit == "week":
            amount, unit = amount * 7, "day"
        while _finer(unit, finest):
            amount = amount / _TO_NEXT[unit]
            unit = "second" if unit == "millisecond" else _NAMES[_NAMES.index(unit) - 1]
            if unit == finest:
                break
        if unit != "millisecond":
            amount = Decimal(int(amount))
        try:
            if self.kind == "Time":
                return self._add_to_clock(amount * _SECONDS[unit]) if unit in _SECONDS else None
            if unit in {"year", "month"}:
                return self._add_months(int(amount) * (12 if unit == "year" else 1))
            seconds = amount * _SECONDS.get(unit, _DAY)
            return self._add_seconds(seconds)
        except (ArithmeticError, ValueError):
            return None

    def _add_months(self, months: int) -> Temporal:
        year, month, day = (*self.parts[:_DATE_PARTS], 1, 1)[:_DATE_PARTS]
        total = int(year) * 12 + int(month) - 1 + months
        year, month = total // 12, total % 12 + 1
        if not 1 <= year <= _HIGHEST[0]:
            raise OverflowError
        moved = (year, month, min(int(day), monthrange(year, month)[1]))
        return _render(self.kind, (*moved[: len(self.parts)], *self.parts[_DATE_PARTS:]), self.zone, self.suffix)

    def _add_seconds(self, seconds: Decimal) -> Temporal:
        year, month, day, hour, minute, second = (
            (int(part) for part in (*self.parts, 1, 1, 0, 0, 0)[:_ALL_PARTS]) if len(self.parts) < _ALL_PARTS else (int(part) for part in self.parts)
        )
        fraction = Decimal(self.parts[5]) % 1 if len(self.parts) == _ALL_PARTS else Decimal(0)
        whole = (fraction + seconds).to_integral_value(rounding="ROUND_FLOOR")
        moved = datetime(year, month, day, hour, minute, second) + timedelta(seconds=int(whole))  # noqa: DTZ001 - the zone does not change
        parts: list[int | Decimal] = [moved.year, moved.month, moved.day, moved.hour, moved.minute, moved.second + (fraction + seconds - whole)]
        return _render(self.kind, tuple(parts[: len(self.parts)]), self.zone, self.suffix)

    def _add_to_clock(self, seconds: Decimal) -> Temporal:
        hour, minute, second = (Decimal(part) for part in (*self.parts, 0, 0)[:3])
        total = (hour * 3600 + minute * 60 + second + seconds) % _DAY
        if total < 0:
            total += _DAY
        parts: list[int | Decimal] = [int(total // 3600), int(total // 60 % 60), total % 60]
        return _render("Time", tuple(parts[: len(self.parts)]), None, "")


def compare(left: Temporal, right: Temporal) -> int | None:
    """-1, 0 or 1; None where the precision or a missing zone leaves it open. Both are Times or neither is."""
    ours, theirs = left.parts, right.parts
    if len(ours) > _DATE_PARTS and len(theirs) > _DATE_PARTS and (left.zone is not None or right.zone is not None):
        if left.zone is None or right.zone is None:
            return _across_zones(left, right)
        if left.zone != right.zone:
            ours, theirs = _utc(left), _utc(right)
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other:
            return -1 if mine < other else 1
    return 0 if len(ours) == len(theirs) else None


def normal(value: Temporal) -> tuple[int | Decimal, ...]:
    """The parts in UTC where the zone is known: the same for values that are equal."""
    return _utc(value) if value.zone and len(value.parts) > _DATE_PARTS else value.parts


def _across_zones(left: Temporal, right: Temporal) -> int | None:
    """With the zone of one side unknown, only what is more than the widest zone apart is certain."""
    bare, zoned = (left, right) if left.zone is None else (right, left)
    order = {compare(_zoned(bare, -_WIDEST_ZONE), zoned), compare(_zoned(bare, _WIDEST_ZONE), zoned)}
    if len(order) > 1 or order <= {0, None}:
        return None
    (sign,) = order
    return sign if bare is left or sign is None else -sign


def _zoned(value: Temporal, zone: int) -> Temporal:
    return Temporal(value.kind, value.parts, zone, value.text)


def _utc(value: Temporal) -> tuple[int | Decimal, ...]:
    year, month, day, hour, *rest = value.parts
    minute = rest[0] if rest else 0
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute)) - timedelta(minutes=value.zone or 0)  # noqa: DTZ001 - becomes UTC
    except OverflowError:
        return value.parts
    parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute, *rest[1:])
    return parts[: len(value.parts)] if rest else parts[:4]


def _minutes(suffix: str) -> int | None:
    if suffix in {"", "Z"}:
        return 0 if suffix else None
    size = int(suffix[1:3]) * 60 + int(suffix[4:])
    return -size if suffix[0] == "-" else size


def _in_calendar(kind: Kind, parts: tuple[int | Decimal, ...]) -> bool:
    if kind != "Time":
        day = (*parts[:_DATE_PARTS], 1, 1)[:_DATE_PARTS]
        if not (day[0] >= 1 and 1 <= day[1] <= _HIGHEST[1] and 1 <= day[2] <= monthrange(int(day[0]), int(day[1]))[1]):
            return False
    clock = parts if kind == "Time" else parts[_DATE_PARTS:]
    return all(part <= highest for part, highest in zip(clock, _HIGHEST[_DATE_PARTS:], strict=False)) and (
        len(clock) < _DATE_PARTS or clock[2] < _HIGHEST[5]
    )


def _finer(unit: str, finest: str) -> bool:
    if unit == "millisecond":
        return finest != "second"
    return _NAMES.index(unit) > _NAMES.index(finest)


def _render(kind: Kind, parts: tuple[int | Decimal, ...], zone: int | None, suffix: str) -> Temporal:
    written = [_two(part) for part in parts]
    if kind == "Time":
        return Temporal(kind, parts, None, ":".join(written))
    written[0] = f"{int(parts[0]):04}"
    day, clock = "-".join(written[:_DATE_PARTS]), ":".join(written[_DATE_PARTS:])
    return Temporal(kind, parts, zone, f"{day}T{clock}{suffix}" if clock else day, suffix)


def _two(part: int | Decimal) -> str:
    if isinstance(part, int):
        return f"{part:02}"
    whole, dot, fraction = f"{part:f}".partition(".")
    return whole.zfill(2) + dot + fraction
