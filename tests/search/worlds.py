"""Small worlds for tests of search: resources of few values that refer to each other, made by Hypothesis, and how their callers see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from fhir_server.fhirjson import Number
from fhir_server.search import SYSTEM, Grant, Registry, Scope
from fhir_server.search.grant import Denial, Party
from fhir_server.search.match import permits
from fhir_server.search.permit import Permit

from . import chance as st

Json = dict[str, Any]
Values = st.Chance

# Few values, so that resources and queries meet.
IDS = ("p0", "p1", "p2")
CODES = ("a", "B", "c")
SYSTEMS = ("http://s.example/1", "http://s.example/2", None)
DATES = (
    "2019",
    "2020",
    "2020-03",
    "2020-03-29",
    "2020-03-29T02:30:00+01:00",
    "2020-03-29T01:30:00Z",
    "2020-10-25T02:30:00.5+02:00",
    "2021-01-01",
    "0001",
    "9999-12-31",
)
NUMBERS = ("0", "1", "1.0", "1.04", "0.95", "-2", "100", "99.6", "1e2", "1000", "12345678901234567890.123")
NAMES = ("Müller", "muller", "Mu", "MÜLLER-Lüdenscheidt", "O'Neil", "a,b", "x|y", "100%_", "ß", "straße \\ test", "$z")
UCUM = "http://unitsofmeasure.org"
UNITS = ((UCUM, "mg"), (UCUM, "g"), (UCUM, "Cel"), (UCUM, "K"), (UCUM, "no-unit"), (None, "mg"), (None, None))
UPDATED = ("2020-01-01T00:00:00.000Z", "2020-01-01T00:00:00.001Z", "2020-06-01T12:00:00.000Z")
URLS = ("http://v.example/a", "http://v.example/a/b", "http://v.example/a/b/c", "http://v.example/ab", "http://v.example", "urn:uuid:1")
PROFILES = ("http://v.example/a|1", "http://v.example/a|1.2", "http://v.example/a|2", "http://v.example/a/b")
PLACES = ((0.0, 0.0), (0.0, 0.4), (0.0, 180.0), (0.1, -179.9), (89.9, 10.0), (90.0, -170.0), (-89.95, 0.0), (48.1, 11.5))


def examples(usual: int) -> settings:
    """As many examples as the profile asks for, where `usual` is what it takes for 100."""
    # A smaller seed makes no smaller world.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=max(1, usual * settings().max_examples // 100), deadline=None, phases=phases, suppress_health_check=checks)


def some(values: Values, most: int = 2) -> Values:
    return st.lists(values, min_size=1, max_size=most)


def fields(fixed: dict[str, Values], optional: dict[str, Values]) -> Values:
    """Resources or elements with some of the optional fields."""
    return st.fixed_dictionaries(fixed, optional=optional)


names = st.sampled_from(NAMES)
codes = st.sampled_from(CODES)
dates = st.sampled_from(DATES)
days = st.sampled_from([date for date in DATES if "T" not in date])
moments = st.sampled_from([date for date in DATES if "T" in date])
numbers = st.sampled_from(NUMBERS).map(Number)
systems = st.sampled_from(SYSTEMS).map(lambda url: {"system": url} if url else {})
codings = st.builds(
    lambda system, code, text: {**system, **code, **text},
    systems,
    st.one_of(codes.map(lambda code: {"code": code}), codes.map(lambda code: {"code": code}), st.just({"code": "c", "display": "straße"})),
    st.one_of(st.just({}), st.just({}), names.map(lambda text: {"display": text})),
)
concepts = fields({"coding": some(codings)}, {"text": names})
identifiers = fields({"value": codes}, {"system": st.sampled_from(SYSTEMS[:2]), "type": concepts})
periods = fields({}, {"start": dates, "end": dates}).filter(bool)
units = st.sampled_from(UNITS).map(lambda unit: ({"system": unit[0]} if unit[0] else {}) | ({"code": unit[1], "unit": unit[1]} if unit[1] else {}))
quantities = st.builds(
    lambda value, unit, comparator: {"value": value, **unit, **comparator},
    numbers,
    units,
    st.sampled_from(({}, {}, {}, {"comparator": "<"}, {"comparator": ">="})),
)
metas = fields(
    {"lastUpdated": st.sampled_from(UPDATED)},
    {"tag": some(codings), "security": some(codings), "profile": some(st.sampled_from(PROFILES)), "source": st.sampled_from(URLS)},
)
narratives = names.map(
    lambda text: {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><b>{text.replace("&", "")}</b> note</div>'}
)


def pointers(*types: str) -> Values:
    """References to resources of these types: mostly to such as may be there."""
    local = [f"{name}/{identity}" for name in types for identity in IDS]
    others = [f"http://localhost/fhir/{types[0]}/p1", f"http://else.example/fhir/{types[0]}/p1", "urn:uuid:1", f"{types[0]}/p2/_history/3"]
    whole = st.sampled_from(local).map(lambda text: {"reference": text})
    odd = st.sampled_from(others).map(lambda text: {"reference": text})
    named = st.builds(lambda identifier, more: {"identifier": identifier, **more}, identifiers, st.one_of(st.just({}), whole))
    typed = st.sampled_from(types).flatmap(lambda name: odd.map(lambda found: {**found, "type": name}))
    return st.sampled_from((whole, whole, whole, whole, whole, odd, typed, named)).flatmap(lambda kind: kind)


people = fields({}, {"family": names, "given": some(names)}).filter(bool)
addresses = fields({}, {"city": names, "country": names, "line": some(names), "use": st.sampled_from(("home", "work"))}).filter(bool)
contacts = st.builds(lambda system, value: {"system": system, "value": value}, st.sampled_from(("email", "phone")), codes)
subjects = pointers("Patient")
of_organizations = {"name": names, "type": some(concepts), "identifier": some(identifiers), "active": st.booleans(), "alias": some(names)}
of_observations: dict[str, Values] = {"code": concepts, "valueQuantity": quantities, "subject": subjects, "identifier": some(identifiers)}


def contained(name: str, optional: dict[str, Values]) -> Values:
    """One or two resources to stand inside of another."""
    one = fields({"resourceType": st.just(name)}, optional)
    return some(one).map(lambda found: [{**each, "id": f"i{number}"} for number, each in enumerate(found)])


attachments = st.sampled_from((*(f"Binary/{each}" for each in IDS), "Binary/p1/_history/1", "http://else.example/1.pdf", None)).map(
    lambda url: {"attachment": {"contentType": "text/plain", **({"url": url} if url else {})}}
)
inner = st.sampled_from((contained("Organization", of_organizations), contained("Observation", of_observations))).flatmap(lambda kind: kind)


def choice(name: str, **kinds: Values) -> dict[str, Values]:
    """One of the kinds that `value[x]` may have: the others are dropped by `settled`."""
    return {f"{name}{kind}": values for kind, values in kinds.items()}


def settled(resource: Json) -> Json:
    """At most one of each choice."""
    for stem in ("value", "effective", "deceased", "occurrence", "probability"):
        found = sorted(key for key in resource if key.startswith(stem))
        for key in found[1:]:
            del resource[key]
    return resource


components = fields({"code": concepts}, choice("value", Quantity=quantities, CodeableConcept=concepts)).map(settled)
variants = fields({}, {"start": st.integers(1, 4), "end": st.integers(2, 6)}).filter(bool)
characteristics = st.builds(lambda code, value, but: {"code": code, "valueCodeableConcept": value, "exclude": but}, concepts, concepts, st.booleans())

KINDS: dict[str, Values] = {
    name: fields({"resourceType": st.just(name), "meta": metas, **fixed}, {"text": narratives, "contained": inner, **optional}).map(settled)
    for name, fixed, optional in (
        (
            "Patient",
            {},
            {
                "name": some(people),
                "gender": st.sampled_from(("male", "female")),
                "birthDate": days,
                "identifier": some(identifiers),
                "active": st.booleans(),
                **choice("deceased", Boolean=st.booleans(), DateTime=dates),
                "telecom": some(contacts),
                "address": some(addresses),
                "generalPractitioner": some(pointers("Practitioner", "Organization")),
                "managingOrganization": pointers("Organization"),
                "link": some(subjects.map(lambda other: {"other": other, "type": "seealso"})),
            },
        ),
        ("Practitioner", {}, {"name": some(people), "identifier": some(identifiers), "active": st.booleans(), "gender": st.just("male")}),
        ("Organization", {}, {**of_organizations, "partOf": pointers("Organization")}),
        (
            "Location",
            {},
            {
                "name": names,
                "partOf": pointers("Location"),
                "position": st.sampled_from(PLACES).map(lambda at: {"latitude": Number(str(at[0])), "longitude": Number(str(at[1]))}),
                "managingOrganization": pointers("Organization"),
                "status": st.sampled_from(("active", "inactive")),
            },
        ),
        (
            "Observation",
            {"status": st.sampled_from(("final", "amended")), "code": concepts},
            {
                "category": some(concepts),
                "subject": pointers("Patient", "Patient", "Location"),
                "performer": some(pointers("Practitioner", "Patient", "Organization")),
                "encounter": pointers("Encounter"),
                "identifier": some(identifiers),
                **choice("effective", DateTime=dates, Period=periods),
                **choice("value", Quantity=quantities, CodeableConcept=concepts, String=names, DateTime=dates),
                "component": some(components),
                "hasMember": some(pointers("Observation")),
                "derivedFrom": some(pointers("Observation", "DocumentReference")),
            },
        ),
        (
            "Encounter",
            {"status": st.sampled_from(("planned", "finished")), "class": codings},
            {
                "subject": subjects,
                "partOf": pointers("Encounter"),
                "location": some(pointers("Location").map(lambda place: {"location": place})),
                "serviceProvider": pointers("Organization"),
                "period": periods,
                "participant": some(pointers("Practitioner").map(lambda who: {"individual": who})),
                "type": some(concepts),
                "identifier": some(identifiers),
            },
        ),
        (
            "Appointment",
            {
                "status": st.just("proposed"),
                "participant": some(pointers("Patient", "Practitioner", "Location", "HealthcareService").map(lambda who: {"actor": who}), 3),
            },
            {"start": st.sampled_from(("2020-01-01T10:00:00Z", "2020-01-02T10:00:00+02:00")), "serviceType": some(concepts)},
        ),
        (
            "List",
            {"status": st.just("current"), "mode": st.just("working")},
            {
                "entry": some(pointers("Patient", "Observation", "Encounter", "Organization").map(lambda item: {"item": item}), 3),
                "subject": subjects,
                "title": names,
                "code": concepts,
                "date": dates,
            },
        ),
        (
            "RiskAssessment",
            {"status": st.just("final"), "subject": subjects},
            {
                "prediction": some(st.sampled_from((Number("0.5"), Number("0.50"), Number("0.04"))).map(lambda p: {"probabilityDecimal": p})),
                "occurrenceDateTime": dates,
                "encounter": pointers("Encounter"),
                "identifier": identifiers.map(lambda found: [found]),
            },
        ),
        (
            "ValueSet",
            {"status": st.sampled_from(("draft", "active"))},
            {"url": st.sampled_from(URLS), "version": codes, "name": names, "date": dates, "identifier": some(identifiers)},
        ),
        (
            "Questionnaire",
            {"status": st.sampled_from(("draft", "active"))},
            {
                "url": st.sampled_from((*URLS, "http://v.example/a|1")),
                "version": codes,
                "name": names,
                "date": dates,
                "identifier": some(identifiers),
            },
        ),
        (
            "QuestionnaireResponse",
            {"status": st.just("completed")},
            {
                "questionnaire": st.sampled_from((*URLS, *PROFILES)),
                "subject": subjects,
                "encounter": pointers("Encounter"),
                "authored": dates,
                "identifier": identifiers,
            },
        ),
        (
            "DocumentReference",
            {"status": st.just("current"), "content": some(attachments)},
            {
                "relatesTo": some(
                    st.builds(
                        lambda code, target: {"code": code, "target": target},
                        st.sampled_from(("replaces", "signs")),
                        pointers("DocumentReference"),
                    )
                ),
                "subject": subjects,
                "type": concepts,
                "date": moments,
                "custodian": pointers("Organization"),
                "identifier": some(identifiers),
            },
        ),
        ("Binary", {"contentType": st.just("text/plain")}, {"securityContext": pointers("Patient", "Observation", "Organization")}),
        (
            "MolecularSequence",
            {"coordinateSystem": st.just(0)},
            {
                "patient": subjects,
                "referenceSeq": fields(
                    {"windowStart": st.integers(1, 3), "windowEnd": st.integers(2, 5)}, {"chromosome": concepts, "referenceSeqId": concepts}
                ),
                "variant": some(variants),
                "identifier": some(identifiers),
            },
        ),
        (
            "Group",
            {"type": st.just("person"), "actual": st.booleans()},
            {
                "characteristic": some(characteristics),
                "member": some(subjects.map(lambda who: {"entity": who})),
                "code": concepts,
                "managingEntity": pointers("Organization"),
                "identifier": some(identifiers),
            },
        ),
    )
}
"""Resources without id, by type."""

TYPES = tuple(KINDS)


def identified(resources: Iterable[Json]) -> list[Json]:
    """Resources with ids that begin anew for every type, so that references meet what they name."""
    seen: dict[str, int] = {}
    found = []
    for resource in resources:
        name = resource["resourceType"]
        number = seen[name] = seen.get(name, -1) + 1
        found.append({**resource, "id": f"p{number}"})
    return found


_PALETTES = (
    ("Patient", "Observation"),
    ("Patient", "Observation", "Organization"),
    ("Patient", "Observation", "Encounter", "Location"),
    ("Organization", "Location", "Encounter"),
    ("Appointment", "Practitioner", "Location"),
    ("Patient", "Practitioner", "Organization", "List"),
    ("Patient", "RiskAssessment", "MolecularSequence", "Group"),
    ("Questionnaire", "QuestionnaireResponse", "Patient"),
    ("ValueSet", "QuestionnaireResponse", "Patient", "Encounter"),
    ("DocumentReference", "Observation", "Patient"),
    ("Binary", "Binary", "DocumentReference", "Observation", "Patient"),
    TYPES,
)
"""Types that stand together in a world: few, so that there are several of each."""


@st.composite
def worlds(draw: st.Draw) -> list[Json]:
    """Some resources of a few types."""
    kinds = draw(st.sampled_from(_PALETTES))
    return identified(draw(st.lists(st.sampled_from(kinds).flatmap(lambda name: KINDS[name]), min_size=6, max_size=16)))


_OPEN = (Scope("*", frozenset("rs")),)
_NARROW = (
    (Scope("Patient", frozenset("rs")), Scope("Observation", frozenset("rs")), Scope("Organization", frozenset("r"))),
    (Scope("*", frozenset("r")), Scope("Encounter", frozenset("s")), Scope("Observation", frozenset("s")), Scope("Location", frozenset("s"))),
    (Scope("List", frozenset("rs")), Scope("Patient", frozenset("s")), Scope("Encounter", frozenset("rs"))),
)
_ASKED = (
    (Scope("*", frozenset("rs")), Scope("Patient", frozenset("rs"), "gender=male")),
    (Scope("Patient", frozenset("rs"), "gender=male"), Scope("Patient", frozenset("rs"), "gender=female&name:missing=false"), *_NARROW[0][1:]),
    (Scope("Observation", frozenset("rs"), "status=final"), Scope("Patient", frozenset("rs"), "nonsense=1"), Scope("Encounter", frozenset("rs"))),
)
_RELEASED = (
    *(Scope(name, frozenset("rs")) for name in ("Patient", "Organization", "Location", "Practitioner", "List", "Condition")),
    Scope("Observation", frozenset("rs"), "status=final,amended"),
    Scope("Encounter", frozenset("rs"), "status:not=planned"),
)
_LED = (
    *_NARROW[0],
    Scope("Encounter", frozenset("rs"), "subject:Patient.gender=male"),
    Scope("Encounter", frozenset("rs"), "status=planned"),
)
_DENIALS = (
    (Denial(("p0",), ("Observation", "Encounter", "Condition")),),
    (Denial(("p0", "p1"), ("Observation",)), Denial(("p2",), ("Patient", "List", "Encounter"))),
    (Denial(IDS[:3], ("Observation", "Patient", "Encounter", "List"), ("http://s.example/1|a", "http://s.example/2|B")),),
)
_CLOSED = ("Binary", "Observation", "Encounter", "Condition", "List", "DocumentReference", "QuestionnaireResponse", "RiskAssessment", "Organization")
_D1 = Party(("Organization/o1", "Practitioner/d1"), ("TREAT",))
_D2 = Party(("Practitioner/d2",), ("HOPERAT", "HPAYMT"))
_PERMISSIONS = (
    (Denial((), _CLOSED, unless=_D1),),
    (Denial((), ("Patient", *_CLOSED), unless=_D2),),
    (Denial((), _CLOSED, unless=Party((), ())), Denial(("p0",), ("Observation",))),
    (Denial((), _CLOSED, ("http://s.example/1|a", "http://s.example/2|B"), _D1), Denial((), ("Encounter",), unless=_D2)),
)
_EVER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
PERMITS = (
    ("p0", Permit(("Practitioner/d1",), (), (), *_EVER)),
    ("p0", Permit((), ("HPAYMT", "TREAT"), ("Observation", "List"), *_EVER)),
    ("p0", Permit((), (), (), _EVER[0], datetime(2020, 1, 1, tzinfo=UTC))),
    ("p1", Permit(("Organization/o1", "Practitioner/d1"), ("TREAT",), ("Encounter",), *_EVER)),
    ("p1", Permit(("Organization/o1", "Practitioner/d2"), (), (), *_EVER)),
    ("p1", Permit((), (), ("Patient",), *_EVER)),
    ("p2", Permit((), ("HRESCH",), (), *_EVER)),
    ("p2", Permit((), (), (), datetime(9000, 1, 1, tzinfo=UTC), _EVER[1])),
)
"""What patients of all worlds permit."""


def permit(connection: Any, types: Mapping[str, int]) -> None:
    """Stores what patients permit, with the numbers that types have."""
    for patient, each in PERMITS:
        values = (patient, list(each.parties), list(each.purposes), [types[name] for name in each.types], each.lo, each.hi)
        connection.execute("INSERT INTO consent_permit (rid, patient, parties, purposes, types, lo, hi) VALUES (0, %s, %s, %s, %s, %s, %s)", values)


def held(scopes: tuple[Scope, ...], patient: str) -> tuple[Scope, ...]:
    """The scopes within a patient's compartment."""
    return tuple(replace(scope, patient=patient) for scope in scopes)


grants = st.sampled_from(
    (
        *([SYSTEM] * 9),
        *(Grant(patient, frozenset(), held(_OPEN, patient)) for patient in IDS),
        *(Grant("someone", frozenset(), scopes) for scopes in _NARROW),
        Grant("filed", frozenset(), (*_NARROW[0], Scope("Binary", frozenset("rs")))),
        Grant("p0", frozenset(), held((*_ASKED[2], Scope("Binary", frozenset("rs")), Scope("DocumentReference", frozenset("rs"))), "p0")),
        Grant("p1", frozenset(), held(_NARROW[0], "p1")),
        Grant("p1", frozenset(), held(_NARROW[1], "p1")),
        *(Grant("asked", frozenset(), scopes) for scopes in _ASKED),
        Grant("p0", frozenset(), held(_ASKED[0], "p0")),
        Grant("p1", frozenset(), held(_RELEASED, "p1")),
        Grant("led", frozenset(), _LED),
        Grant("mixed", frozenset(), (*held(_OPEN, "p0"), Scope("Observation", frozenset("rs"), "status=final"), *_NARROW[2])),
        Grant("two", frozenset(), (*held(_NARROW[0], "p0"), *held(_OPEN, "p1"))),
        *(Grant("denied", frozenset(), _OPEN, denials) for denials in (*_DENIALS, *_PERMISSIONS)),
        Grant("permitted", frozenset(), (*held(_OPEN, "p0"), *_ASKED[2]), _PERMISSIONS[0]),
        Grant("denied", frozenset(), (*held(_OPEN, "p0"), *_ASKED[2]), _DENIALS[1]),
    )
)


class Memory:
    """The resources as `matches` looks at them."""

    def __init__(self, resources: Iterable[Json], registry: Registry) -> None:
        self.registry = registry
        self._by_type: dict[str, dict[str, Json]] = {}
        for resource in resources:
            self._by_type.setdefault(resource["resourceType"], {})[resource["id"]] = resource

    def get(self, resource_type: str, identity: str) -> Json | None:
        return self._by_type.get(resource_type, {}).get(identity)

    def all(self, resource_type: str) -> Iterable[Json]:
        return self._by_type.get(resource_type, {}).values()

    def permitted(self, patient: str, resource_type: str, party: Party) -> bool:
        now = datetime.now(UTC)
        return any(
            set(each.parties) <= set(party.references)
            and (not each.purposes or not set(each.purposes).isdisjoint(party.purposes))
            and (not each.types or resource_type in each.types)
            and each.lo <= now < each.hi
            for whose, each in PERMITS
            if whose == patient
        )

    def attached(self, binary: Json, grant: Grant, patient: str | None) -> bool:
        scopes = grant.scopes if grant.reach is None else grant.reach
        held = tuple(replace(each, patient=patient) for each in scopes if each.patient in (None, patient))
        narrowed = replace(grant, scopes=scopes if patient is None else held, reach=None)
        found: list[bool] = []
        if text := binary.get("securityContext", {}).get("reference"):
            name, _, identity = text.removeprefix("http://localhost/fhir/").partition("/_history/")[0].partition("/")
            context = self.get(name, identity)
            found.append((context is not None and permits(narrowed, self.registry, context, self)) or (name, identity) == ("Patient", patient))
        urls = (f"Binary/{binary['id']}", f"Binary/{binary['id']}/_history/1")
        documents = [each for each in self.all("DocumentReference") if any(part["attachment"].get("url") in urls for part in each["content"])]
        found += [permits(narrowed, self.registry, each, self) for each in documents]
        return all(found) and (bool(found) or patient is None)
