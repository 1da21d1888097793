"""Search across resources, types and moments as a client meets it. https://hl7.org/fhir/R4/search.html#chaining"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from itertools import islice
from time import time

import pytest

from fhir_server.access import issue
from tests.interactions.conftest import BASE, SECRET, Fhir, Json, entry, identified, issues, observation, unique


@dataclass(frozen=True)
class Clinic:
    """Two hospitals, one a part of the other; a patient of each; three observations of the first patient and one of the second."""

    value: str
    ids: dict[str, str]

    def name(self, *keys: str) -> set[str]:
        return {self.ids[key] for key in keys}


LOINC = "http://loinc.org"


def result(value: str, subject: str, code: str, **fields: object) -> Json:
    coding = {"system": LOINC, "code": code, "display": {"8480-6": "Systolic blood pressure", "8462-4": "Diastolic"}[code]}
    return observation(identifier=[{"value": value}], subject={"reference": subject}, code={"coding": [coding]}, **fields)


@pytest.fixture(scope="module")
def clinic(fhir: Fhir) -> Clinic:
    value = unique()
    big, small, ann, bob = (f"urn:uuid:{uuid.uuid4()}" for _ in range(4))
    seealso = {"other": {"reference": ann}, "type": "seealso"}
    pressure = {"value": 120, "system": "http://unitsofmeasure.org", "code": "mm[Hg]", "unit": "mmHg"}
    entries: dict[str, tuple[str | None, Json]] = {
        "big": (big, {"resourceType": "Organization", "identifier": [{"value": value}], "name": f"Big {value}"}),
        "small": (small, {"resourceType": "Organization", "identifier": [{"value": value}], "name": "Small", "partOf": {"reference": big}}),
        "ann": (ann, identified(value, managingOrganization={"reference": big}, gender="female", birthDate="1990-02-03")),
        "bob": (
            bob,
            identified(value, managingOrganization={"reference": small}, gender="male", link=[seealso]),
        ),
        "o1": (
            None,
            result(value, ann, "8480-6", valueQuantity=pressure),
        ),
        "o2": (None, result(value, ann, "8462-4", effectiveDateTime="2020-05-05")),
        "o3": (None, result(value, ann, "8480-6", effectiveDateTime="2021-05-05")),
        "o4": (None, result(value, bob, "8462-4")),
        "list": (None, {"resourceType": "List", "status": "current", "mode": "working", "entry": [{"item": {"reference": ann}}]}),
    }
    answer = fhir.bundle("transaction", *(entry("POST", each["resourceType"], each, url) for url, each in entries.values()))
    locations = [each["response"]["location"].split("/_history/")[0].rpartition("/")[2] for each in answer["entry"]]
    return Clinic(value, dict(zip(entries, locations, strict=True)))


CASES = [
    ("Patient?organization.name=Big {v}", "ann"),
    ("Patient?organization:Organization.name:exact=Big {v}", "ann"),
    ("Patient?organization.identifier={v}", "ann bob"),
    ("Patient?organization.partof.identifier={v}", "bob"),
    ("Observation?subject:Patient.organization.partof.name=Big {v}", "o4"),
    ("Observation?patient.gender=female&identifier={v}", "o1 o2 o3"),
    ("Observation?patient.gender:not=female&identifier={v}", "o4"),
    ("Observation?subject.identifier={v}&code=8462-4", "o2 o4"),
    ("Observation?patient.birthdate:missing=true&identifier={v}", "o4"),
    ("Patient?_has:Observation:patient:code=8480-6&identifier={v}", "ann"),
    ("Patient?_has:Observation:patient:code=http://loinc.org|8462-4&identifier={v}", "ann bob"),
    ("Patient?_has:Observation:subject:date=2021&identifier={v}", "ann"),
    ("Organization?_has:Patient:organization:_has:Observation:patient:code=8480-6&identifier={v}", "big"),
    ("Observation?patient._has:Patient:link:gender=male&identifier={v}", "o1 o2 o3"),
    ("Patient?_list={list}", "ann"),
    ("Observation?patient._list={list}", "o1 o2 o3"),
    ("Patient?organization:below=Organization/{big}&identifier={v}", "ann bob"),
    ("Patient?organization:above=Organization/{small}&identifier={v}", "ann bob"),
    ("Patient?organization:above=Organization/{big}&identifier={v}", "ann"),
    ("Organization?partof:below={big}", "small"),
    ("Patient/{ann}/Observation?code=8480-6", "o1 o3"),
    ("Patient/{ann}/Observation", "o1 o2 o3"),
    ("Patient/{ann}/Patient", "ann bob"),
    ("Patient/{ann}/*", "ann bob o1 o2 o3"),
    ("Patient/{ann}/*?_type=Patient,List", "ann bob"),
    ("?_type=Patient,Observation&_id={ann},{o1},{big}", "ann o1"),
    ("?_type=Patient,Organization&identifier={v}&_sort=-_lastUpdated", "ann bob big small"),
    ('Patient?_filter=organization.name eq "big {v}"', "ann"),
    ("Patient?identifier={v}&_filter=gender eq male or birthdate gt 1990-01", "ann bob"),
    ("Patient?identifier={v}&_filter=not (gender eq male) and name sw mei", "ann"),
    ("Patient?identifier={v}&_filter=organization[name sw small].partof.identifier eq {v}", "bob"),
    ("Observation?identifier={v}&_filter=value-quantity ge 100 and code eq http://loinc.org|8480-6", "o1"),
    ("Observation?identifier={v}&_filter=date pr true and date lt 2021", "o2"),
    ("Observation?identifier={v}&code:text=systolic", "o1 o3"),
    ("Observation?identifier={v}&code-value-quantity=8480-6$gt100", "o1"),
    ("Observation?identifier={v}&code-value-quantity=8480-6$12|http://unitsofmeasure.org|cm[Hg]", "o1"),
    ("Observation?identifier={v}&code-value-quantity=8462-4$gt100", ""),
    ("Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender&identifier={v}", "ann bob"),
    ("Patient?gender:not-in=http://hl7.org/fhir/ValueSet/administrative-gender&identifier={v}", ""),
    ("Patient?_content={v}", "ann bob"),
    ("Patient?_content=ann meier&identifier={v}", "ann bob"),
    ("Patient?_content=(nobody OR ann) and meier&identifier={v}", "ann bob"),
    ("Patient?_content=(nobody OR ann) and somebody&identifier={v}", ""),
]


@pytest.mark.parametrize(("query", "expected"), CASES, ids=[query for query, _ in CASES])
def test_what_is_found(fhir: Fhir, clinic: Clinic, query: str, expected: str) -> None:
    path = query.replace("{v}", clinic.value)
    for key, identity in clinic.ids.items():
        path = path.replace(f"{{{key}}}", identity)
    found = fhir.ids(f"{path}{'&' if '?' in path else '?'}_count=2")
    assert len(found) == len(set(found))
    assert set(found) == clinic.name(*expected.split())
    if "_has" not in path or "_sort" not in path:
        assert fhir.get(f"{path}{'&' if '?' in path else '?'}_summary=count")["total"] == len(found)


def test_includes_follow_what_was_included(fhir: Fhir, clinic: Clinic) -> None:
    def included(query: str) -> set[str]:
        bundle = fhir.get(f"{query}&identifier={clinic.value}")
        found = [each["resource"]["id"] for each in bundle["entry"]]
        assert len(found) == len(set(found))
        return {each["resource"]["id"] for each in bundle["entry"] if each["search"]["mode"] == "include"}

    assert included("Observation?code=8462-4&_include=Observation:patient") == clinic.name("ann", "bob")
    once = "Observation?subject:Patient.gender=male&_include=Observation:patient&_include:iterate=Patient:organization"
    assert included(once) == clinic.name("bob", "small")
    assert included(f"{once}&_include:iterate=Organization:partof") == clinic.name("bob", "small", "big")
    assert included("Observation?subject:Patient.gender=male&_include=*") == clinic.name("bob")
    assert included("Organization?name=Small&_revinclude=Patient:organization&_revinclude:iterate=Observation:patient") == clinic.name("bob", "o4")
    assert included("Patient?gender=female&_revinclude=*") == clinic.name("bob", "o1", "o2", "o3", "list")
    assert included("Observation?code=8480-6&_include=Observation:subject:Device") == set()


def test_nothing_leads_around_a_grant(fhir: Fhir, clinic: Clinic) -> None:
    ann = fhir.other(user="ann", scope="patient/*.rs", patient=clinic.ids["ann"])
    assert set(ann.ids(f"Observation?identifier={clinic.value}")) == clinic.name("o1", "o2", "o3")
    assert ann.ids("Observation?subject:Patient.gender=male") == []
    assert ann.ids(f"Patient?_has:Patient:link:identifier={clinic.value}") == []
    assert clinic.ids["bob"] not in ann.ids(f"Patient/{clinic.ids['ann']}/*")
    assert ann.ids(f"Patient/{clinic.ids['bob']}/Observation") == []
    assert ann.ids(f"Patient?_filter=identifier eq {clinic.value}") == [clinic.ids["ann"]]
    narrow = fhir.other(user="narrow", scope="system/Patient.rs")
    assert narrow.ids(f"Patient?identifier={clinic.value}&_has:Observation:patient:code=8480-6") == []
    assert narrow.ids(f"Patient?identifier={clinic.value}&organization.name=Small") == []
    assert set(narrow.ids(f"?_type=Patient,Organization&identifier={clinic.value}")) == clinic.name("ann", "bob")
    narrow.get("Observation?code=1", 403)
    assert "include" not in json.dumps(narrow.get(f"Patient?identifier={clinic.value}&_include=Patient:organization")["entry"])


def test_all_pages_answer_from_the_moment_of_the_first(fhir: Fhir) -> None:
    value = unique()
    made = [fhir.post("Patient", identified(value, birthDate=f"19{50 + n}-01-01")) for n in range(12)]
    expected = [each["id"] for each in made]
    meddled: list[str] = []

    def meddle() -> None:
        at = len(meddled)
        meddled.append(expected[at])
        if at % 3 == 0:
            fhir("DELETE", f"Patient/{expected[-1 - at]}")
        elif at % 3 == 1:
            fhir.put(f"Patient/{expected[-1 - at]}", {**made[-1 - at], "birthDate": "1930-01-01", "identifier": [{"value": "other"}]})
        else:
            fhir.post("Patient", identified(value, birthDate="1962-06-01"))

    query = f"Patient?identifier={value}&_count=2&_sort=birthdate&_total=accurate&_revinclude=Observation:patient"
    pages = list(fhir.pages(query, meddle))
    shown = [each["resource"] for page in pages for each in page.get("entry", ())]
    assert [each["id"] for each in shown] == expected
    assert [each["meta"]["versionId"] for each in shown] == ["1"] * 12
    assert {page["total"] for page in pages} == {12}
    assert len(meddled) == 6
    again = fhir.ids(f"Patient?identifier={value}&_sort=birthdate")
    assert again != expected


def test_a_link_to_its_moment_runs_out_when_too_much_has_changed(fhir: Fhir, monkeypatch: pytest.MonkeyPatch) -> None:
    value = unique()
    made = [fhir.post("Patient", identified(value)) for _ in range(3)]
    first = fhir.get(f"Patient?identifier={value}&_count=1")
    following = next(each["url"] for each in first["link"] if each["relation"] == "next")
    monkeypatch.setattr("fhir_server.store.moment.MAX_CHANGED", 1)
    for each in made[:2]:
        fhir.put(f"Patient/{each['id']}", {**each, "active": True})
    assert "start the search again" in issues(fhir.get(following, 410))


def test_self_says_what_was_done(fhir: Fhir, clinic: Clinic) -> None:
    bundle = fhir.get(f"?_type=Patient&identifier={clinic.value}&_count=5000&nonsense=1", headers={"Prefer": "handling=lenient"})
    own = next(each["url"] for each in bundle["link"] if each["relation"] == "self")
    assert own == f"{BASE}?_type=Patient&identifier={clinic.value}&_count=1000"
    bundle = fhir.get(f"Patient/{clinic.ids['ann']}/Observation?_count=1")
    assert {each["relation"]: each["url"].partition("?")[0] for each in bundle["link"]} == dict.fromkeys(
        ("self", "next"), f"{BASE}/Patient/{clinic.ids['ann']}/Observation"
    )


def test_most_results(fhir: Fhir, clinic: Clinic) -> None:
    query = f"Observation?identifier={clinic.value}&_maxresults=3"
    assert len(fhir.ids(f"{query}&_count=2")) == 3
    assert fhir.get(f"{query}&_total=accurate&_count=2")["total"] == 3
    assert len(fhir.ids(f"Observation?identifier={clinic.value}&_maxresults=0")) == 0


def test_scores(fhir: Fhir) -> None:
    word = unique("w").replace("-", "")
    told = f'<div xmlns="http://www.w3.org/1999/xhtml">{word}</div>'
    plain = fhir.post("Patient", {"resourceType": "Patient", "name": [{"text": word}]})
    narrated = fhir.post("Patient", {"resourceType": "Patient", "text": {"status": "generated", "div": told}})
    fhir.post("Patient", {"resourceType": "Patient", "name": [{"text": f"{word}x"}]})
    bundle = fhir.get(f"Patient?_content={word}&_score=true")
    assert [each["resource"]["id"] for each in bundle["entry"]] == [narrated["id"], plain["id"]]
    scores = [each["search"]["score"] for each in bundle["entry"]]
    assert 1 >= scores[0] > scores[1] > 0
    assert fhir.ids(f"Patient?_text={word}") == [narrated["id"]]
    assert fhir.ids(f"Patient?_content={word}&_sort=_score&_count=1") == [narrated["id"], plain["id"]]
    assert "score" not in fhir.get(f"Patient?_content={word}")["entry"][0]["search"]


def test_contained_resources(fhir: Fhir) -> None:
    name = unique("Pharma")
    inner = {"resourceType": "Organization", "id": "maker", "name": name}
    medication = fhir.post("Medication", {"resourceType": "Medication", "contained": [inner], "manufacturer": {"reference": "#maker"}})
    outer = fhir.post("Organization", {"resourceType": "Organization", "name": name})
    assert fhir.ids(f"Organization?name={name}") == [outer["id"]]
    assert fhir.ids(f"Organization?name={name}&_contained=true") == [medication["id"]]
    assert set(fhir.ids(f"Organization?name={name}&_contained=both")) == {medication["id"], outer["id"]}
    bundle = fhir.get(f"Organization?name={name}&_contained=true&_containedType=contained")
    assert [each["resource"] for each in bundle["entry"]] == [inner]
    assert bundle["entry"][0]["fullUrl"] == f"{BASE}/Organization/{medication['id']}#maker" or "Medication" in bundle["entry"][0]["fullUrl"]
    assert fhir.get(f"Organization?name={name}&_contained=true&_summary=count")["total"] == 1


def test_explaining_is_for_administrators(make_admin: Fhir, clinic: Clinic) -> None:
    query = f"Observation?patient.identifier={clinic.value}&code=8480-6&_explain=true"
    told = make_admin.get(query)
    assert told["resourceType"] == "Parameters"
    parts = {each["name"] for each in told["parameter"]}
    assert {"query", "narrowed", "statement"} <= parts
    statements = [{part["name"]: part for part in each["part"]} for each in told["parameter"] if each["name"] == "statement"]
    assert [each["purpose"]["valueString"] for each in statements] == ["chain", "chain", "page"]
    assert all(each["sql"]["valueString"].lstrip("(").startswith("SELECT") and each["rows-visited"]["valueInteger"] >= 0 for each in statements)
    assert "sp_reference" in statements[-1]["sql"]["valueString"]
    issues(make_admin.other().get(query, 403))


@pytest.fixture
def make_admin(fhir: Fhir) -> Fhir:
    return replace(fhir, token=issue(SECRET, role="admin", user="root", patient=None, scope=None, ttl=60, now=time()))


def test_a_type_and_system_history_pages_from_one_moment(fhir: Fhir) -> None:
    value = unique()
    made = [fhir.post("Basic", {"resourceType": "Basic", "code": {"text": value}}) for _ in range(4)]

    def meddle() -> None:
        fhir.post("Basic", {"resourceType": "Basic", "code": {"text": value}})

    pages = islice(fhir.pages("Basic/_history?_count=1", meddle), 4)
    assert [each["resource"]["id"] for page in pages for each in page["entry"]] == [each["id"] for each in reversed(made)]


def test_a_page_ends_where_its_bytes_do(fhir: Fhir, monkeypatch: pytest.MonkeyPatch) -> None:
    value = unique()
    made = [fhir.post("Patient", identified(value, address=[{"text": "x" * 3_000}]))["id"] for _ in range(7)]
    for module in ("search.compile", "interactions.finding"):
        monkeypatch.setattr(f"fhir_server.{module}.MAX_PAGE_BYTES", 10_000)
    pages = list(fhir.pages(f"Patient?identifier={value}&_count=5"))
    assert [len(page["entry"]) for page in pages] == [3, 3, 1]
    assert [each["resource"]["id"] for page in pages for each in page["entry"]] == made[::-1]
    monkeypatch.setattr("fhir_server.interactions.finding.MAX_PAGE_BYTES", 100)
    assert len(fhir.get(f"Patient?identifier={value}")["entry"]) == 1


def test_a_chain_leads_into_contained_resources(fhir: Fhir, monkeypatch: pytest.MonkeyPatch) -> None:
    value = unique()
    person = fhir.post("Patient", identified(value))["id"]

    def request(code: str, reference: str = "#m") -> str:
        inner = {"resourceType": "Medication", "id": "m", "code": {"coding": [{"system": "urn:m", "code": f"{value}-{code}"}]}}
        content: Json = {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": {"reference": f"Patient/{person}"}}
        content |= {"contained": [inner], "medicationReference": {"reference": reference}}
        if reference != "#m":
            content["supportingInformation"] = [{"reference": "#m"}]
        made: str = fhir.post("MedicationRequest", content)["id"]
        return made

    aspirin, other = request("aspirin"), request("other")
    stored = fhir.post("Medication", {"resourceType": "Medication", "code": {"coding": [{"system": "urn:m", "code": f"{value}-aspirin"}]}})["id"]
    outside, unmeant = request("else", f"Medication/{stored}"), request("aspirin", "Medication/none")
    for few in (1_000, 0):
        monkeypatch.setattr("fhir_server.search.narrow.FEW", few)
        found = fhir.ids(f"MedicationRequest?medication.code=urn:m|{value}-aspirin&_count=1")
        assert sorted(found) == sorted([aspirin, outside])
        assert fhir.ids(f"MedicationRequest?medication:Medication.code={value}-other") == [other]
        assert fhir.get(f"MedicationRequest?medication.code={value}-aspirin&_summary=count")["total"] == 2
        assert fhir.ids(f"Patient?_has:MedicationRequest:patient:medication.code={value}-aspirin") == [person]
        assert fhir.ids(f"MedicationRequest?patient={person}&medication.code={value}-nothing") == []
    assert unmeant in fhir.ids(f"MedicationRequest?patient={person}")
    assert fhir.ids(f"MedicationRequest?patient={person}&medication:missing=true") == []


def test_a_value_set_larger_than_its_share_of_a_page_is_read_all_the_same(fhir: Fhir, monkeypatch: pytest.MonkeyPatch) -> None:
    value = unique()
    url = f"http://sets.example.org/{value}"
    include = [{"system": LOINC, "concept": [{"code": "8480-6"}]}]
    fhir.post("ValueSet", {"resourceType": "ValueSet", "status": "active", "url": url, "compose": {"include": include}})
    made = fhir.post("Observation", observation(identifier=[{"value": value}], code={"coding": [{"system": LOINC, "code": "8480-6"}]}))["id"]
    monkeypatch.setattr("fhir_server.search.compile.MAX_PAGE_BYTES", 100)
    assert fhir.ids(f"Observation?identifier={value}&code:in={url}") == [made]
