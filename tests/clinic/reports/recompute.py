"""Every report once more, from the resources alone, in the words of what each says that it counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from fhir_server import fhirjson
from fhir_server.clinic.queue.order import DEFAULTS, ZONES
from fhir_server.clinic.reports import Asked
from fhir_server.search import SYSTEM, compile_search
from fhir_server.settings import CANON
from fhir_server.store import Store

Json = dict[str, Any]
Cells = tuple[Any, ...]
DIGITS = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class World:
    """The resources that there are."""

    def __init__(self, store: Store, asked: Asked) -> None:
        self.zone = store.registry.zone
        self.asked = asked
        self._store = store
        self._found: dict[str, dict[str, Json]] = {}

    def of(self, name: str) -> dict[str, Json]:
        """All of a type, by id."""
        if name not in self._found:
            query = self._store.registry.parse(name, [("_count", "1000")], strict=True)
            with self._store.snapshot(SYSTEM) as db:
                bodies = [fhirjson.loads(db.body_of(row)) for row in db.select(compile_search(query, self._store.registry, SYSTEM))]
            self._found[name] = {each["id"]: each for each in bodies}
        return self._found[name]

    def day(self, text: str | None) -> date | None:
        """The day of a date or dateTime in the clinic's zone."""
        if text is None:
            return None
        return datetime.fromisoformat(text).astimezone(self.zone).date() if "T" in text else date.fromisoformat(text)

    def asks_for(self, day: date | None) -> bool:
        return day is not None and self.asked.first <= day <= self.asked.last

    def doctor(self, reference: str | None) -> str | None:
        """The practitioner behind a reference to one, or to a role; None for anybody else."""
        kind, _, identity = (reference or "").partition("/")
        if kind == "PractitionerRole":
            return str(self.of(kind).get(identity, {}).get("practitioner", {}).get("reference", reference))
        return reference if kind == "Practitioner" else None

    def name(self, reference: str | None) -> str | None:
        kind, _, identity = (reference or "").partition("/")
        named = self.of(kind).get(identity, {}).get("name") if kind in {"Practitioner", "Location"} else None
        return named[0]["family"] if isinstance(named, list) else named


def revenue(world: World, by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    lines = [line for invoice in world.of("Invoice").values() for line in _lines(world, invoice)]
    wanted = {"practitioner": "doctor", "currency": "currency"}
    for name, value in world.asked.filters.items():
        lines = [line for line in lines if line[wanted[name]] == (f"Practitioner/{value}" if name == "practitioner" else value)]

    def told(group: tuple[str, ...], of: list[Json]) -> Cells:
        head: list[Any] = []
        for each, value in zip(by, group[:-1], strict=False):
            head += {"template": [value or None, _title(world, value)], "doctor": [value or None, world.name(value)]}.get(each, [value])
        currency = group[-1]
        counts = [len({line["id"] for line in of if line["credit"] is credit}) for credit in (False, True)]
        sums = [sum(line["net"] + line["tax"] for line in of if line["credit"] is credit) for credit in (False, True)]
        sums += [sum(line[part] for line in of) for part in ("net", "tax")]
        return (*head, currency, *counts, *(_money(each, currency) for each in (*sums, sums[2] + sums[3])))

    whole = {group: told(group, of) for group, of in _grouped(lines, ()).items()}
    return [told(group, of) for group, of in _grouped(lines, by).items()], [(None,) * _width(by) + cells for cells in whole.values()]


def collected(world: World, by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    found = []
    for each in world.of("PaymentReconciliation").values():
        day = world.day(each["paymentDate"])
        if each["status"] == "active" and each.get("outcome") != "error" and day is not None and world.asks_for(day):
            method = next((part["valueCode"] for part in each.get("extension", ()) if part["url"].endswith("payment-method")), None)
            paid = each["paymentAmount"]
            if paid["currency"] != world.asked.filters.get("currency", paid["currency"]):
                continue
            found.append({"day": day.isoformat(), "month": f"{day:%Y-%m}", "method": method, "currency": paid["currency"], "amount": paid["value"]})

    def told(group: tuple[str, ...], of: list[Json]) -> Cells:
        amounts = [Decimal(each["amount"]) for each in of]
        sums = (sum(each for each in amounts if each > 0), sum(each for each in amounts if each < 0), sum(amounts))
        return (*group, len(of), *(_money(each, group[-1]) for each in sums))

    return [told(*each) for each in _grouped(found, by).items()], [(None,) * len(by) + told(*each) for each in _grouped(found, ()).items()]


def receivables(world: World, _by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    dues: dict[str, list[tuple[int, Decimal]]] = defaultdict(list)
    for invoice in world.of("Invoice").values():
        day = world.day(invoice.get("date"))
        if day is None or day > world.asked.last or not _is_issued(invoice) or _is_credit(invoice):
            continue
        currency = invoice["totalGross"]["currency"]
        if currency != world.asked.filters.get("currency", currency):
            continue
        stated = [each for each in invoice.get("extension", ()) if each["url"].endswith("invoice-balance")]
        due = next((Decimal(part["valueMoney"]["value"]) for each in stated for part in each["extension"] if part["url"] == "due"), None)
        if due is None:
            due = Decimal(invoice["totalGross"]["value"]) if invoice["status"] == "issued" else Decimal(0)
        dues[currency].append(((world.asked.last - day).days, due))
    rows = []
    for currency, of in sorted(dues.items()):
        open_ = [(age, due) for age, due in of if due > 0]
        parts = [sum(due for age, due in open_ if low <= age <= high) for low, high in ((0, 30), (31, 60), (61, 90), (91, 99_999))]
        amounts = (*parts, sum(parts), sum(due for _, due in of if due < 0))
        if any(amounts):
            rows.append((currency, len(open_), *(_money(each, currency) for each in amounts)))
    return rows, []


def waits(world: World, _by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    visits = [visit for visit in _visits(world) if visit["location"] == world.asked.filters.get("location", visit["location"])]

    def told(of: list[Json]) -> Cells:
        waited = sorted((each["seen"] - each["arrived"]).total_seconds() for each in of if each["seen"] is not None)
        limits = DEFAULTS.get(of[0]["zone"])
        target, maximum = (limits.target, limits.maximum) if limits else (None, None)
        counts = (len(of), len(waited), sum(each["left"] for each in of))
        measured = len(waited) if target else 0
        within, over = sum(each <= (target or 0) * 60 for each in waited), sum(each >= (maximum or 0) * 60 for each in waited)
        return (*counts, *_percentiles(waited), target, _share(within, measured), _share(over, measured))

    order = {zone: n for n, zone in enumerate(ZONES)}

    def sorting(key: tuple[str, ...]) -> tuple[Any, ...]:
        return (*key[:-1], order.get(key[-1], len(order)), key[-1])

    places = _sets(visits, lambda each: (each["location"], each["zone"]), sorting)
    zones = _sets(visits, lambda each: (each["zone"],), sorting)
    rows = [(place or None, world.name(f"Location/{place}"), zone or None, *told(of)) for (place, zone), of in places]
    return rows, [(None, None, zone or None, *told(of)) for (zone,), of in zones]


def arrivals(world: World, _by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    visits = [visit for visit in _visits(world) if visit["location"] == world.asked.filters.get("location", visit["location"])]
    local = [visit["arrived"].astimezone(world.zone) for visit in visits]
    days = Counter((world.asked.first + timedelta(days=n)).weekday() for n in range((world.asked.last - world.asked.first).days + 1))
    found = sorted(Counter((each.weekday(), each.hour) for each in local).items())
    rows = [(DAYS[day], hour, count, days[day], round(count / days[day], 2)) for (day, hour), count in found]
    return rows, [(None, None, len(local), days.total(), round(len(local) / days.total(), 2))]


def utilisation(world: World, by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    found = []
    for slot in world.of("Slot").values():
        start, end = (datetime.fromisoformat(slot[name]) for name in ("start", "end"))
        schedule, day = slot["schedule"]["reference"].partition("/")[2], start.astimezone(world.zone).date()
        if not world.asks_for(day) or slot["status"] not in {"free", "busy", "busy-tentative"}:
            continue
        actors = {each["reference"] for each in world.of("Schedule")[schedule]["actor"]}
        whose = {world.doctor(each) for each in actors} - {None}
        roles = [world.of("PractitionerRole")[each.partition("/")[2]] for each in actors if each.startswith("PractitionerRole/")]
        places = actors | {each["reference"] for role in roles for each in role.get("location", ())}
        wanted = world.asked.filters
        if ("practitioner" in wanted and f"Practitioner/{wanted['practitioner']}" not in whose) or (
            "location" in wanted and f"Location/{wanted['location']}" not in places
        ):
            continue
        name = world.name(next(iter(whose), None))
        taken = slot["status"] != "free"
        found.append({"schedule": (schedule, name), "day": day.isoformat(), "minutes": (end - start).total_seconds() / 60, "taken": taken})

    def told(of: list[Json]) -> Cells:
        offered, booked = sum(each["minutes"] for each in of), sum(each["minutes"] for each in of if each["taken"])
        return (len(of), offered, booked, round(booked / offered, 4))

    parts = _sets(found, lambda each: tuple(each[group] for group in by))
    rows = [(*(cell for each in head for cell in (each if isinstance(each, tuple) else (each,))), *told(of)) for head, of in parts]
    return rows, [(None,) * (len(by) + ("schedule" in by)) + told(found)] if found else []


def no_shows(world: World, by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    found: dict[Any, list[str]] = defaultdict(list)
    every = []
    wanted = world.asked.filters.get("practitioner")
    for each in world.of("Appointment").values():
        if each["status"] in {"waitlist", "entered-in-error"} or not world.asks_for(world.day(each.get("start"))):
            continue
        doctors = {world.doctor(one["actor"]["reference"]) for one in each["participant"]} - {None}
        if wanted is not None and f"Practitioner/{wanted}" not in doctors:
            continue
        every.append(each["status"])
        services = {f"{coding['system']}|{coding['code'].lower()}" for concept in each.get("serviceType", ()) for coding in concept["coding"]}
        for head in (doctors if by == ("practitioner",) else services) or {None}:
            if wanted is None or by != ("practitioner",) or head == f"Practitioner/{wanted}":
                found[head].append(each["status"])

    def told(of: list[str]) -> Cells:
        count = Counter(of)
        kept = count["arrived"] + count["checked-in"] + count["fulfilled"]
        open_ = count["proposed"] + count["pending"] + count["booked"]
        return (len(of), kept, count["noshow"], count["cancelled"], open_, _share(count["noshow"], kept + count["noshow"]))

    named = by == ("practitioner",)
    rows = [(head, *((world.name(head),) if named else ()), *told(of)) for head, of in sorted(found.items(), key=lambda each: each[0] or "")]
    return rows, [(None,) * (1 + named) + told(every)] if every else []


def lab_turnaround(world: World, by: Sequence[str]) -> tuple[list[Cells], list[Cells]]:
    took: dict[str | None, list[float]] = defaultdict(list)
    for report in world.of("DiagnosticReport").values():
        categories = {coding["code"] for concept in report.get("category", ()) for coding in concept["coding"]}
        if report["status"] not in {"final", "amended", "corrected", "appended"} or not world.asks_for(world.day(report.get("issued"))):
            continue
        if world.asked.filters.get("category", "LAB") not in categories and "category" in world.asked.filters:
            continue
        begun = [text for text in _begun(world, report, by[0]) if text is not None and "T" in text]
        issued = datetime.fromisoformat(report["issued"])
        first = min((datetime.fromisoformat(text) for text in begun), default=None)
        if first is not None and first <= issued:
            coding = min((f"{each['system']}|{each['code']}" for each in report["code"].get("coding", ())), default=None)
            took[coding].append((issued - first).total_seconds())
    rows = [(code, len(of), *_percentiles(sorted(of))) for code, of in sorted(took.items(), key=lambda each: (each[0] is None, each[0] or ""))]
    every = sorted(each for of in took.values() for each in of)
    return rows, [(None, len(every), *_percentiles(every))] if every else []


ALL: dict[str, Callable[[World, Sequence[str]], tuple[list[Cells], list[Cells]]]] = {
    "revenue": revenue,
    "collected": collected,
    "receivables": receivables,
    "waits": waits,
    "arrivals": arrivals,
    "utilisation": utilisation,
    "no-shows": no_shows,
    "lab-turnaround": lab_turnaround,
}


def _lines(world: World, invoice: Json) -> Iterator[Json]:
    day = world.day(invoice.get("date"))
    if not _is_issued(invoice) or day is None or not world.asks_for(day):
        return
    credit, currency = _is_credit(invoice), invoice["totalGross"]["currency"]
    net = Decimal(invoice["totalNet"]["value"])
    tax = Decimal(invoice["totalGross"]["value"]) - net
    common = {"id": invoice["id"], "day": day.isoformat(), "month": f"{day:%Y-%m}", "credit": credit, "currency": currency}
    for item in invoice.get("lineItem", ()):
        own = _price(item)
        net, tax = net - own[0], tax - own[1]
        charge = world.of("ChargeItem").get(item.get("chargeItemReference", {}).get("reference", "").partition("/")[2], {})
        doctors = [world.doctor(each["actor"]["reference"]) for each in charge.get("performer", ())]
        template = next(iter(charge.get("definitionCanonical", ())), "")
        yield common | {"net": own[0], "tax": own[1], "template": template, "doctor": next((each for each in doctors if each), "")}
    if net or tax or not invoice.get("lineItem"):
        yield common | {"net": net, "tax": tax, "template": "", "doctor": ""}


def _price(item: Json) -> tuple[Decimal, Decimal]:
    for each in item.get("extension", ()):
        parts = {part["url"]: Decimal(part["valueMoney"]["value"]) for part in each["extension"]}
        return parts["net"], parts["tax"]
    parts = {}
    for part in item.get("priceComponent", ()):
        parts[part["type"]] = parts.get(part["type"], Decimal(0)) + Decimal(part["amount"]["value"])
    of = {kind: parts.get(kind, Decimal(0)) for kind in ("base", "surcharge", "discount", "deduction", "tax")}
    return of["base"] + of["surcharge"] - of["discount"] - of["deduction"], of["tax"]


def _is_issued(invoice: Json) -> bool:
    numbered = any(each["system"] == f"{CANON}/sid/invoice-number" for each in invoice.get("identifier", ()))
    return invoice["status"] in {"issued", "balanced"} or (invoice["status"] == "cancelled" and numbered)


def _is_credit(invoice: Json) -> bool:
    return any(each["url"] == f"{CANON}/StructureDefinition/credits-invoice" for each in invoice.get("extension", ()))


def _title(world: World, canonical: str) -> str | None:
    return next((each["title"] for each in world.of("ChargeItemDefinition").values() if f"{each['url']}|{each['version']}" == canonical), None)


def _visits(world: World) -> Iterator[Json]:
    for encounter in world.of("Encounter").values():
        past = [(each["status"], each["period"]) for each in encounter.get("statusHistory", ())]
        waits = [period for status, period in past if status in {"arrived", "triaged"}]
        starts = [period["start"] for period in waits]
        if not waits and encounter["status"] in {"arrived", "triaged"}:
            starts = [each["period"]["start"] for each in encounter.get("location", ()) if "period" in each]
            starts = starts or [encounter["period"]["start"]]
        if not starts or encounter["status"] in {"planned", "entered-in-error"}:
            continue
        arrived = min(map(datetime.fromisoformat, starts))
        seen = min((datetime.fromisoformat(period["start"]) for status, period in past if status == "in-progress"), default=None)
        if seen is None and encounter["status"] in {"in-progress", "onleave", "finished"}:
            seen = max((datetime.fromisoformat(period["end"]) for period in waits), default=None)
        if seen is not None and seen < arrived:
            seen = None
        place = next((each["location"]["reference"].partition("/")[2] for each in encounter.get("location", ())), "")
        zones = [part["valueCodeableConcept"]["coding"][0]["code"] for each in encounter.get("extension", ()) for part in each["extension"]]
        lo = datetime.combine(world.asked.first, time(), world.zone).astimezone(UTC)
        hi = datetime.combine(world.asked.last + timedelta(days=1), time(), world.zone).astimezone(UTC)
        if lo <= arrived < hi:
            left = encounter["status"] == "cancelled" and seen is None
            yield {"location": place, "zone": next(iter(zones), ""), "arrived": arrived, "seen": seen, "left": left}


def _begun(world: World, report: Json, since: str) -> Iterator[str | None]:
    element, kind = ("basedOn", "ServiceRequest") if since == "ordered" else ("specimen", "Specimen")
    for each in report.get(element, ()):
        found = world.of(kind).get(each["reference"].partition("/")[2], {})
        yield found.get("authoredOn") if since == "ordered" else found.get("collection", {}).get("collectedDateTime")


def _grouped(lines: Iterable[Json], by: Sequence[str]) -> dict[tuple[str, ...], list[Json]]:
    return dict(_sets(lines, lambda line: (*(line[each] for each in by), line["currency"])))


def _sets(those: Iterable[Json], key: Callable[[Json], tuple[Any, ...]], sorting: Callable[[Any], Any] | None = None) -> list[tuple[Any, list[Json]]]:
    found: dict[tuple[Any, ...], list[Json]] = defaultdict(list)
    for each in those:
        found[key(each)].append(each)
    return sorted(found.items(), key=lambda pair: sorting(pair[0]) if sorting else tuple(str(cell or "") for cell in pair[0]))


def _width(by: Sequence[str]) -> int:
    return sum(2 if each in {"doctor", "template"} else 1 for each in by)


def _money(amount: Decimal | int, currency: str) -> str:
    return f"{Decimal(amount):.{DIGITS[currency]}f}"


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _percentiles(seconds: list[float]) -> tuple[float | None, ...]:
    """Median, the ninth of ten, and the longest, in minutes: between two values in proportion."""
    if not seconds:
        return (None, None, None)
    found = []
    for fraction in (0.5, 0.9):
        place = fraction * (len(seconds) - 1)
        low = int(place)
        high = min(low + 1, len(seconds) - 1)
        found.append(seconds[low] + (seconds[high] - seconds[low]) * (place - low))
    return tuple(round(each / 60, 1) for each in (*found, seconds[-1]))
