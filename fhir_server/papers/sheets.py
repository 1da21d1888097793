"""What the sheets of all papers share: title, letterhead, patient, words and marks. A sheet is what a template reads: texts, and lists of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from .reading import Json, Record, clinic_block, paragraphs, patient_block, plain
from .wording import Wording, languages

Sheet = dict[str, Any]


def sheet(  # noqa: PLR0913 - what a letter begins with
    kind: str,
    record: Record,
    wording: Wording,
    *,
    heading: str,
    number: str = "",
    on: date | None = None,
    facts: Sequence[tuple[str, str]] = (),
    mark: str | None = None,
    banners: Sequence[str] = (),
    **body: Any,
) -> Sheet:
    """The sheet of a kind, which is the name of its template. The patient's age is that of the day `on`; facts without a value are left out."""
    clinic = clinic_block(record.clinic, wording)
    patient = patient_block(record.patient, wording, on or date.min)
    title = f"{heading} {number}".strip()
    return {
        "kind": kind,
        "title": wording.joined((title, patient["name"])),
        "heading": heading,
        "lang": wording.language.split("-")[0].lower(),
        "words": dict(languages()[wording.language.split("-")[0].lower()]),
        "clinic": clinic,
        "patient": patient,
        "facts": [[name, value] for name, value in facts if value],
        "mark": mark,
        "banners": list(banners),
        "foot": " · ".join(part for part in (clinic["name"], title) if part),
        "running": " · ".join(part for part in (title, patient["name"]) if part),
        **body,
    }


def day_of(text: Any, wording: Wording) -> date | None:
    """The day of a date or time of FHIR in the clinic's zone; None for less than a day."""
    try:
        return wording.moment(text).date() if isinstance(text, str) else None
    except ValueError:
        return None


def identifier_of(resource: Json, system: str = "") -> str:
    """The value of the identifier of the system that ends so, else of the first one."""
    found = [each for each in resource.get("identifier", ()) if each.get("value")]
    best = next((each for each in found if str(each.get("system")).endswith(system)), found[0] if found else {})
    return plain(best.get("value"), 80)


def notes_of(resource: Json, name: str = "note") -> list[str]:
    """The paragraphs of all annotations."""
    return [line for each in resource.get(name, ()) if isinstance(each, Mapping) for line in paragraphs(each.get("text"))]
