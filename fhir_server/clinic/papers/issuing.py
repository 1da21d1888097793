"""Papers that are given out: the first one of an invoice, a report, a prescription or a receipt is kept as it was, and a copy of it beside it.

https://hl7.org/fhir/R4/documentreference.html, https://hl7.org/fhir/R4/binary.html

Whoever asks again gets the copy, the same bytes each time, if they may see all that is on it; else one is made of what they may see. Why a GET may
write here: docs/decisions/0036-papers-by-typst.md
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fhir_server import fhirjson
from fhir_server.access.roles import HELD
from fhir_server.clinic.acting import Act, carry_out, resource_of
from fhir_server.outcome import Outcome
from fhir_server.papers import KINDS, Look, Paper, Record, Wording, balances, language_of, press
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON
from fhir_server.store import Snapshot, Store, instant
from fhir_server.store.database import Connection
from fhir_server.store.ops import Op, Put, Resource, Version

from .accounts import Period, gather_statement
from .gathering import GATHER, Gathered, Gatherer

CODE: Final = f"{CANON}/sid/paper-code"
DIGEST: Final = f"{CANON}/sid/paper-sha256"
KIND: Final = f"{CANON}/CodeSystem/paper"
FORMAT: Final = f"{CANON}/CodeSystem/paper-format"
LASTING: Final[dict[str, frozenset[str] | None]] = {
    "invoice": frozenset({"issued", "balanced"}),
    "receipt": frozenset({"active"}),
    "prescription": frozenset({"active"}),
    "report": frozenset({"final", "amended", "corrected", "appended"}),
    "statement": None,
}
"""Papers of which the first one is kept, and the status in which they are valid, None for any."""
_LETTER: Final = frozenset({"US", "USA", "CA", "CAN", "MX", "MEX", "PH", "PHL", "CL", "CHL", "CO", "COL"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A paper: its kind, the resource that it is of, and what is asked for otherwise. `root` is the address that its QR code leads to.

    A statement has a `period`.
    """

    kind: str
    type: str
    id: str
    root: str
    language: str | None = None
    paper: Paper | None = None
    period: Period | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """The PDF, the version of the resource that it is of, and whether it is a copy."""

    pdf: bytes
    version: str
    is_copy: bool


def give(store: Store, act: Act, wanted: Wanted, *, keep: bool = True) -> Given:
    """Prints what the caller may see; the first valid one of its kind is kept unless `keep` is false, and whatever comes after it says "Copy".

    Some 20 ms of a core, twice that for the first one. Raises Outcome `not-found`, `gone`, and `too-costly` for what would be a book.
    """
    with store.snapshot(act.grant) as db:
        gatherer = Gatherer(db, store.registry, act.grant)
        main = gatherer.main(wanted.type, wanted.id)
        gathered = GATHER[wanted.kind](gatherer, main) if wanted.period is None else gather_statement(gatherer, main, wanted.period)
    record = gathered.record
    version = str(record.main["meta"]["versionId"])
    wording = Wording(language_of(record.patient, wanted.language), store.registry.zone)
    paper = wanted.paper or _paper_of(record)
    if not _lasts(wanted.kind, gathered):
        return Given(_printed(wanted, record, wording, Look(store.clock(), paper)), version, is_copy=False)
    for _ in range(2):
        kept = _kept(store, gathered, wanted)
        if kept is not None:
            same = kept.language == wording.language and kept.paper == paper and _covers(store, act, kept)
            if same:
                return Given(_bytes_of(store, kept.copy), version, is_copy=True)
            look = Look(kept.at, paper, copy=True, link=_link(wanted, kept.code))
            return Given(_printed(wanted, record, wording, look), version, is_copy=True)
        if not _is_whole(store, act, gathered):
            # Whoever sees a part of it prints no first one, which others would be given copies of.
            return Given(_printed(wanted, record, wording, Look(store.clock(), paper, copy=True)), version, is_copy=True)
        code, at = secrets.token_urlsafe(12), store.clock().replace(microsecond=0)
        looks = [Look(at, paper, copy=copy, link=_link(wanted, code)) for copy in (False, True)]
        first, again = (_printed(wanted, record, wording, look) for look in looks)
        if not keep:
            return Given(first, version, is_copy=False)
        try:
            carry_out(store, act, _Keeping(wanted, gathered, wording, looks[0], code, first, again))
        except Outcome as outcome:
            # Somebody else has had it in the same moment.
            if outcome.category != "precondition":
                raise
            continue
        return Given(first, version, is_copy=False)
    raise Outcome("conflict", "The paper is being given out just now; ask again")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A paper that was given out before."""

    code: str
    language: str
    paper: str
    at: datetime
    copy: str
    made_of: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Keeping:
    """What is written when the first paper is given out."""

    wanted: Wanted
    gathered: Gathered
    wording: Wording
    look: Look
    code: str
    first: bytes
    again: bytes

    def __call__(self, _connection: Connection, _db: Snapshot) -> Sequence[Op]:
        identity = _identity(self.wanted, self.gathered)
        context = {"reference": f"{self.wanted.type}/{self.wanted.id}"}
        binaries = [
            {"resourceType": "Binary", "contentType": "application/pdf", "securityContext": context, "data": base64.b64encode(pdf).decode()}
            for pdf in (self.first, self.again)
        ]
        document = self._document([f"Binary/{identity}", f"Binary/{identity}-copy"])
        return [
            Put(document, identity, absent=True),
            Put(binaries[0], identity, absent=True),
            Put(binaries[1], f"{identity}-copy", absent=True),
        ]

    def _document(self, addresses: Sequence[str]) -> Resource:
        wanted, record = self.wanted, self.gathered.record
        patient = record.patient
        titles = (wanted.kind, f"{wanted.kind}, copy")
        made: Resource = {
            "resourceType": "DocumentReference",
            # What patients have restricted by a label stays so on paper.
            **({"meta": {"security": labels}} if (labels := _labels(self.gathered.versions.values())) else {}),
            "masterIdentifier": {"system": DIGEST, "value": hashlib.sha256(self.first).hexdigest()},
            "identifier": [{"system": CODE, "value": self.code}],
            "status": "current",
            "docStatus": "final",
            "category": [{"coding": [{"system": KIND, "code": wanted.kind}]}],
            "date": instant(self.look.at),
            "content": [
                {
                    "attachment": _attachment(self.wording, self.look, address, pdf, title),
                    "format": {"system": FORMAT, "code": self.look.paper},
                }
                for address, pdf, title in zip(addresses, (self.first, self.again), titles, strict=True)
            ],
            "context": {"related": [{"reference": f"{name}/{identity}"} for name, identity in sorted(self.gathered.versions)]},
        }
        # What it is of comes first.
        if (said := _said(record)) is not None:
            made["description"] = said
        made["context"]["related"].sort(key=lambda each: each["reference"] != f"{wanted.type}/{wanted.id}")
        return made | ({"subject": {"reference": f"Patient/{patient['id']}"}} if patient is not None else {})


def _said(record: Record) -> str | None:
    """What stands on a statement, which nothing else of the record says later."""
    if (period := record.beside.get("period")) is None:
        return None
    sums = [f"{amount} {currency}" for currency, amount in sorted(balances(record.beside["entries"]).items())]
    return ", ".join((f"{period[0]['start'] or ''} – {period[0]['end']}".strip(), *sums))


def _attachment(wording: Wording, look: Look, address: str, pdf: bytes, title: str) -> dict[str, Any]:
    return {
        "contentType": "application/pdf",
        "language": wording.language,
        "url": address,
        "size": len(pdf),
        # R4 has SHA-1 here; the identifier of the document is a SHA-256.
        "hash": base64.b64encode(hashlib.sha1(pdf, usedforsecurity=False).digest()).decode(),
        "title": title,
        "creation": instant(look.at),
    }


def _printed(wanted: Wanted, record: Record, wording: Wording, look: Look) -> bytes:
    return press(KINDS[wanted.kind](record, wording), look)


def _lasts(kind: str, gathered: Gathered) -> bool:
    """Whether the first paper is to be kept: it is valid, and nothing on it is held back from its patient."""
    if kind not in LASTING:
        return False
    valid = LASTING[kind]
    parts = gathered.record.beside.get("slip") or [gathered.record.main]
    held = any(_is_held(version) for version in gathered.versions.values())
    return not held and (valid is None or any(part.get("status") in valid for part in parts))


def _is_held(version: Version) -> bool:
    return any((label.get("system"), label.get("code")) == (HELD["system"], HELD["code"]) for label in _labels([version]))


def _labels(versions: Iterable[Version]) -> list[dict[str, Any]]:
    """The security labels of some resources, each once."""
    found: list[dict[str, Any]] = []
    for version in versions:
        found += [label for label in fhirjson.loads(version.body or b"{}").get("meta", {}).get("security", ()) if label not in found]
    return found


def _identity(wanted: Wanted, gathered: Gathered) -> str:
    return f"paper-{wanted.kind}-{gathered.key}"


def _kept(store: Store, gathered: Gathered, wanted: Wanted) -> _Kept | None:
    with store.latest(SYSTEM) as db:
        document = resource_of(db.read("DocumentReference", _identity(wanted, gathered)))
    if document is None:
        return None
    first, again = (each["attachment"] for each in document["content"])
    pairs = (str(each["reference"]).split("/") for each in document["context"]["related"])
    return _Kept(
        document["identifier"][0]["value"],
        first["language"],
        document["content"][0]["format"]["code"],
        datetime.fromisoformat(first["creation"]),
        again["url"].partition("/")[2],
        tuple((name, identity) for name, identity in pairs),
    )


def _covers(store: Store, act: Act, kept: _Kept) -> bool:
    """Whether the caller may see all that a paper was made of, and whole."""
    if any(act.grant.hidden_of(name) for name, _ in kept.made_of):
        return False
    with store.snapshot(act.grant) as db:
        seen = {(version.type, version.id) for version in db.read_many(kept.made_of)}
    return seen == set(kept.made_of)


def _is_whole(store: Store, act: Act, gathered: Gathered) -> bool:
    """Whether the caller sees all that belongs on the paper."""
    if gathered.is_narrow or any(act.grant.hidden_of(name) for name, _ in gathered.versions):
        return False
    with store.latest(SYSTEM) as db:
        return not db.read_many(sorted(gathered.unseen))


def _bytes_of(store: Store, identity: str) -> bytes:
    with store.latest(SYSTEM) as db:
        found = resource_of(db.read("Binary", identity))
    if found is None:
        raise Outcome("gone", "The paper that was kept is not there any more")
    return base64.b64decode(found["data"])


def _link(wanted: Wanted, code: str) -> str:
    return f"{wanted.root}/paper/{code}"


def _paper_of(record: Record) -> Paper:
    """Letter where the clinic is in a country that writes on it, else A4."""
    addresses = (record.clinic or {}).get("address", ())
    countries = {str(each.get("country", "")).strip().upper() for each in addresses}
    return "letter" if countries & _LETTER else "a4"
