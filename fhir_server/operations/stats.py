"""Statistics of a subject's observations. https://hl7.org/fhir/R4/observation-operation-stats.html

Values count where they have a unit of UCUM and no comparator; those of one code are brought to the unit that most of them have. An observation that
was entered in error or is modified by an extension does not count at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_server import fhirjson, ucum
from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.interactions.finding import find
from fhir_server.outcome import Outcome
from fhir_server.search.params.date import parse_date
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.store import Snapshot, instant

from .measures import DISPLAYS, measure, regression
from .parameters import Inputs

MAX_OBSERVATIONS: Final = 5_000
MAX_CODES: Final = 50
MAX_HOURS: Final = 1_000_000

_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/observation-statistics"
_UCUM: Final = "http://unitsofmeasure.org"
_NO_VALUE: Final = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-a-number", "display": "Not a Number (NaN)"}]
}
_ALIASES: Final = {"max": "maximum", "min": "minimum"}
_NAMES: Final = ("subject", "code", "system", "coding", "duration", "period", "statistic", "include", "limit")
_SEVERAL: Final = ("code", "coding", "statistic")

Json = dict[str, Any]
_Code = tuple[str, str]


@dataclass(slots=True)
class _Group:
    """The measurements of one code: amount, unit and time of each that counts, and how many there were in all."""

    code: Json
    found: list[tuple[Decimal, str, datetime | None]] = field(default_factory=list)
    units: dict[str, Json] = field(default_factory=dict)
    total: int = 0

    def add(self, quantity: Any, at: datetime | None) -> None:
        """Takes a value in; anything but a Quantity with a unit of UCUM is only counted."""
        self.total += 1
        if not isinstance(quantity, dict) or quantity.get("system") != _UCUM or "comparator" in quantity or "value" not in quantity:
            return
        unit = quantity.get("code", "")
        if ucum.unit(unit) is not None:
            self.found.append((Decimal(quantity["value"]), unit, at))
            self.units.setdefault(unit, {key: value for key, value in quantity.items() if key in {"unit", "system", "code"}})

    def aligned(self) -> tuple[Json, list[tuple[Decimal, datetime | None]]]:
        """The unit that most have, and the amounts in it with their times; what measures something else is left out."""
        if not self.found:
            return {}, []
        (common, _), *_ = Counter(unit for _, unit, _ in self.found).most_common(1)
        target = ucum.unit(common)
        assert target is not None
        amounts = []
        for amount, code, at in self.found:
            unit = ucum.unit(code)
            if code == common:
                amounts.append((amount, at))
            elif unit is not None and unit.dimension == target.dimension:
                exact = (Fraction(amount) * unit.factor + unit.offset - target.offset) / target.factor
                amounts.append((Decimal(exact.numerator) / Decimal(exact.denominator), at))
        return self.units[common], amounts


def stats(engine: Engine, exchange: Exchange) -> Reply:
    """200 and Parameters: `statistics`, an Observation for each code with a component for each statistic, and every `source` if asked for.

    Two statements, and one for the members of panels. Raises Outcome `parameter` for what is not understood, `too-costly` beyond MAX_OBSERVATIONS.
    """
    given = Inputs(engine, exchange, _NAMES, several=_SEVERAL)
    subject, codes, statistics = _subject(given), _codes(given), _statistics(given)
    period, bounds = _period(engine, given)
    include, limit = given.flag("include"), given.number("limit")
    if limit == 0:
        raise Outcome("parameter", "limit is a whole number from 1, not '0'", code="value")
    with engine.store.snapshot(exchange.grant) as db:
        sources = _observations(engine, exchange, db, subject, codes, bounds)
        members = _members(engine, db, sources, codes)
    groups = {code: _Group({"coding": [{"system": code[0], "code": code[1]}]}) for code in codes}
    for source in sources:
        _collect(groups, source, engine.registry.zone)
    for member in members:
        for group in _named(groups, member["code"], new=True):
            group.add(member.get("valueQuantity"), _at(member, engine.registry.zone))
    # A panel has no values of its own.
    shown = [group for group in groups.values() if group.total or len(groups) == len(codes)]
    parts: list[Json] = [{"name": "statistics", "resource": _summary(group, subject, period, statistics)} for group in shown]
    if include:
        parts += ({"name": "source", "resource": source} for source in sources[:limit])
    return Reply(200, fhirjson.dumps({"resourceType": "Parameters", "parameter": parts}))


def _subject(given: Inputs) -> str:
    subject = given.text("subject")
    if subject is None:
        raise Outcome("parameter", "$stats needs subject=[type]/[id], whose observations are meant", code="required")
    if "/" not in subject or "," in subject:
        raise Outcome("parameter", f"subject is one reference such as Patient/123, not '{subject[:80]}'", code="value")
    return subject


def _codes(given: Inputs) -> list[_Code]:
    system = given.text("system")
    codes = [(system, code) for text in given.texts("code") for code in text.split(",") if code]
    if codes and system is None:
        raise Outcome("parameter", "code needs its system beside it: system=http://loinc.org; or give coding", code="required")
    codings = [(coding.get("system"), coding.get("code")) for coding in given.objects("coding")]
    for text in given.texts("coding"):
        head, bar, code = text.rpartition("|")
        codings.append((head if bar else None, code))
    found = list(dict.fromkeys((str(system), str(code)) for system, code in (*codes, *codings) if system and code))
    if len(found) < len(set(codings)) or not found:
        raise Outcome("parameter", "$stats needs code and system, or coding as [system]|[code], which observations are meant", code="required")
    if len(found) > MAX_CODES:
        raise Outcome("parameter", f"$stats takes at most {MAX_CODES} codes, not {len(found)}", code="too-costly")
    return found


def _statistics(given: Inputs) -> list[str]:
    named = [_ALIASES.get(name, name) for text in given.texts("statistic") for name in text.split(",") if name]
    for name in named:
        if name not in DISPLAYS:
            raise Outcome("parameter", f"statistic is one of {', '.join(DISPLAYS)}, not '{name[:80]}'", code="value")
    if not named:
        raise Outcome("parameter", f"$stats needs a statistic: {', '.join(DISPLAYS)}", code="required")
    return list(dict.fromkeys(named))


def _period(engine: Engine, given: Inputs) -> tuple[Json | None, list[tuple[str, str]]]:
    """The Period as the answer states it, and the search parameters that bound the date."""
    period, duration = given.object("period"), given.decimal("duration")
    if period is not None and duration is not None:
        raise Outcome("parameter", "Give either duration or period")
    if duration is not None:
        if not 0 < duration <= MAX_HOURS:
            raise Outcome("parameter", f"duration is a number of hours above 0, at most {MAX_HOURS:,}, not '{duration}'", code="value")
        now = engine.store.clock()
        start, end = instant(now - timedelta(hours=float(duration))), instant(now)
        return {"start": start, "end": end}, [("date", f"ge{start}"), ("date", f"le{end}")]
    if period is None:
        return None, []
    bounds = [("date", f"{prefix}{period[name]}") for name, prefix in (("start", "ge"), ("end", "le")) if name in period]
    if not bounds:
        raise Outcome("parameter", "period has a start, an end or both", code="required")
    return period, bounds


def _observations(
    engine: Engine, exchange: Exchange, db: Snapshot, subject: str, codes: Sequence[_Code], bounds: Sequence[tuple[str, str]]
) -> list[Json]:
    """The observations with one of the codes, also in a component, newest first."""
    wanted = ",".join(_escaped(system) + "|" + _escaped(code) for system, code in codes)
    asked = [("subject", subject), ("combo-code", wanted), ("status:not", "entered-in-error"), *bounds, ("_sort", "-date")]
    query = engine.registry.parse("Observation", asked, strict=True, now=engine.store.clock())
    page = find(engine, db, replace(query, count=MAX_OBSERVATIONS, total="none"), exchange.grant, None)
    if page.following is not None:
        raise Outcome("too-costly", f"More than {MAX_OBSERVATIONS:,} observations match, or 64 MB of them; ask for a shorter period or fewer codes")
    found = [fhirjson.loads(each.body) for each in page.found]
    return [source for source in found if "modifierExtension" not in source]


def _escaped(text: str) -> str:
    return "".join("\\" + character if character in "\\,$|" else character for character in text)


def _members(engine: Engine, db: Snapshot, sources: Sequence[Json], codes: Sequence[_Code]) -> list[Json]:
    """What the panels among the observations have as members, each once, without those that are asked for themselves."""
    panels = [source for source in sources if any(code in codes for code in _pairs(source["code"]))]
    named = dict.fromkeys(link["reference"] for source in panels for link in source.get("hasMember", ()) if "reference" in link)
    if len(named) > MAX_OBSERVATIONS:
        raise Outcome("too-costly", f"The panels have more than {MAX_OBSERVATIONS:,} members; ask for a shorter period")
    located = [found for text in named if (found := locate(text, engine.registry.context)) is not None and found[1] != ABSOLUTE]
    targets = dict.fromkeys(("Observation", identity) for identity, number in located if engine.registry.type_name(number) == "Observation")
    there = {source["id"] for source in sources}
    versions = db.read_many([target for target in targets if target[1] not in there])
    return [member for version in versions if version.body is not None and _counts(member := fhirjson.loads(version.body))]


def _counts(source: Json) -> bool:
    return source["status"] != "entered-in-error" and "modifierExtension" not in source


def _collect(groups: dict[_Code, _Group], source: Json, zone: ZoneInfo) -> None:
    """Puts the values of an observation where they belong: its own, and those of its components; of a panel that is asked for all of them."""
    at = _at(source, zone)
    asked = _named(groups, source["code"])
    for group in asked:
        if "valueQuantity" in source or not (source.get("component") or source.get("hasMember")):
            group.add(source.get("valueQuantity"), at)
    for part in source.get("component", ()):
        if "modifierExtension" not in part:
            for group in _named(groups, part["code"], new=bool(asked)):
                group.add(part.get("valueQuantity"), at)


def _named(groups: dict[_Code, _Group], concept: Json, *, new: bool = False) -> list[_Group]:
    """The groups of a concept's codes; with `new`, one is made by its first code where there is none."""
    codes = list(_pairs(concept))
    found = [groups[code] for code in codes if code in groups]
    if not found and new and codes:
        groups[codes[0]] = _Group({key: value for key, value in concept.items() if key in {"coding", "text"}})
        found = [groups[codes[0]]]
    return found


def _pairs(concept: Json) -> Iterator[_Code]:
    for coding in concept.get("coding", ()):
        if "code" in coding:
            yield coding.get("system", ""), coding["code"]


def _at(source: Json, zone: ZoneInfo) -> datetime | None:
    """When it was measured, or when measuring began."""
    found: str | None = source.get("effectiveDateTime") or source.get("effectiveInstant") or source.get("effectivePeriod", {}).get("start")
    return parse_date(found, zone)[0] if found is not None else None


def _summary(group: _Group, subject: str, period: Json | None, statistics: Sequence[str]) -> Json:
    unit, amounts = group.aligned()
    resource: Json = {"resourceType": "Observation", "status": "final", "code": group.code, "subject": {"reference": subject}}
    if period is not None:
        resource["effectivePeriod"] = period
    resource["component"] = [part for code in statistics for part in _components(code, group, unit, amounts)]
    return resource


def _components(code: str, group: _Group, unit: Json, amounts: Sequence[tuple[Decimal, datetime | None]]) -> Iterator[Json]:
    values = [amount for amount, _ in amounts]
    if code in {"count", "total-count"}:
        yield _component(code, Decimal(group.total if code == "total-count" else len(values)), _ONE)
    elif code == "regression":
        line = regression(list(_points(amounts)))
        per_hour = _unit(f"{unit['code']}/h") if unit else _ONE
        yield _component(code, line and line.gradient, per_hour, "gradient")
        yield _component(code, line and line.intercept, unit, "intercept")
    else:
        of = _ONE if code in {"skew", "kurtosis"} else _unit(f"({unit['code']}).({unit['code']})") if code == "variance" and unit else unit
        yield _component(code, measure(code, values), of)


def _points(amounts: Sequence[tuple[Decimal, datetime | None]]) -> Iterator[tuple[Decimal, Decimal]]:
    """Hours since the first measurement, and the amount."""
    first = min((at for _, at in amounts if at is not None), default=None)
    for amount, at in amounts:
        if at is not None and first is not None:
            yield Decimal((at - first) // timedelta(milliseconds=1)) / Decimal(3_600_000), amount


def _unit(code: str) -> Json:
    return {"unit": code, "system": _UCUM, "code": code}


_ONE: Final = {"unit": "1", "system": _UCUM, "code": "1"}


def _component(code: str, value: Decimal | None, unit: Json, text: str | None = None) -> Json:
    concept: Json = {"coding": [{"system": _SYSTEM, "code": code, "display": DISPLAYS[code]}]} | ({"text": text} if text else {})
    return {"code": concept} | ({"dataAbsentReason": _NO_VALUE} if value is None else {"valueQuantity": {"value": value, **unit}})
