"""What a patient's Consent permits, as rows that every statement can ask: to whom, for what, of which types and when.

https://hl7.org/fhir/R4/consent.html

A provision permits within all that it stands in. One about labels, codes, single resources or periods of the data permits nothing, since such
narrowing is not understood here; nor does a Consent that is about something else than privacy. What a Consent forbids besides stands in no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from .grant import Party
from .params.date import parse_date
from .statement import Statement

Json = Mapping[str, Any]

TYPES: Final = "http://hl7.org/fhir/resource-types"
NOT_UNDERSTOOD: Final = ("code", "data", "dataPeriod")
"""What narrows a provision in ways that are not followed here."""
_VOID: Final = (*NOT_UNDERSTOOD, "securityLabel", "modifierExtension")
_OPTED_IN: Final = frozenset({"OPTIN", "OPTINR"})
MOST: Final = 1_000
"""So many provisions of one Consent are looked at, and so many rows are made of them; more permits nothing more."""


class Permit(NamedTuple):
    """Permission for whoever is all of the `parties`, for one of the `purposes`, to resources of the `types`, from `lo` until `hi`.

    No parties are everybody, no purposes any, no types the whole clinical record.
    """

    parties: tuple[str, ...]
    purposes: tuple[str, ...]
    types: tuple[str, ...]
    lo: datetime
    hi: datetime


def permits_of(consent: Json, zone: ZoneInfo) -> tuple[Permit, ...]:
    """What a valid Consent permits, each once; nothing where it is not active, or not about privacy."""
    if consent.get("status") != "active" or "modifierExtension" in consent or "implicitRules" in consent:
        return ()
    if "patient-privacy" not in _codes([consent.get("scope", {})]):
        return ()
    provision = consent.get("provision", {})
    if "type" not in provision and _codes([consent.get("policyRule", {})]) & _OPTED_IN:
        # R4 has no type in the outermost provision, where the policy tells.
        provision = {**provision, "type": "permit"}
    found = (permit for path in islice(_paths(provision), MOST) if path[-1].get("type") == "permit" for permit in _permits(path, zone))
    return tuple(dict.fromkeys(islice(found, MOST)))


def permitted(party: Party, patient: str, of_type: int) -> Statement:
    """The condition that a Consent permits resources of a type, by its number, to a party now; `patient` is the column with the patient's id.

    A look-up in one index for each row, whatever the plan: as a join it became one with all permissions that there are.
    """
    text = (
        f"(SELECT 1 FROM consent_permit c WHERE c.patient = {patient} AND c.parties <@ %s::text[]"  # noqa: S608 - a column of ours
        f" AND (c.purposes = '{{}}' OR c.purposes && %s::text[]) AND (c.types = '{{}}' OR {of_type} = ANY(c.types))"
        " AND c.lo <= now() AND now() < c.hi LIMIT 1) IS NOT NULL"
    )
    return Statement(text, (list(party.references), list(party.purposes)))


def _paths(provision: Json, above: tuple[Json, ...] = ()) -> Iterator[tuple[Json, ...]]:
    """Each provision behind those that it stands in."""
    path = (*above, provision)
    yield path
    for nested in provision.get("provision", ()):
        yield from _paths(nested, path)


def _permits(path: Sequence[Json], zone: ZoneInfo) -> Iterator[Permit]:
    if any(name in each for each in path for name in _VOID) or not all(map(_opens_reading, path)):
        return
    lo, hi = _period(path, zone)
    purposes = _common([coding.get("code") for coding in each["purpose"]] for each in path if "purpose" in each)
    types = _common([coding.get("code") for coding in each["class"] if coding.get("system") == TYPES] for each in path if "class" in each)
    # Nothing is left where an outer provision and an inner one have no purpose or type in common.
    if lo < hi and purposes is not None and types is not None:
        for parties in _parties(path):
            yield Permit(parties, purposes, types, lo, hi)


def _opens_reading(provision: Json) -> bool:
    return "action" not in provision or "access" in _codes(provision["action"])


def _period(path: Sequence[Json], zone: ZoneInfo) -> tuple[datetime, datetime]:
    periods = [each["period"] for each in path if "period" in each]
    starts = [parse_date(period["start"], zone)[0] for period in periods if "start" in period]
    ends = [parse_date(period["end"], zone)[1] for period in periods if "end" in period]
    return max(starts, default=datetime.min.replace(tzinfo=UTC)), min(ends, default=datetime.max.replace(tzinfo=UTC))


def _common(lists: Iterable[Iterable[str | None]]) -> tuple[str, ...] | None:
    """What all lists have; empty where there are no lists, None where there is nothing."""
    found: set[str] | None = None
    for each in lists:
        codes = {code for code in each if code is not None}
        found = codes if found is None else found & codes
    return () if found is None else tuple(sorted(found)) or None


def _parties(path: Sequence[Json]) -> Iterator[tuple[str, ...]]:
    """Each choice of one actor from every provision that names some."""
    chosen: list[frozenset[str]] = [frozenset()]
    for each in path:
        if "actor" in each:
            # A version of somebody is they themselves. Without a reference an actor is nobody.
            listed = [actor.get("reference", {}).get("reference", "").partition("/_history/")[0] for actor in each["actor"]]
            chosen = list(dict.fromkeys(islice((parties | {one} for parties in chosen for one in listed), MOST)))
    yield from (tuple(sorted(parties)) for parties in chosen)


def _codes(concepts: Iterable[Json]) -> set[str | None]:
    return {coding.get("code") for concept in concepts for coding in concept.get("coding", ())}
