"""What the specification demands of the values of search parameters: each named in conformance/requirements.csv.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.interactions.conftest import BASE, Fhir, Json, identified, issues, made, observation, patient, self_query, unique


def test_what_nothing_has_finds_nothing(fhir: Fhir) -> None:
    for query in (
        f"Observation?subject={unique('nobody')}",
        f"Observation?subject=Patient/{unique('nobody')[:60]}",
        f"Observation?code=http://loinc.org|{unique()}",
        f"Observation?code={unique('urn:no-such-system')}|",
        "Observation?date=lt0002",
        f"Patient?_id={unique('nobody')[:60]}",
    ):
        assert fhir.get(query)["total"] == 0, query


def test_empty_parameters_are_left_aside(fhir: Fhir) -> None:
    value = unique()
    identity = made(fhir, identified(value))
    bundle = fhir.get(f"Patient?identifier={value}&name=&gender=,&birthdate:missing=")
    assert [each["resource"]["id"] for each in bundle["entry"] if each["search"]["mode"] == "match"] == [identity]
    assert self_query(bundle) == {"identifier": [value]}


def test_without_parameters_everything_is_found(fhir: Fhir) -> None:
    two = {made(fhir, {"resourceType": "EnrollmentRequest"}) for _ in range(2)}
    assert two <= set(fhir.ids("EnrollmentRequest"))
    posted = fhir.post("EnrollmentRequest/_search", None, 200)
    assert two <= {each["resource"]["id"] for each in posted["entry"]}


@pytest.mark.parametrize("query", ["Name=x", "BirthDate=2020", "_ID=x", "_Count=1", "identifier:Missing=true"])
def test_names_of_parameters_are_case_sensitive(fhir: Fhir, query: str) -> None:
    issues(fhir.get(f"Patient?{query}", 400))


PERIOD: Json = {"start": "2013-01-21", "end": "2013-03-14"}


@pytest.mark.parametrize(
    ("element", "found", "missed"),
    [
        (
            {"effectiveDateTime": "2013-01-14T10:00:00+01:00"},
            ["2013-01-14", "eq2013-01", "ge2013-01-14", "le2013-01-14"],
            ["ne2013-01-14", "2013-01-15"],
        ),
        ({"effectiveDateTime": "2013-01-15T00:00:00+01:00"}, ["ne2013-01-14", "sa2013-01-14", "gt2013-01-14"], ["2013-01-14", "lt2013-01-15"]),
        ({"effectiveDateTime": "2013-01-14"}, ["lt2013-01-14T10:00", "gt2013-01-14T10:00", "ap2013-01-14"], ["2013-01-14T10:00", "eb2013-01-14"]),
        ({"effectivePeriod": {"start": "2013-01-21"}}, ["ge2013-03-14", "le2013-03-14", "sa2013-01-20"], ["sa2013-03-14", "eb2013-03-14"]),
        ({"effectivePeriod": {"end": "2013-01-21"}}, ["eb2013-03-14", "lt1900", "ne2013"], ["sa2013-03-14", "2013", "gt2013-01-22"]),
        ({"effectivePeriod": PERIOD}, ["2013", "ge2013-02", "le2013-02", "ap2013-02"], ["2013-02", "sa2013-02", "eb2013-02"]),
        ({"effectiveTiming": {"repeat": {"boundsPeriod": PERIOD}}}, ["2013", "gt2013-02"], ["2013-01", "sa2013-02"]),
    ],
)
def test_dates_by_every_prefix(fhir: Fhir, element: Json, found: list[str], missed: list[str]) -> None:
    value = unique()
    identity = made(fhir, observation(identifier=[{"value": value}], **element))
    for date in (*found, *(each.replace(":", "%3A") for each in found if ":" in each)):
        assert fhir.ids(f"Observation?identifier={value}&date={date}") == [identity], date
    for date in missed:
        assert fhir.ids(f"Observation?identifier={value}&date={date}") == [], date


@pytest.mark.parametrize(
    ("stored", "found", "missed"),
    [
        (
            "0.8",
            ["0.8", "eq0.80", "ge0.8", "le0.8", "8e-1", "gt0.79", "ap0.79", "sa0.79", "eb0.9", "ne0.7"],
            ["gt0.8", "lt0.8", "ne0.8", "0.81", "ap0.4"],
        ),
        ("0.84", ["0.8", "gt0.8"], ["0.80", "eb0.84", "lt0.84"]),
        ("0.85", ["0.9"], ["0.8"]),
    ],
)
def test_numbers_by_every_prefix(fhir: Fhir, stored: str, found: list[str], missed: list[str]) -> None:
    value = unique()
    text = f'{{"resourceType":"RiskAssessment","status":"final","subject":{{"reference":"Patient/x"}},"identifier":[{{"value":"{value}"}}],'
    answer = fhir("POST", "RiskAssessment", f'{text}"prediction":[{{"probabilityDecimal":{stored}}}]}}')
    assert answer.status_code == 201, answer.data
    for number in found:
        assert len(fhir.ids(f"RiskAssessment?identifier={value}&probability={number}")) == 1, number
    for number in missed:
        assert fhir.ids(f"RiskAssessment?identifier={value}&probability={number}") == [], number


def test_quantities_with_and_without_unit(fhir: Fhir) -> None:
    value = unique()
    ucum = "http://unitsofmeasure.org"
    quantity = {"value": 5.4, "unit": "milligram", "system": ucum, "code": "mg"}
    identity = made(fhir, observation(identifier=[{"value": value}], valueQuantity=quantity))
    for asked in (
        "5.4",
        "5.40",
        "54e-1",
        f"5.4|{ucum}|mg",
        "5.4||mg",
        "5.4||milligram",
        f"le5.4|{ucum}|mg",
        f"ap5.5|{ucum}|mg",
        "sa5.3",
        "eb5.5",
        "ne6",
    ):
        assert fhir.ids(f"Observation?identifier={value}&value-quantity={asked}") == [identity], asked
    for asked in ("5.5", f"5.4|{ucum}|g", "5.4|urn:other|mg", "5.4||g", "gt5.4", "lt5.4", "ne5.4", f"5.4|{ucum}|milligram"):
        assert fhir.ids(f"Observation?identifier={value}&value-quantity={asked}") == [], asked


def test_strings_from_their_beginning_without_case_and_accents(fhir: Fhir) -> None:
    mark = unique("q")
    identity = made(fhir, patient(name=[{"family": f"{mark} Müller", "given": ["Éve"]}]))
    for asked in (mark.upper(), f"{mark} mull", f"{mark} MÜLLER"):
        assert fhir.ids(f"Patient?family={quote(asked)}") == [identity], asked
        assert fhir.ids(f"Patient?name={quote(asked)}") == [identity], asked
    assert fhir.ids(f"Patient?family={mark}&given=eve") == [identity]
    assert fhir.ids(f"Patient?family={mark[1:]}") == []
    assert fhir.ids(f"Patient?family:contains={mark[1:].upper()}") == [identity]
    assert fhir.ids(f"Patient?family:exact={quote(f'{mark} Müller')}") == [identity]
    for asked in (f"{mark} müller", f"{mark} Muller", mark):
        assert fhir.ids(f"Patient?family:exact={quote(asked)}") == [], asked


def test_uris_are_the_whole_and_exact(fhir: Fhir) -> None:
    url = f"http://example.org/ValueSet/{unique('Vs')}"
    identity = made(fhir, {"resourceType": "ValueSet", "status": "draft", "url": url})
    assert fhir.ids(f"ValueSet?url={url}") == [identity]
    for other in (url.lower(), url[:-1], url + "/x", url.replace("http:", "https:")):
        assert fhir.ids(f"ValueSet?url={other}") == [], other


def test_tokens_by_code_and_system(fhir: Fhir) -> None:
    value, telephone = unique(), unique("+49")
    system = f"urn:{unique('s')}"
    first = made(fhir, patient(identifier=[{"system": system, "value": value}], active=True, telecom=[{"system": "phone", "value": telephone}]))
    second = made(fhir, patient(identifier=[{"value": value}], active=False))
    assert sorted(fhir.ids(f"Patient?identifier={value}")) == sorted([first, second])
    assert fhir.ids(f"Patient?identifier={system}|{value}") == [first]
    assert fhir.ids(f"Patient?identifier=|{value}") == [second]
    assert fhir.ids(f"Patient?identifier={system}|") == [first]
    assert fhir.ids(f"Patient?identifier={value}&active=true") == [first]
    assert fhir.ids(f"Patient?phone={quote(telephone)}") == [first]
    assert fhir.ids(f"Patient?identifier={value}&identifier:not={system}|{value}") == [second]
    coded = made(
        fhir, observation(identifier=[{"value": value}], code={"coding": [{"system": "urn:c", "code": "a"}, {"system": "urn:c", "code": "b"}]})
    )
    assert fhir.ids(f"Observation?identifier={value}&code=urn:c|b") == [coded]
    # The negation is of the whole set: another code beside the one that is ruled out does not help.
    assert fhir.ids(f"Observation?identifier={value}&code:not=urn:c|a") == []
    assert fhir.ids(f"Observation?identifier={value}&status=http://hl7.org/fhir/observation-status|final") == [coded]


def test_references_by_id_type_and_url(fhir: Fhir) -> None:
    value, who = unique(), made(fhir, patient())
    texts = [f"Patient/{who}", f"{BASE}/Patient/{who}", f"Patient/{who}/_history/1"]
    ids = [made(fhir, observation(identifier=[{"value": value}], subject={"reference": text})) for text in texts]
    other = made(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Device/{who}"}))
    far = f"http://elsewhere.example.org/fhir/Patient/{who}"
    away = made(fhir, observation(identifier=[{"value": value}], subject={"reference": far}))
    query = f"Observation?identifier={value}"
    for asked in (f"subject=Patient/{who}", f"subject={BASE}/Patient/{who}", f"subject:Patient={who}", f"patient={who}", f"patient=Patient/{who}"):
        assert sorted(fhir.ids(f"{query}&{asked}")) == sorted(ids), asked
    assert sorted(fhir.ids(f"{query}&subject={who}")) == sorted([*ids, other])
    assert fhir.ids(f"{query}&subject=Device/{who}") == [other]
    assert fhir.ids(f"{query}&subject={far}") == [away]


def test_missing_of_every_type_of_parameter(fhir: Fhir) -> None:
    value = unique()
    full = made(
        fhir,
        observation(
            identifier=[{"value": value}],
            subject={"reference": "Patient/x"},
            effectiveDateTime="2020",
            valueQuantity={"value": 1},
            meta={"source": "urn:s"},
        ),
    )
    bare = made(fhir, observation(identifier=[{"value": value}], valueString="x"))
    for code in ("subject", "date", "value-quantity", "_source"):
        assert fhir.ids(f"Observation?identifier={value}&{code}:missing=true") == [bare], code
        assert fhir.ids(f"Observation?identifier={value}&{code}:missing=false") == [full], code
    assert fhir.ids(f"Observation?identifier={value}&value-string:missing=false") == [bare]
    # An element that has an extension and no value is missing.
    extended = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
    unknown = made(fhir, identified(value, _birthDate=extended))
    assert fhir.ids(f"Patient?identifier={value}&birthdate:missing=true") == [unknown]
    assert fhir.ids(f"Patient?identifier={value}&birthdate:missing=true&birthdate=2020") == []


def test_parameters_of_every_type(fhir: Fhir) -> None:
    mark = unique()
    meta = {
        "tag": [{"system": "urn:t", "code": mark}],
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}],
        "profile": [f"http://example.org/{mark}"],
        "source": f"urn:{mark}",
    }
    for resource in (patient(meta=meta), observation(meta=meta), {"resourceType": "Organization", "name": "x", "meta": meta}):
        name, identity = resource["resourceType"], made(fhir, resource)
        updated = fhir.get(f"{name}/{identity}")["meta"]["lastUpdated"]
        for query in (
            f"_id={identity}",
            f"_tag=urn:t|{mark}",
            f"_tag={mark}&_security=R",
            f"_profile=http://example.org/{mark}",
            f"_source=urn:{mark}",
            f"_tag={mark}&_lastUpdated={updated}",
            f"_tag={mark}&_lastUpdated=ge{updated}",
        ):
            assert fhir.ids(f"{name}?{query}") == [identity], query
        assert fhir.ids(f"{name}?_tag={mark}&_lastUpdated=lt{updated}") == []
        assert fhir.ids(f"{name}?_tag={mark}&_security:not=R") == []


@pytest.mark.parametrize(
    "query", ["date:text=x", "code:contains=x", "value-quantity:in=x", "status:of-type=x", "date:exact=2020", "subject:nonsense=1", "_id:exact=1"]
)
def test_modifiers_that_are_not_there_are_refused_also_leniently(fhir: Fhir, query: str) -> None:
    for handling in ("strict", "lenient"):
        assert ":" in issues(fhir.get(f"Observation?{query}", 400, {"Prefer": f"handling={handling}"}))


def test_mime_types_are_compared_as_they_are(fhir: Fhir) -> None:
    value, kind = unique(), "text/xml; charset=UTF-8"
    content = [{"attachment": {"contentType": kind}}]
    identity = made(fhir, {"resourceType": "DocumentReference", "status": "current", "identifier": [{"value": value}], "content": content})
    assert fhir.ids(f"DocumentReference?identifier={value}&contenttype={quote(kind)}") == [identity]
    assert fhir.ids(f"DocumentReference?identifier={value}&contenttype=text/xml") == []
    issues(fhir.get("DocumentReference?contenttype:below=text", 400))
