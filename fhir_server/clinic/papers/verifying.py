"""What somebody is told who scans the code of a paper that they hold: that it was given out here, what stands on it, and whether it still counts.

No more than the paper says itself, and of its patient only the initials: whoever has the code has the paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from fhir_server.clinic.acting import content
from fhir_server.papers.bills import NUMBER, due_of
from fhir_server.papers.reading import Record, amount_of, concept, name_of
from fhir_server.papers.sheets import identifier_of
from fhir_server.papers.slip import medicine_of
from fhir_server.search import SYSTEM
from fhir_server.store import Snapshot, Store
from fhir_server.store.ops import Resource

from .issuing import CODE, LASTING

_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{16}")
_NAMES: Final = {
    "invoice": "Invoice",
    "receipt": "Receipt",
    "prescription": "Prescription",
    "report": "Laboratory report",
    "statement": "Statement of account",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """A paper that was given out: what it is, by whom and when, whose initials, what stands on it, and whether that still counts.

    `due` is what is to be paid of an invoice now, which is not what it was when the paper was printed; `payable` the id of an Invoice of which
    something is.
    """

    name: str
    clinic: str
    at: datetime
    initials: str
    contents: tuple[str, ...]
    is_valid: bool
    due: str | None = None
    payable: str | None = None


def verify(store: Store, code: str) -> Verified | None:
    """The paper with a code, None where none was given out with it."""
    if not _SHAPE.fullmatch(code):
        return None
    with store.latest(SYSTEM) as db:
        found = [content(version) for _, version in db.identified([("DocumentReference", CODE, code)])]
        # Codes are looked for without regard to capitals.
        document = next((each for each in found if any(one.get("value") == code for one in each.get("identifier", ()))), None)
        if document is None:
            return None
        kind = document["category"][0]["coding"][0]["code"]
        record = _record(db, document)
    made, now = datetime.fromisoformat(document["date"]), record.main.get("meta", {}).get("lastUpdated")
    counts = _items(record) if kind == "prescription" else [record.main]
    valid = LASTING[kind]
    is_valid = bool(record.main) and (valid is None or all(each.get("status") in valid for each in counts))
    if kind == "report" and now is not None and datetime.fromisoformat(now) > made:
        is_valid = False
    patient = record.patient
    initials = " ".join(f"{word[0]}." for word in name_of(patient).split()) if patient is not None else ""
    clinic = next((name_of(each) for each in record.known.values() if each["resourceType"] == "Organization"), "")
    due = _due(kind, record)
    return Verified(
        _NAMES[kind],
        clinic,
        made,
        initials,
        tuple(_contents(kind, record, document)),
        is_valid,
        f"{due[0]} {due[1]}" if due is not None else None,
        record.main["id"] if due is not None and due[0] > 0 else None,
    )


def _record(db: Snapshot, document: Resource) -> Record:
    """What the paper was made of, as it is now; the first is what it is of."""
    texts = [str(each["reference"]) for each in document["context"]["related"]]
    pairs = [(name, identity) for name, _, identity in (text.partition("/") for text in texts)]
    known = {f"{version.type}/{version.id}": content(version) for version in db.read_many(pairs)}
    return Record(known.get(texts[0], {}), known)


def _items(record: Record) -> list[Resource]:
    return [dict(each) for each in record.known.values() if each["resourceType"] == "MedicationRequest"]


def _due(kind: str, record: Record) -> tuple[Decimal, str] | None:
    if kind != "invoice" or record.main.get("status") not in {"issued", "balanced"}:
        return None
    found = due_of(record.main)
    return found if found is not None and found[0] >= 0 else None


def _contents(kind: str, record: Record, document: Resource) -> Iterator[str]:
    if kind == "statement":
        yield str(document.get("description", ""))
    elif kind == "prescription":
        yield from (medicine_of(record, each) for each in _items(record))
    elif kind == "report":
        yield concept(record.main.get("code"))
    else:
        yield identifier_of(record.main, NUMBER)
        found = amount_of(record.main.get("totalGross")) or amount_of(record.main.get("paymentAmount"))
        if found is not None:
            yield f"{found[0]} {found[1]}"
