"""Patients as a person may see them: found by the same search as everywhere, under the person's own grant.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#requesting-context-with-scopes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from fhir_server import fhirjson
from fhir_server.interactions import Exchange, dispatch
from fhir_server.outcome import Outcome
from fhir_server.search import Grant
from fhir_server.store.ids import is_id

from .services import Services

CRITERIA: Final = ("name", "birthdate", "identifier")
"""What patients are looked for by, as a search has it."""

_PAGE: Final = "20"
_LONGEST: Final = 200  # Characters of a criterion.


@dataclass(frozen=True, slots=True)
class Person:
    """A patient as one is chosen from a list."""

    id: str
    name: str
    birth_date: str
    gender: str
    identifiers: str


@dataclass(frozen=True, slots=True)
class Sought:
    """A page of patients, and what they were looked for by; `following` is the query of the next page, `wrong` what is wrong with the question."""

    criteria: dict[str, str]
    people: tuple[Person, ...]
    following: str | None
    wrong: str


def sought(services: Services, grant: Grant, given: Mapping[str, str]) -> Sought:
    """What the fields of a picker's form find; what is wrong with them is told rather than raised."""
    criteria = {name: given[name].strip() for name in CRITERIA if given.get(name, "").strip()}
    if not criteria:
        return Sought({}, (), None, "")
    try:
        people, cursor = find(services, grant, criteria, given.get("cursor"))
    except Outcome as outcome:
        if outcome.category not in ("parameter", "gone"):
            raise
        return Sought(criteria, (), None, outcome.issues[0].diagnostics)
    return Sought(criteria, people, urlencode({**criteria, "cursor": cursor}) if cursor is not None else None, "")


def find(services: Services, grant: Grant, criteria: dict[str, str], cursor: str | None) -> tuple[tuple[Person, ...], str | None]:
    """The patients that match all criteria, by family name, and what leads to the next page. Raises Outcome as a search does."""
    params: list[tuple[str, str]] = [(name, criteria[name][:_LONGEST]) for name in CRITERIA if name in criteria]
    people, following = page_of(services, grant, "Patient", [*params, ("_sort", "family")], cursor)
    return tuple(map(_person, people)), following


def page_of(
    services: Services, grant: Grant, kind: str, params: list[tuple[str, str]], cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Twenty resources of a search, and what leads to the next ones. Raises Outcome as a search does."""
    asked = (*params, ("_count", _PAGE), *([("_cursor", cursor)] if cursor is not None else []))
    exchange = Exchange("search", grant, f"{services.issuer()}/fhir", kind, params=asked)
    bundle = fhirjson.loads(dispatch(services.engine, exchange).body or b"{}")
    following = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    after = parse_qs(urlsplit(following).query)["_cursor"][0] if following is not None else None
    return [entry["resource"] for entry in bundle.get("entry", ()) if entry["resource"]["resourceType"] == kind], after


def get(services: Services, grant: Grant, identity: str) -> Person:
    """One patient. Raises Outcome `not-found` for one that there is not, or whom the person may not see."""
    return _person(_read(services, grant, "Patient", identity))


def check_context(services: Services, grant: Grant, patient: str, encounter: str | None) -> None:
    """Makes sure that the person may see patient and encounter, and that they belong together. Raises Outcome `not-found`, `forbidden`, `invalid`."""
    _read(services, grant, "Patient", patient)
    if encounter is not None:
        subject = _read(services, grant, "Encounter", encounter).get("subject", {}).get("reference", "")
        if subject.removeprefix(f"{services.issuer()}/fhir/") != f"Patient/{patient}":
            raise Outcome("invalid", "The encounter is not one of this patient")


def _read(services: Services, grant: Grant, kind: str, identity: str) -> dict[str, Any]:
    if not is_id(identity):
        raise Outcome("not-found", f"There is no such {kind}")
    reply = dispatch(services.engine, Exchange("read", grant, f"{services.issuer()}/fhir", kind, identity))
    found: dict[str, Any] = fhirjson.loads(reply.body or b"{}")
    return found


def _person(resource: dict[str, Any]) -> Person:
    names = resource.get("name", [])
    chosen = next((name for name in names if name.get("use") == "official"), names[0] if names else {})
    parts = [*chosen.get("given", ()), chosen.get("family", "")]
    name = " ".join(part for part in parts if part) or chosen.get("text", "") or "No name"
    identifiers = ", ".join(each["value"] for each in resource.get("identifier", ())[:3] if "value" in each)
    return Person(resource["id"], name, resource.get("birthDate", ""), resource.get("gender", ""), identifiers)
