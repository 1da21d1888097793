"""What resources say, as plain text: names, addresses, concepts, quantities, and what a paper tells of a clinic, a patient and a doctor.

https://hl7.org/fhir/R4/datatypes.html

All of it is data to the page, never markup. What could change the look of other text is taken out: control characters, and marks that turn the
direction of writing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from .wording import Wording

Json = Mapping[str, Any]
MAX_TEXT: Final = 4_000
"""Characters of one text; what is longer ends in three dots."""
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u00ad\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\uffff]"
)
_SPACES: Final = re.compile(r"[ \t\n\u00a0]+")
_MONTHS_TO: Final = 24
_LICENCES: Final = frozenset({"MD", "DO", "LN", "RN", "RPH", "PA", "NP"})
_TAX: Final = frozenset({"TAX", "NE"})


@dataclass(frozen=True)
class Record:
    """What a paper is about: the resource, all that it refers to by the text of the reference, and what else was looked up, by a name."""

    main: Json
    known: Mapping[str, Json]
    beside: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    clinic: Json | None = None

    def of(self, reference: Any) -> Json | None:
        """The resource that a Reference leads to, if it may be seen."""
        text = reference.get("reference") if isinstance(reference, Mapping) else None
        return self.known.get(text) if isinstance(text, str) else None

    def named(self, reference: Any) -> str:
        """What a Reference is called: the name of what it leads to, else its display."""
        found = self.of(reference)
        return (name_of(found, self) if found is not None else "") or plain((reference or {}).get("display"))

    @property
    def patient(self) -> Json | None:
        """The Patient, where the caller may see them."""
        for name in ("subject", "patient", "for"):
            found = self.of(self.main.get(name))
            if found is not None and found.get("resourceType") == "Patient":
                return found
        return next((each for each in self.known.values() if each.get("resourceType") == "Patient"), None)


def plain(value: Any, most: int = MAX_TEXT) -> str:
    """A text in one line, without what cannot be seen."""
    if not isinstance(value, str):
        return ""
    text = _SPACES.sub(" ", _UNSEEN.sub("", value[: most * 2])).strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def paragraphs(value: Any) -> list[str]:
    """The lines of a text that have something in them."""
    if not isinstance(value, str):
        return []
    return [line for line in (plain(part) for part in value[:MAX_TEXT].splitlines()) if line]


def name_of(resource: Json, record: Record | None = None) -> str:
    """The name of a person, an organization, a location or a thing."""
    names = resource.get("name")
    if isinstance(names, str):
        return plain(names, 200)
    if isinstance(names, Sequence) and names:
        best = min(names, key=lambda each: {"official": 0, "usual": 1}.get(each.get("use", ""), 2) + 3 * (each.get("use") == "old"))
        parts = [*best.get("prefix", ()), *best.get("given", ()), best.get("family"), *best.get("suffix", ())]
        return plain(best.get("text"), 200) or plain(" ".join(str(part) for part in parts if part), 200)
    if resource.get("resourceType") == "PractitionerRole" and record is not None:
        person = resource.get("practitioner")
        return record.named(person) if person else ""
    return concept(resource.get("code"))


def concept(value: Any) -> str:
    """What a CodeableConcept says: its text, else a display, else a code."""
    if not isinstance(value, Mapping):
        return ""
    codings = value.get("coding", ())
    found = value.get("text") or next((each["display"] for each in codings if each.get("display")), None)
    return plain(found or next((each["code"] for each in codings if each.get("code")), None), 500)


def quantity(value: Any, wording: Wording) -> str:
    """A Quantity with its unit."""
    if not isinstance(value, Mapping) or "value" not in value:
        return ""
    return f"{plain(value.get('comparator'))}{wording.number(value['value'])} {unit(value)}".strip()


def unit(value: Json) -> str:
    """The unit of a Quantity as people write it."""
    found = plain(value.get("unit") or value.get("code"), 40)
    if found in ("1", "{score}"):
        return ""
    return {"Cel": "°C", "[degF]": "°F", "mm[Hg]": "mmHg"}.get(found, found).replace("[IU]", "IU")


def amount_of(value: Any) -> tuple[Decimal, str] | None:
    """The amount and the currency of a Money."""
    number = value.get("value") if isinstance(value, Mapping) else None
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        return None
    return Decimal(number), str(value.get("currency") or "XXX")


def address_lines(resource: Json | None) -> list[str]:
    """The lines of an address as it is written on letters."""
    found = (resource or {}).get("address", ())
    listed = [found] if isinstance(found, Mapping) else list(found)
    if not listed:
        return []
    best = min(listed, key=lambda each: {"billing": 0, "home": 1, "work": 1}.get(each.get("use", ""), 2) + 3 * (each.get("use") == "old"))
    lines = [plain(line, 120) for line in best.get("line", ())][:4]
    town = " ".join(part for part in (plain(best.get("postalCode"), 20), plain(best.get("city"), 80)) if part)
    lines += [town, plain(best.get("state"), 60), plain(best.get("country"), 60)]
    return [line for line in lines if line] or paragraphs(best.get("text"))[:5]


def clinic_block(clinic: Json | None, wording: Wording) -> dict[str, Any]:
    """The letterhead: name, address, how to reach it, and its tax number."""
    if clinic is None:
        return {"name": "", "lines": [], "contact": []}
    telecom = [each for each in clinic.get("telecom", ()) if each.get("value")]
    contact = [wording("telephone", plain(each["value"], 60)) for each in telecom if each.get("system") == "phone"][:1]
    contact += [plain(each["value"], 120) for each in telecom if each.get("system") in ("email", "url")][:2]
    tax = next((each for each in clinic.get("identifier", ()) if _TAX & set(_type_codes(each)) and each.get("value")), None)
    if tax is not None:
        contact.append(wording("tax-number", plain(tax["value"], 60)))
    return {"name": name_of(clinic), "lines": address_lines(clinic), "contact": contact}


def patient_block(patient: Json | None, wording: Wording, today: date) -> dict[str, Any]:
    """The patient: name, address, and what identifies them."""
    if patient is None:
        return {"name": "", "lines": [], "facts": []}
    born = patient.get("birthDate")
    facts = []
    if born:
        age = _age(born, today, wording)
        facts.append([wording("born"), f"{wording.date(born)} ({age})" if age else wording.date(born)])
    if wording.has(f"sex-{patient.get('gender')}"):
        facts.append([wording("sex"), wording(f"sex-{patient['gender']}")])
    number = next((plain(each["value"], 60) for each in _numbers(patient) if each.get("value")), None)
    if number:
        facts.append([wording("patient-number"), number])
    return {"name": name_of(patient), "lines": address_lines(patient), "facts": facts}


def doctor_block(record: Record, reference: Any, wording: Wording) -> dict[str, Any]:
    """A doctor: name, what they are, and the number of their licence."""
    found = record.of(reference)
    role = found if found is not None and found.get("resourceType") == "PractitionerRole" else None
    person = record.of(role.get("practitioner")) if role is not None else found
    lines = [concept(each) for each in (role or {}).get("specialty", ())][:1]
    for each in (person or {}).get("qualification", ()):
        number = next((plain(one["value"], 60) for one in each.get("identifier", ()) if one.get("value")), None)
        lines += [part for part in (concept(each.get("code")), wording("licence", number) if number else "") if part]
    if not any(each.get("identifier") for each in (person or {}).get("qualification", ())):
        licences = (each for each in (person or {}).get("identifier", ()) if _LICENCES & set(_type_codes(each)) and each.get("value"))
        lines += [wording("licence", plain(each["value"], 60)) for each in licences][:1]
    return {"name": record.named(reference), "lines": list(dict.fromkeys(lines))[:4]}


def _age(born: str, today: date, wording: Wording) -> str:
    try:
        day = date.fromisoformat(born)
    except ValueError:
        return ""
    months = (today.year - day.year) * 12 + today.month - day.month - (today.day < day.day)
    if months < 0:
        return ""
    return wording("age-months", str(months)) if months < _MONTHS_TO else wording("age-years", str(months // 12))


def _numbers(patient: Json) -> Iterable[Json]:
    """Identifiers, the medical record number first."""
    return sorted(patient.get("identifier", ()), key=lambda each: "MR" not in _type_codes(each) and each.get("use") != "usual")


def _type_codes(identifier: Json) -> Iterator[str]:
    for coding in identifier.get("type", {}).get("coding", ()):
        yield str(coding.get("code", ""))
