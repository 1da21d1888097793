"""What the specification demands of modifiers, chains and what else goes beyond values: each named in conformance/requirements.csv.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import pytest

from tests.interactions.conftest import BASE, Fhir, Json, identified, issues, made, observation, patient, unique

UCUM = "http://unitsofmeasure.org"


def test_an_identifier_is_found_by_its_type(fhir: Fhir) -> None:
    value, types = unique(), "http://terminology.hl7.org/CodeSystem/v2-0203"
    kind = {"coding": [{"system": types, "code": "MR"}], "text": "Record number"}
    identity = made(fhir, patient(identifier=[{"type": kind, "system": "urn:a", "value": value}, {"system": "urn:b", "value": f"{value}-b"}]))
    assert fhir.ids(f"Patient?identifier:of-type={types}|MR|{value}") == [identity]
    # Type and value have to be of one identifier.
    for other in (f"{types}|MR|{value}-b", f"{types}|SS|{value}", f"urn:a|MR|{value}"):
        assert fhir.ids(f"Patient?identifier:of-type={other}") == [], other
    assert fhir.ids(f"Patient?identifier={value}&identifier:text=record") == [identity]


def test_a_token_is_found_by_its_text(fhir: Fhir) -> None:
    value = unique()
    coding = {"system": "urn:c", "code": "x1", "display": "Head pain"}
    by_text = made(fhir, observation(identifier=[{"value": value}], code={"text": "Headache"}))
    by_display = made(fhir, observation(identifier=[{"value": value}], code={"coding": [coding]}))
    assert set(fhir.ids(f"Observation?identifier={value}&code:text=HEAD")) == {by_text, by_display}
    assert fhir.ids(f"Observation?identifier={value}&code:text=headache") == [by_text]
    assert fhir.ids(f"Observation?identifier={value}&code:text=x1") == []


def test_a_reference_is_found_by_its_identifier(fhir: Fhir) -> None:
    value, who = unique(), unique()
    target = made(fhir, identified(who))
    logical = {"identifier": {"system": "urn:mrn", "value": who}}
    by_identifier = made(fhir, observation(identifier=[{"value": value}], subject=logical))
    made(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Patient/{target}"}))
    # The identifier of the reference itself, not that of what a literal reference leads to.
    for asked in (f"urn:mrn|{who}", who, "urn:mrn|"):
        assert fhir.ids(f"Observation?identifier={value}&subject:identifier={asked}") == [by_identifier], asked
    assert fhir.ids(f"Observation?identifier={value}&subject:identifier=urn:other|{who}") == []


def test_codes_in_and_below_what_terminology_names(fhir: Fhir) -> None:
    value, system = unique(), f"http://codes.example.org/{unique()}"
    concepts = [{"code": "food", "concept": [{"code": "fruit", "concept": [{"code": "apple"}]}]}, {"code": "tool"}]
    made(fhir, {"resourceType": "CodeSystem", "url": system, "status": "active", "content": "complete", "concept": concepts})
    fruits = {"include": [{"system": system, "filter": [{"property": "concept", "op": "is-a", "value": "fruit"}]}]}
    stored = made(fhir, {"resourceType": "ValueSet", "url": f"{system}/fruits", "status": "active", "compose": fruits})
    ids = {
        code: made(fhir, observation(identifier=[{"value": value}], code={"coding": [{"system": system, "code": code}]}))
        for code in ("food", "fruit", "apple", "tool")
    }
    for asked, found in (
        (f"code:in={system}/fruits", "fruit apple"),
        (f"code:in=ValueSet/{stored}", "fruit apple"),
        (f"code:not-in={system}/fruits", "food tool"),
        (f"code:below={system}|fruit", "fruit apple"),
        (f"code:above={system}|fruit", "food fruit"),
        (f"code:above={system}|apple&code:not={system}|food", "fruit apple"),
    ):
        assert set(fhir.ids(f"Observation?identifier={value}&{asked}")) == {ids[code] for code in found.split()}, asked


def test_urls_above_below_and_of_a_version(fhir: Fhir) -> None:
    top = f"http://example.org/{unique()}"

    def value_set(url: str, **fields: str) -> str:
        return made(fhir, {"resourceType": "ValueSet", "status": "draft", "url": url, **fields})

    upper, first, second, beside = value_set(top), value_set(f"{top}/a", version="1"), value_set(f"{top}/a", version="2"), value_set(f"{top}x/a")
    assert set(fhir.ids(f"ValueSet?url:below={top}")) == {upper, first, second}
    assert set(fhir.ids(f"ValueSet?url:above={top}/a/b")) == {upper, first, second}
    assert fhir.ids(f"ValueSet?url:below={top}x") == [beside]
    assert set(fhir.ids(f"ValueSet?url={top}/a")) == {first, second}
    assert fhir.ids(f"ValueSet?url={top}/a|2") == [second]
    assert set(fhir.ids(f"ValueSet?url={top}/a|1,{top}")) == {first, upper}
    assert fhir.ids(f"ValueSet?url={top}/a|3") == []
    assert fhir.ids(f"ValueSet?url={top}/a\\|2") == []


def test_a_reference_to_a_version_is_found_with_it_and_without(fhir: Fhir) -> None:
    value = unique()
    first = made(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Patient/{value}/_history/1"}))
    made(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Patient/{value}/_history/2"}))
    assert fhir.ids(f"Observation?subject=Patient/{value}/_history/1") == [first]
    assert len(fhir.ids(f"Observation?subject=Patient/{value}")) == 2
    assert fhir.ids(f"Observation?subject={BASE}/Patient/{value}/_history/1") == [first]


def test_quantities_are_compared_in_canonical_units(fhir: Fhir) -> None:
    value = unique()
    identity = made(fhir, observation(identifier=[{"value": value}], valueQuantity={"value": 5.4, "unit": "mg", "system": UCUM, "code": "mg"}))
    for asked in (f"0.0054|{UCUM}|g", f"5400|{UCUM}|ug", f"gt0.005|{UCUM}|g", f"le0.0054|{UCUM}|g"):
        assert fhir.ids(f"Observation?identifier={value}&value-quantity={asked}") == [identity], asked
    for asked in (f"5.4|{UCUM}|g", f"5.4|{UCUM}|mL", "0.0054||g", f"gt0.0054|{UCUM}|g"):
        assert fhir.ids(f"Observation?identifier={value}&value-quantity={asked}") == [], asked


def test_parts_of_a_composite_are_of_one_component(fhir: Fhir) -> None:
    value = unique()

    def part(code: str, number: int) -> Json:
        return {"code": {"coding": [{"system": "urn:c", "code": code}]}, "valueQuantity": {"value": number}}

    identity = made(fhir, observation(identifier=[{"value": value}], component=[part("sys", 120), part("dia", 80)]))
    query = f"Observation?identifier={value}&component-code-value-quantity="
    assert fhir.ids(f"{query}urn:c|sys$gt100") == [identity]
    assert fhir.ids(f"{query}sys$lt100,dia$lt100") == [identity]
    assert fhir.ids(f"{query}urn:c|dia$gt100") == []
    assert fhir.ids(f"{query}sys$lt100") == []


def test_each_chain_is_followed_by_itself(fhir: Fhir) -> None:
    value = unique()
    joe = made(fhir, {"resourceType": "Practitioner", "name": [{"family": f"Joe{value}"}], "gender": "male"})
    eve = made(fhir, {"resourceType": "Practitioner", "name": [{"family": f"Eve{value}"}], "gender": "female"})
    both = made(fhir, identified(value, generalPractitioner=[{"reference": f"Practitioner/{who}"} for who in (joe, eve)]))
    one = made(fhir, identified(value, generalPractitioner=[{"reference": f"Practitioner/{joe}"}]))
    chain = "general-practitioner:Practitioner"
    assert fhir.ids(f"Patient?identifier={value}&{chain}.name=joe{value}&{chain}.gender=female") == [both]
    assert set(fhir.ids(f"Patient?identifier={value}&{chain}.name=joe{value}&{chain}.gender=male")) == {both, one}
    assert set(fhir.ids(f"Patient?identifier={value}&{chain}.name=joe{value},eve{value}")) == {both, one}
    # One resource that satisfies both is asked for by a filter.
    nested = f"general-practitioner[name sw joe{value}].gender eq female"
    assert fhir.ids(f"Patient?identifier={value}&_filter={nested}") == []
    assert fhir.ids(f"Practitioner?name=joe{value}&_has:Patient:general-practitioner:identifier={value}&gender=male") == [joe]


def test_each_reverse_chain_is_followed_by_itself(fhir: Fhir) -> None:
    value = unique()
    identity = made(fhir, identified(value))
    for code in ("a", "b"):
        made(fhir, observation(code={"coding": [{"system": "urn:c", "code": f"{value}{code}"}]}, subject={"reference": f"Patient/{identity}"}))
    has = "_has:Observation:patient:code"
    assert fhir.ids(f"Patient?{has}={value}a&{has}={value}b") == [identity]
    assert fhir.ids(f"Patient?{has}={value}a,{value}c") == [identity]
    assert fhir.ids(f"Patient?{has}={value}a&{has}={value}c") == []
    assert fhir.ids(f"Patient?{has}=urn:other|{value}a") == []


def test_a_list_by_id(fhir: Fhir) -> None:
    first, second, third = (made(fhir, patient()) for _ in range(3))

    def listing(*ids: str) -> str:
        items = [{"item": {"reference": f"Patient/{identity}"}} for identity in ids]
        return made(fhir, {"resourceType": "List", "status": "current", "mode": "working", "entry": items})

    one, two = listing(first, second), listing(second, third)
    assert set(fhir.ids(f"Patient?_list={one}")) == {first, second}
    assert fhir.ids(f"Patient?_list={one}&_list={two}") == [second]
    assert set(fhir.ids(f"Patient?_list={one},{two}")) == {first, second, third}
    assert fhir.ids(f"Patient?_list={unique()[:60]}") == []
    assert set(fhir.ids(f"?_list={one}")) == {first, second}
    issues(fhir.get("Patient?_list=$current-problems", 400))


def test_places_near(fhir: Fhir) -> None:
    value = unique()
    near = made(fhir, {"resourceType": "Location", "identifier": [{"value": value}], "name": "A", "position": {"longitude": 16.37, "latitude": 48.2}})
    made(fhir, {"resourceType": "Location", "identifier": [{"value": value}], "name": "B", "position": {"longitude": 17.1, "latitude": 48.14}})
    assert fhir.ids(f"Location?identifier={value}&near=48.21|16.4|5|km") == [near]
    assert len(fhir.ids(f"Location?identifier={value}&near=48.21|16.4|60000|m")) == 2
    assert fhir.ids(f"Location?identifier={value}&near=0|0|5|km") == []


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("given eq ann", True),
        ("given ne ann", False),
        ("given co nn", True),
        ("given sw an", True),
        ("given ew nn", True),
        ("birthdate ge 1990 and birthdate lt 1991", True),
        ("birthdate gt 1990", False),
        ("birthdate ap 1990-05-17", True),
        ("birthdate po 1990-05", True),
        ("birthdate sa 1989 and birthdate eb 1991", True),
        ("gender pr false", True),
        ("gender pr true", False),
        ("gender eq male or given eq ann", True),
        ("not (given eq ann)", False),
        ("(gender eq male or given eq ann) and birthdate eq 1990", True),
        ('family eq "van Gogh"', True),
        ("organization re Organization/nobody", False),
        ("language in http://hl7.org/fhir/ValueSet/languages", False),
    ],
)
def test_operators_of_filter(fhir: Fhir, expression: str, *, found: bool) -> None:
    value = unique()
    identity = made(fhir, identified(value, name=[{"family": "van Gogh", "given": ["Ann"]}], birthDate="1990-05-17"))
    assert fhir.ids(f"Patient?identifier={value}&_filter={expression}") == ([identity] if found else [])


def test_named_queries_are_not_offered(fhir: Fhir) -> None:
    assert "_query" in issues(fhir.get("Patient?_query=current-high-risk", 400))
    told = fhir.get(f"Patient?identifier={unique()}&_query=current-high-risk", headers={"Prefer": "handling=lenient"})
    assert "_query" in issues(told["entry"][0]["resource"])
