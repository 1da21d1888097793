"""A small clinic of a year in Berlin by chance: whatever reports count, and what they must not, as another system may have written it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.settings import CANON
from fhir_server.store.rules.billing.bills import BALANCE, CREDITS, NUMBER, PRICE

Json = dict[str, Any]
ZONE = ZoneInfo("Europe/Berlin")
FIRST, LAST = date(2026, 10, 20), date(2026, 11, 2)
"""With the Sunday on which clocks go back."""
DIGITS = {"EUR": 2, "JPY": 0, "KWD": 3}
_DOCTORS = ("Practitioner/p0", "Practitioner/p1", "PractitionerRole/r0", "PractitionerRole/r1", "PractitionerRole/r2")
_ZONES = ("emergency", "follow-up", "regular")


class Clinic:
    """Makes resources, each with an id of its own."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def directory(self) -> Iterator[Json]:
        """Whoever works there, and where, with the templates by which they bill."""
        for n in range(2):
            yield {"resourceType": "Practitioner", "id": f"p{n}", "name": [{"family": ("=HYPERLINK(1)", "Moreau")[n]}]}
            yield {"resourceType": "Location", "id": f"l{n}", "name": f"House {n}"}
            fields = {"url": f"urn:t{n}", "version": "1", "status": "active", "title": ("@visit", "Check-up")[n]}
            yield {"resourceType": "ChargeItemDefinition", "id": f"t{n}", **fields}
        for n, doctor in enumerate(("p0", "p1", None)):
            who = {"practitioner": {"reference": f"Practitioner/{doctor}"}} if doctor else {}
            yield {"resourceType": "PractitionerRole", "id": f"r{n}", "location": [{"reference": f"Location/l{n % 2}"}], **who}
        for n, actors in enumerate((["Practitioner/p0", "Location/l1"], ["PractitionerRole/r1"])):
            yield {"resourceType": "Schedule", "id": f"h{n}", "actor": [{"reference": each} for each in actors]}

    def day(self) -> Iterator[Json]:
        """All that happens there, in no order."""
        for n in range(12):
            yield self.charge(f"c{n}")
            yield self.invoice(f"i{n}", [f"c{n}"] if self.chance.random() < 0.8 else [])
            yield self.invoice(f"n{n}", [f"c{n}"], sign=-1)
            yield self.payment(f"y{n}")
            yield self.encounter(f"e{n}")
            yield self.appointment(f"a{n}", n)
            yield self.slot(f"s{n}", n)
            yield self.order(f"o{n}")
            yield self.specimen(f"m{n}")
            yield self.report(f"d{n}")

    def moment(self, spread: int = 20) -> datetime:
        """About the days of the report, often near midnight, or in the hour that there is twice."""
        if self.chance.random() < 0.2:
            return datetime(2026, 10, 25, self.chance.randrange(3), self.chance.randrange(60), tzinfo=UTC)
        day = FIRST + timedelta(days=self.chance.randrange(-spread // 4, spread))
        return datetime.combine(day, time(self.chance.choice((0, 8, 12, 22, 23)), self.chance.randrange(60), self.chance.randrange(60)), ZONE)

    def text(self, spread: int = 20) -> str:
        """A dateTime in some zone, or a date."""
        moment = self.moment(spread)
        zone = self.chance.choice((ZONE, UTC, ZoneInfo("America/New_York")))
        return moment.date().isoformat() if self.chance.random() < 0.2 else moment.astimezone(zone).isoformat()

    def charge(self, identity: str) -> Json:
        made: Json = {
            "resourceType": "ChargeItem",
            "id": identity,
            "status": "billable",
            "code": {"text": "x"},
            "subject": {"reference": "Patient/x"},
        }
        if self.chance.random() < 0.8:
            made["definitionCanonical"] = [f"urn:t{self.chance.randrange(3)}|1"]
        if self.chance.random() < 0.8:
            actors = [self.chance.choice((*_DOCTORS, "Organization/x", "Practitioner/gone")) for _ in range(self.chance.randint(1, 2))]
            made["performer"] = [{"actor": {"reference": each}} for each in actors]
        return made

    def invoice(self, identity: str, charges: list[str], sign: int = 1) -> Json:
        currency = self.chance.choice(tuple(DIGITS))
        lines, net, tax = [], Decimal(0), Decimal(0)
        for charge in [*charges, *([None] if self.chance.random() < 0.5 else [])]:
            own = (sign * self.amount(currency), sign * self.amount(currency))
            net, tax = net + own[0], tax + own[1]
            what = {"chargeItemReference": {"reference": f"ChargeItem/{charge}"}} if charge else {"chargeItemCodeableConcept": {"text": "x"}}
            lines.append({**what, **self.price(own, currency)})
        if self.chance.random() < 0.3:
            net += self.amount(currency)
        statuses = ("issued", "issued", "balanced", "cancelled", "draft", "entered-in-error")
        made = {
            "resourceType": "Invoice",
            "id": identity,
            "status": self.chance.choice(statuses),
            "lineItem": lines,
            "totalNet": {"value": net, "currency": currency},
            "totalGross": {"value": net + tax, "currency": currency},
        }
        if self.chance.random() < 0.9:
            made["date"] = self.text(160 if sign > 0 else 20)
        if self.chance.random() < 0.6:
            made["identifier"] = [{"system": NUMBER, "value": identity}]
        extensions = [self.balance(currency)] if sign > 0 and self.chance.random() < 0.7 else []
        extensions += [{"url": CREDITS, "valueReference": {"reference": "Invoice/other"}}] if sign < 0 else []
        return made | ({"extension": extensions} if extensions else {})

    def balance(self, currency: str) -> Json:
        """What an Invoice shows as due; now and then it is overpaid."""
        due = self.amount(currency) * self.chance.choice((1, 1, 0, -1))
        return {"url": BALANCE, "extension": [{"url": "due", "valueMoney": {"value": due, "currency": currency}}]}

    def price(self, own: tuple[Decimal, Decimal], currency: str) -> Json:
        net, tax = ({"value": each, "currency": currency} for each in own)
        if self.chance.random() < 0.5:
            return {"extension": [{"url": PRICE, "extension": [{"url": "net", "valueMoney": net}, {"url": "tax", "valueMoney": tax}]}]}
        more, less = self.amount(currency), self.amount(currency)
        kinds = {"base": own[0] - more + less, "surcharge": more, "discount": less, "tax": own[1], "informational": self.amount(currency)}
        return {"priceComponent": [{"type": kind, "amount": {"value": each, "currency": currency}} for kind, each in kinds.items()]}

    def amount(self, currency: str) -> Decimal:
        return Decimal(self.chance.randrange(100_000)).scaleb(-DIGITS[currency])

    def payment(self, identity: str) -> Json:
        currency = self.chance.choice(tuple(DIGITS))
        made: Json = {
            "resourceType": "PaymentReconciliation",
            "id": identity,
            "status": self.chance.choice(("active", "active", "cancelled")),
            "outcome": self.chance.choice(("complete", "queued", "error")),
            "created": "2026-10-25",
            "paymentDate": self.moment().date().isoformat(),
            "paymentAmount": {"value": self.amount(currency) * self.chance.choice((1, 1, -1)), "currency": currency},
        }
        if self.chance.random() < 0.8:
            method = {"url": f"{CANON}/StructureDefinition/payment-method", "valueCode": self.chance.choice(("cash", "card"))}
            made["extension"] = [method]
        return made

    def encounter(self, identity: str) -> Json:
        status = self.chance.choice(("arrived", "triaged", "in-progress", "finished", "finished", "cancelled", "planned", "entered-in-error"))
        at, history = self.moment(), []
        for past in ("arrived", "triaged", "in-progress"):
            if self.chance.random() < 0.6:
                after = at + timedelta(seconds=self.chance.randrange(9_000))
                history.append({"status": past, "period": {"start": at.astimezone(UTC).isoformat(), "end": after.astimezone(UTC).isoformat()}})
                at = after
        made: Json = {"resourceType": "Encounter", "id": identity, "status": status, "class": {"code": "AMB"}, "statusHistory": history}
        made["period"] = {"start": at.astimezone(UTC).isoformat()}
        if not history:
            del made["statusHistory"]
        if self.chance.random() < 0.8:
            place: Json = {"location": {"reference": f"Location/l{self.chance.randrange(2)}"}}
            made["location"] = [place | ({"period": {"start": at.isoformat()}} if self.chance.random() < 0.8 else {})]
        if self.chance.random() < 0.8:
            code = {"coding": [{"system": f"{CANON}/CodeSystem/queue-zone", "code": self.chance.choice(_ZONES)}]}
            part = {"url": "zone", "valueCodeableConcept": code}
            made["extension"] = [{"url": f"{CANON}/StructureDefinition/queue-priority", "extension": [part]}]
        return made

    def appointment(self, identity: str, number: int) -> Json:
        # No two at the same time, which would be a double booking.
        start = datetime.combine(FIRST + timedelta(days=number * 2 - 4), time(number, 15), ZONE)
        status = self.chance.choice(("booked", "fulfilled", "fulfilled", "noshow", "cancelled", "arrived", "pending", "entered-in-error"))
        actors = {self.chance.choice(_DOCTORS) for _ in range(self.chance.randint(1, 2))} if self.chance.random() < 0.9 else {"Location/l0"}
        made: Json = {"resourceType": "Appointment", "id": identity, "status": status, "start": start.isoformat()}
        made["end"] = (start + timedelta(minutes=20)).isoformat()
        made["participant"] = [{"actor": {"reference": each}, "status": "accepted"} for each in sorted(actors)]
        if self.chance.random() < 0.7:
            codes = {self.chance.choice(("A", "b")) for _ in range(2)}
            made["serviceType"] = [{"coding": [{"system": "urn:services", "code": each}]} for each in sorted(codes)]
        return made

    def slot(self, identity: str, number: int) -> Json:
        start = datetime.combine(FIRST + timedelta(days=self.chance.randrange(-2, 16)), time(22 + number % 2, number), ZONE)
        end = start + timedelta(minutes=self.chance.randrange(10, 90))
        status = self.chance.choice(("free", "busy", "busy", "busy-tentative", "busy-unavailable", "entered-in-error"))
        schedule = {"reference": f"Schedule/h{self.chance.randrange(2)}"}
        made = {"resourceType": "Slot", "id": identity, "schedule": schedule, "status": status}
        return made | {"start": start.isoformat(), "end": end.isoformat()}

    def order(self, identity: str) -> Json:
        made = {"resourceType": "ServiceRequest", "id": identity, "status": "active", "intent": "order", "subject": {"reference": "Patient/x"}}
        return made | ({"authoredOn": self.text()} if self.chance.random() < 0.9 else {})

    def specimen(self, identity: str) -> Json:
        return {"resourceType": "Specimen", "id": identity, "collection": {"collectedDateTime": self.text()}}

    def report(self, identity: str) -> Json:
        made: Json = {"resourceType": "DiagnosticReport", "id": identity, "code": {"text": "x"}}
        made["status"] = self.chance.choice(("final", "final", "amended", "corrected", "preliminary", "cancelled"))
        if self.chance.random() < 0.9:
            made["issued"] = (self.moment() + timedelta(days=3)).astimezone(UTC).isoformat()
        made["basedOn"] = [{"reference": f"ServiceRequest/o{self.chance.randrange(13)}"} for _ in range(self.chance.randint(0, 2))]
        made["specimen"] = [{"reference": f"Specimen/m{self.chance.randrange(12)}"}]
        if self.chance.random() < 0.8:
            made["code"] = {"coding": [{"system": "http://loinc.org", "code": self.chance.choice(("4548-4", "718-7"))}]}
        if self.chance.random() < 0.8:
            made["category"] = [{"coding": [{"system": "urn:sections", "code": self.chance.choice(("LAB", "RAD"))}]}]
        return made if made["basedOn"] else {name: value for name, value in made.items() if name != "basedOn"}
