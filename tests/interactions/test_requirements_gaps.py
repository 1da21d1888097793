"""Requirements of the specification that no other test shows by the way: each named in conformance/requirements.csv.

https://hl7.org/fhir/R4/http.html, https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.interactions.conftest import BASE, Fhir, Json, entry, identified, issues, observation, patient, unique

XML = {"Content-Type": "application/fhir+xml"}


def self_query(bundle: Json) -> dict[str, list[str]]:
    """The parameters of the self link."""
    (url,) = [each["url"] for each in bundle["link"] if each["relation"] == "self"]
    return parse_qs(urlsplit(url).query)


def made(fhir: Fhir, resource: Json) -> str:
    """The id of a new resource."""
    identity: str = fhir.post(resource["resourceType"], resource)["id"]
    return identity


# --- http.html --------------------------------------------------------------------------------------------------------------------


def test_addresses_are_case_sensitive_and_may_end_in_a_slash(fhir: Fhir) -> None:
    stem = unique("Ab")[:30]
    fhir.put(f"Patient/{stem}", patient(id=stem), 201)
    fhir.get(f"Patient/{stem.lower()}", 404)
    fhir.get(f"patient/{stem}", 404)
    assert fhir.ids(f"Patient?_id={stem}") == [stem]
    assert fhir.ids(f"Patient?_id={stem.lower()}") == []
    value = unique()
    assert fhir("POST", f"{BASE}/Patient/", identified(value)).status_code == 201
    assert len(fhir.ids(f"Patient/?identifier={value}")) == 1
    assert fhir("GET", f"{BASE}/Patient/{stem}/").status_code == 200
    assert fhir("DELETE", f"Patient/?identifier={value}").status_code == 204
    assert fhir.ids(f"Patient/?identifier={value}") == []


def test_addresses_are_read_as_utf_8(fhir: Fhir) -> None:
    name = f"Žluťoučký-{unique()}"
    identity = made(fhir, patient(name=[{"family": name}]))
    assert fhir.ids(f"Patient?family:exact={quote(name)}") == [identity]
    issues(fhir.get("Patient?family=%ff", 400))


@pytest.mark.parametrize("prefer", ["return=minimal", "return=representation", "return=OperationOutcome", "return=minimal, handling=lenient"])
def test_a_failure_is_explained_whatever_is_preferred(fhir: Fhir, prefer: str) -> None:
    identity = made(fhir, patient())
    for answer, status in (
        (fhir("POST", "Patient", patient(gender="foo"), {"Prefer": prefer}), 422),
        (fhir("PUT", f"Patient/{identity}", patient(id=identity), {"Prefer": prefer, "If-Match": 'W/"9"'}), 412),
        (fhir("PATCH", f"Patient/{identity}", [{"op": "remove", "path": "/gender"}], {"Prefer": prefer}), 422),
        (fhir("DELETE", "Patient", headers={"Prefer": prefer}), 400),
        (fhir("GET", "Patient/never-was", headers={"Prefer": prefer}), 404),
    ):
        assert answer.status_code == status
        issues(answer.get_json())


def test_format_is_of_the_answer_and_not_of_the_body(fhir: Fhir) -> None:
    answer = fhir("POST", "Patient?_format=xml", patient())
    assert (answer.status_code, answer.content_type) == (201, "application/fhir+xml; charset=utf-8")
    answer = fhir("POST", "Patient?_format=json", '<Patient xmlns="http://hl7.org/fhir"><active value="true"/></Patient>', XML)
    assert (answer.status_code, answer.get_json()["active"]) == (201, True)
    assert fhir("POST", "Patient?_format=json", "<Patient/>", {"Content-Type": "text/plain"}).status_code == 415
    refused = fhir("POST", "Patient?_format=xml", "<Patient/>")
    assert (refused.status_code, refused.data[:5]) == (400, b"<?xml")


def test_the_older_media_types_are_understood(fhir: Fhir) -> None:
    answer = fhir("POST", "Patient", patient(), {"Content-Type": "application/json+fhir", "Accept": "application/xml+fhir"})
    assert (answer.status_code, answer.content_type) == (201, "application/fhir+xml; charset=utf-8")
    answer = fhir("POST", "Patient", answer.data, {"Content-Type": "application/xml+fhir", "Accept": "application/json+fhir"})
    assert (answer.status_code, answer.content_type) == (201, "application/fhir+json; charset=utf-8")


def test_an_update_has_the_servers_version_and_time(fhir: Fhir) -> None:
    first = fhir.post("Patient", patient())
    claimed = {**first, "meta": {"versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z"}}
    answer = fhir("PUT", f"Patient/{first['id']}", claimed)
    second = answer.get_json()
    assert (answer.status_code, answer.headers["ETag"], second["meta"]["versionId"]) == (200, 'W/"2"', "2")
    assert second["meta"]["lastUpdated"] >= first["meta"]["lastUpdated"]
    assert "Last-Modified" in answer.headers
    assert fhir.get(f"Patient/{first['id']}") == second


def test_a_patch_in_another_language_is_not_taken(fhir: Fhir) -> None:
    identity = made(fhir, patient())
    issues(fhir("PATCH", f"Patient/{identity}", "<diff/>", {"Content-Type": "application/xml-patch+xml"}).get_json())
    assert fhir("PATCH", f"Patient/{identity}", "<diff/>", {"Content-Type": "application/xml-patch+xml"}).status_code == 415


def test_conditional_writes_are_plain_ones_in_the_history(fhir: Fhir) -> None:
    value = unique()
    address = f"Patient?identifier=urn:mrn|{value}"
    identity = fhir.put(address, identified(value), 201)["id"]
    fhir.put(address, identified(value, gender="male"))
    assert fhir("DELETE", address).status_code == 204
    told = [each["request"] for each in fhir.get(f"Patient/{identity}/_history")["entry"]]
    assert [each["method"] for each in told][:2] == ["DELETE", "PUT"]
    assert {each["url"] for each in told} <= {f"Patient/{identity}", "Patient"}


def test_the_mode_of_capabilities_is_let_pass(fhir: Fhir) -> None:
    for mode in ("full", "normative", "terminology"):
        assert fhir.get(f"metadata?mode={mode}")["resourceType"] == "CapabilityStatement"


def test_the_links_of_a_history_keep_its_count_and_times(fhir: Fhir) -> None:
    first = fhir.post("Patient", patient())
    path = f"Patient/{first['id']}"
    for _ in range(4):
        fhir.put(path, first)
    since = first["meta"]["lastUpdated"]
    pages = list(fhir.pages(f"{path}/_history?_count=2&_since={since}"))
    assert [len(page["entry"]) for page in pages] == [2, 2, 1]
    assert {tuple(self_query(page)["_count"]) for page in pages} == {("2",)}
    assert {tuple(self_query(page)["_since"]) for page in pages} == {(since,)}


def test_a_request_id_comes_back_end_to_end(fhir: Fhir) -> None:
    for path in ("metadata", "Patient?_count=1", "Patient/never-was", "Nonsense"):
        assert fhir("GET", path, headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
        assert fhir("GET", path).headers["X-Request-Id"]


def test_a_token_without_the_right_is_403_with_an_outcome(fhir: Fhir) -> None:
    identity = made(fhir, patient())
    narrow = fhir.other(scope="system/Observation.rs")
    for answer in (
        narrow("GET", f"Patient/{identity}"),
        narrow("GET", "Patient?name=x"),
        narrow("POST", "Patient", patient()),
        narrow("PUT", f"Patient/{identity}", patient(id=identity)),
        narrow("DELETE", f"Patient/{identity}"),
        narrow("GET", f"Patient/{identity}/_history"),
    ):
        assert answer.status_code == 403
        issues(answer.get_json())


# --- search.html: what is asked ------------------------------------------------------------------------------------------------------


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


# --- search.html: what is answered ----------------------------------------------------------------------------------------------------


def test_contained_resources_are_not_found(fhir: Fhir) -> None:
    value = unique()
    inside = {"resourceType": "Patient", "id": "p", "identifier": [{"value": value}]}
    holder = made(fhir, observation(identifier=[{"value": value}], contained=[inside], subject={"reference": "#p"}))
    assert fhir.ids(f"Patient?identifier={value}") == []
    assert fhir.ids(f"Observation?identifier={value}") == [holder]


def test_every_page_has_its_own_includes_and_the_count_is_of_matches(fhir: Fhir) -> None:
    value, who = unique(), made(fhir, patient(text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">she</div>'}))
    for _ in range(5):
        made(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Patient/{who}"}))
    query = f"Observation?identifier={value}&_include=Observation:subject:Patient&_count=2&_total=accurate&_elements=status"
    pages = list(fhir.pages(query))
    assert [[each["search"]["mode"] for each in page["entry"]] for page in pages] == [["match", "match", "include"]] * 2 + [["match", "include"]]
    assert {page["total"] for page in pages} == {5}
    for page in pages:
        # What `_elements` names is of the matches; what is included is whole.
        assert "text" in page["entry"][-1]["resource"]
        assert page["entry"][0]["resource"].keys() == {"resourceType", "id", "meta", "status", "code"}
        assert self_query(page)["_count"] == ["2"]
    assert len(fhir.get(f"Observation?identifier={value}&_include=Observation:subject:Device")["entry"]) == 5


def test_the_self_link_says_how_it_was_sorted_and_counted(fhir: Fhir) -> None:
    value = unique()
    made(fhir, identified(value))
    for query in ("_sort=-birthdate,family", "_summary=count", "_summary=text", "_count=0", "_total=none", "gender:missing=true", "_elements=name"):
        name, _, asked = query.partition("=")
        assert self_query(fhir.get(f"Patient?identifier={value}&{query}")) == {"identifier": [value], name: [asked]}
    lenient = fhir.get(f"Patient?identifier={value}&_sort=nope", headers={"Prefer": "handling=lenient"})
    assert self_query(lenient) == {"identifier": [value]}


def test_an_outcome_among_the_results_is_no_error(fhir: Fhir) -> None:
    bundle = fhir.get(f"Patient?identifier={unique()}&nope=1&organization.nope=x", headers={"Prefer": "handling=lenient"})
    (told,) = bundle["entry"]
    assert (bundle["total"], told["search"]["mode"]) == (0, "outcome")
    assert {issue["severity"] for issue in told["resource"]["issue"]} <= {"warning", "information"}
    assert len(told["resource"]["issue"]) == 2


def test_sorting_is_without_case(fhir: Fhir) -> None:
    value = unique()
    ids = [made(fhir, identified(value, name=[{"family": family}])) for family in ("adam", "BERTA", "cäsar", "CAESAR")]
    assert fhir.ids(f"Patient?identifier={value}&_sort=family") == [ids[0], ids[1], ids[3], ids[2]]
    # Of several values the one that is first in the order counts.
    both = made(fhir, identified(value, name=[{"family": "aaron"}, {"family": "zora"}]))
    assert fhir.ids(f"Patient?identifier={value}&_sort=family")[0] == both
    assert fhir.ids(f"Patient?identifier={value}&_sort=-family")[0] == both


@pytest.mark.parametrize(
    "query", ["date:text=x", "code:contains=x", "value-quantity:in=x", "status:of-type=x", "date:exact=2020", "subject:nonsense=1", "_id:exact=1"]
)
def test_modifiers_that_are_not_there_are_refused_also_leniently(fhir: Fhir, query: str) -> None:
    for handling in ("strict", "lenient"):
        assert ":" in issues(fhir.get(f"Observation?{query}", 400, {"Prefer": f"handling={handling}"}))


def test_searches_in_a_batch_answer_as_alone(fhir: Fhir) -> None:
    value = unique()
    identity = made(fhir, identified(value))
    answer: Any = fhir.bundle("batch", entry("GET", f"Patient?identifier={value}"), entry("GET", "Patient?nope=1"))
    assert [each["resource"]["id"] for each in answer["entry"][0]["resource"]["entry"]] == [identity]
    assert answer["entry"][1]["response"]["status"].startswith("400")


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_a_head_entry_answers_without_the_resource(fhir: Fhir, kind: str) -> None:
    path = f"Patient/{made(fhir, patient())}"
    bundle = fhir.bundle(kind, entry("HEAD", path), entry("GET", path), entry("HEAD", f"{path}/_history"))
    head, full, history = bundle["entry"]
    assert (head.keys(), head["response"]) == ({"response"}, full["response"])
    assert full["resource"]["resourceType"] == "Patient"
    assert (history.keys(), history["response"]["status"]) == ({"response"}, "200 OK")
