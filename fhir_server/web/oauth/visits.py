"""A patient's encounters as a person may see them, to open an app for one.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#launch-context-arrives-with-your-access_token
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any

from fhir_server.search import Grant

from .patients import page_of
from .services import Services


@dataclass(frozen=True, slots=True)
class Visit:
    """An encounter as one is chosen from a list; `begun` where its beginning is known to the minute, else `day` is what is known of it."""

    id: str
    begun: datetime | None
    day: str
    state: str
    what: str


def visits(services: Services, grant: Grant, patient: str, cursor: str | None) -> tuple[tuple[Visit, ...], str | None]:
    """The encounters of a patient, newest first, and what leads to the next page. Raises Outcome as a search does."""
    found, following = page_of(services, grant, "Encounter", [("patient", patient), ("_sort", "-date")], cursor)
    return tuple(map(_visit, found)), following


def _visit(resource: dict[str, Any]) -> Visit:
    start = str(resource.get("period", {}).get("start", ""))
    kinds = (*map(_words, resource.get("type", ())), _words(resource.get("serviceType", {})), _words({"coding": [resource.get("class", {})]}))
    reasons = map(_words, resource.get("reasonCode", ()))
    what = [next(filter(None, kinds), ""), next(filter(None, reasons), "")]
    return Visit(resource["id"], _moment(start), start[:10], str(resource.get("status", "")), ": ".join(filter(None, what)))


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    # In the first and last year of the calendar there is no other zone for each moment.
    return found if found.tzinfo is not None and MINYEAR < found.year < MAXYEAR else None


def _words(concept: dict[str, Any]) -> str:
    codings = concept.get("coding", ())
    shown = (coding.get(name) for name in ("display", "code") for coding in codings)
    return str(concept.get("text") or next(filter(None, shown), ""))
