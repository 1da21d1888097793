"""Free follow-ups: how long ago the last visit was that was paid for. https://hl7.org/fhir/R4/encounter.html"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from fhir_server.clinic.acting import content
from fhir_server.search import Registry
from fhir_server.search.params.date import parse_date
from fhir_server.store import Snapshot
from fhir_server.store.ops import Resource

from .ledger import paid_of


def days_since_paid_visit(db: Snapshot, registry: Registry, patient: str, encounter: Resource | None, now: datetime) -> int | None:
    """How many days ago the patient's last visit to a practitioner of this encounter began that something was paid for; None without one.

    Days are the clinic's. An encounter without practitioners counts every visit. Three statements; all from resources.
    """
    invoices = [content(version) for version in db.of_patient("Invoice", patient)]
    paid = [each for each in invoices if each.get("status") == "balanced" and paid_of(each) > 0]
    charged = {identity for each in paid for line in each.get("lineItem", ()) if (identity := _id_of(line, "chargeItemReference", "ChargeItem/"))}
    charges = [content(version) for version in db.read_many([("ChargeItem", each) for each in sorted(charged)])] if charged else []
    visited = {identity for each in charges if (identity := _id_of(each, "context", "Encounter/"))}
    visits = [content(version) for version in db.read_many([("Encounter", each) for each in sorted(visited)])] if visited else []
    own, doctors = (encounter or {}).get("id"), set(_practitioners(encounter or {}))
    days = [
        (now.date() - begun.astimezone(now.tzinfo).date()).days
        for visit in visits
        if visit["id"] != own and (not doctors or doctors & set(_practitioners(visit)))
        if (begun := _begun(visit, registry)) is not None and begun <= now
    ]
    return min(days, default=None)


def _id_of(holder: Mapping[str, Any], name: str, kind: str) -> str | None:
    text = str(holder.get(name, {}).get("reference", ""))
    return text.removeprefix(kind) if text.startswith(kind) else None


def _practitioners(encounter: Mapping[str, Any]) -> Iterator[str]:
    for each in encounter.get("participant", ()):
        if "reference" in each.get("individual", {}):
            yield each["individual"]["reference"]


def _begun(visit: Mapping[str, Any], registry: Registry) -> datetime | None:
    try:
        return parse_date(visit["period"]["start"], registry.zone)[0]
    except (KeyError, ValueError, OverflowError):
        return None
