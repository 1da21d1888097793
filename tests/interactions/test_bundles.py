"""Batch and transaction. https://hl7.org/fhir/R4/http.html#transaction"""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhir_server.outcome import Outcome
from tests.interactions.conftest import BASE, Fhir, Json, entry, identified, issues, observation, patient, unique

LINK = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
OTHER = "urn:uuid:88f151c0-a954-468a-88bd-5ae15c08e059"


def statuses(bundle: Json) -> list[str]:
    return [each["response"]["status"][:3] for each in bundle["entry"]]


def written(bundle: Json, number: int) -> str:
    """Type and id that an entry of a response is about."""
    location: str = bundle["entry"][number]["response"]["location"]
    return location.removeprefix(BASE + "/").partition("/_history/")[0]


# --- batch ----------------------------------------------------------------------------------------------------------------------


def test_entries_of_a_batch_stand_for_themselves(fhir: Fhir) -> None:
    made, other = fhir.post("Patient", patient()), fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    answer = fhir.bundle(
        "batch",
        entry("POST", "Patient", patient(gender="foo")),
        entry("GET", path),
        entry("GET", "Patient/never-was"),
        entry("PUT", path, {**made, "gender": "female"}, ifMatch='W/"7"'),
        entry("POST", "Patient", patient()),
        entry("DELETE", path),
        entry("GET", path),
        entry("GET", f"Patient/{other['id']}/_history/1"),
        entry("GET", f"Patient?_id={made['id']}"),
        entry("GET", "metadata"),
        entry("HEAD", path),
        entry("FETCH", path),
        {"resource": patient()},
        entry("GET", f"{path}/_history?_format=json"),
    )
    assert (answer["resourceType"], answer["type"]) == ("Bundle", "batch-response")
    assert statuses(answer) == ["422", "200", "404", "412", "201", "204", "410", "200", "200", "200", "410", "400", "400", "200"]
    for each in answer["entry"]:
        if int(each["response"]["status"][:3]) >= 400:
            issues(each["response"]["outcome"])
    assert answer["entry"][1]["resource"] == made
    assert answer["entry"][1]["response"]["etag"] == 'W/"1"'
    assert answer["entry"][8]["resource"]["type"] == "searchset"
    outcome = fhir.post("Bundle/$validate", answer, 200)
    assert [issue for issue in outcome["issue"] if issue["severity"] == "error"] == []


def test_a_bundle_reads_no_more_where_its_answer_is_large_already(fhir: Fhir) -> None:
    large = fhir.post("Patient", patient(contact=[{"name": {"text": "x" * 1_000_000}} for _ in range(3)]))
    value = unique()
    reads = [entry("GET", f"Patient/{large['id']}") for _ in range(25)]
    write = entry("PUT", f"Patient/{value}", patient(id=value))
    told = fhir.bundle("batch", *reads, write, headers={"Prefer": "return=representation"})["entry"]
    assert [each["response"]["status"][:3] for each in told[:22]] == ["200"] * 22
    assert {each["response"]["status"][:3] for each in told[22:25]} == {str(Outcome("too-costly", "").status)}
    assert (told[25]["response"]["status"], "resource" in told[25]) == ("201 Created", False)
    fhir.bundle("transaction", *reads, entry("DELETE", f"Patient/{value}"), status=Outcome("too-costly", "").status)
    assert fhir.get(f"Patient/{value}")["id"] == value


def test_references_in_a_batch_stay_as_they_are(fhir: Fhir) -> None:
    answer = fhir.bundle(
        "batch",
        entry("POST", "Patient", patient(), LINK),
        entry("POST", "Observation", observation(subject={"reference": LINK})),
    )
    assert statuses(answer) == ["201", "201"]
    assert fhir.get(written(answer, 1))["subject"]["reference"] == LINK


def test_an_empty_bundle_has_an_empty_answer(fhir: Fhir) -> None:
    for kind in ("batch", "transaction"):
        answer = fhir.post("", {"resourceType": "Bundle", "type": kind}, 200)
        assert (answer["type"], answer.get("entry", [])) == (f"{kind}-response", [])


@pytest.mark.parametrize("kind", ["collection", "searchset", "history", "document", None, 7, ["batch"], {}])
def test_other_bundles_cannot_be_processed(fhir: Fhir, kind: Any) -> None:
    issues(fhir.post("", {"resourceType": "Bundle", "type": kind, "entry": []}, 400))
    issues(fhir.post("", patient(), 400))


# --- transaction: all or nothing, order ---------------------------------------------------------------------------------------------


def test_a_transaction_answers_for_each_entry_in_the_order_sent(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    gone = fhir.post("Patient", patient())
    identity = unique("put")
    answer = fhir.bundle(
        "transaction",
        entry("GET", f"Patient/{made['id']}"),
        entry("PUT", f"Patient/{made['id']}", {**made, "gender": "female"}, ifMatch='W/"1"'),
        entry("POST", "Patient", patient(id="dropped")),
        entry("DELETE", f"Patient/{gone['id']}"),
        entry("PUT", f"Patient/{identity}", patient(id=identity)),
        entry("GET", f"Patient?_id={identity}"),
    )
    assert (answer["resourceType"], answer["type"]) == ("Bundle", "transaction-response")
    assert statuses(answer) == ["200", "200", "201", "204", "201", "200"]
    # Reads come last: they see what the same transaction has written.
    assert answer["entry"][0]["resource"]["gender"] == "female"
    assert answer["entry"][5]["resource"]["total"] == 1
    for number, version in ((1, 2), (2, 1), (4, 1)):
        response = answer["entry"][number]["response"]
        assert response["etag"] == f'W/"{version}"'
        assert response["location"].endswith(f"/_history/{version}")
        stored = fhir.get(written(answer, number))
        assert response["lastModified"] == stored["meta"]["lastUpdated"]
        assert "resource" not in answer["entry"][number]
    assert written(answer, 2) != "Patient/dropped"
    assert fhir("GET", f"Patient/{gone['id']}").status_code == 410
    outcome = fhir.post("Bundle/$validate", answer, 200)
    assert [issue for issue in outcome["issue"] if issue["severity"] == "error"] == []


def test_what_is_returned_is_what_was_preferred(fhir: Fhir) -> None:
    one = entry("POST", "Patient", patient())
    assert "resource" not in fhir.bundle("transaction", one, headers={"Prefer": "return=minimal"})["entry"][0]
    full = fhir.bundle("transaction", one, headers={"Prefer": "return=representation"})["entry"][0]
    assert full["resource"]["name"] == patient()["name"]
    told = fhir.bundle("transaction", one, headers={"Prefer": "return=OperationOutcome"})["entry"][0]
    assert told["response"]["outcome"]["resourceType"] == "OperationOutcome"


def test_deletes_come_before_conditional_creates_whatever_the_order(fhir: Fhir) -> None:
    value = unique()
    old = fhir.post("Patient", identified(value))
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Patient", identified(value, gender="male"), ifNoneExist=f"identifier=urn:mrn|{value}"),
        entry("DELETE", f"Patient/{old['id']}"),
    )
    assert statuses(answer) == ["201", "204"]
    assert fhir.ids(f"Patient?identifier={value}") == [written(answer, 0).partition("/")[2]]


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (entry("POST", "Patient", patient(gender="foo")), 422),
        (entry("GET", "Patient/never-was"), 404),
        (entry("PUT", "Patient/never-was", patient(id="never-was"), ifMatch='W/"1"'), 412),
        (entry("PUT", "Patient/one", patient(id="two")), 400),
        (entry("PUT", "Patient/one", patient()), 400),
        (entry("POST", "Observation", patient()), 400),
        (entry("POST", "Observation", observation(subject={"reference": "Patient?identifier=urn:mrn|nobody-has-this"})), 412),
        (entry("POST", "Observation", observation(subject={"reference": "Patient?nope=1"})), 400),
        (entry("POST", "Observation", observation(subject={"reference": "Nonsense?identifier=1"})), 0),
        (entry("POST", "Nonsense", {"resourceType": "Nonsense"}), 404),
        (entry("POST", "Patient"), 400),
        (entry("PUT", "Patient", patient()), 400),
        (entry("DELETE", "Patient"), 400),
        (entry("DELETE", "Patient?nope=1"), 400),
        (entry("GET", "Patient?nope=1"), 400),
        (entry("PATCH", "Patient/never-was", {"resourceType": "Parameters"}), 404),
        (entry("PATCH", "Patient?identifier=urn:mrn|nobody-has-this", {"resourceType": "Parameters"}), 404),
        (entry("POST", "$validate", patient()), 400),
        (entry("GET", "http://elsewhere.example.org/fhir/Patient/1"), 400),
        ({"resource": patient()}, 400),
    ],
)
def test_one_bad_entry_undoes_all(fhir: Fhir, last: Json, status: int) -> None:
    value, identity = unique(), unique("kept")
    kept = fhir.put(f"Patient/{identity}", patient(id=identity), 201)
    bundle = [entry("POST", "Patient", identified(value)), entry("DELETE", f"Patient/{identity}"), last]
    answer = fhir("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": bundle})
    assert answer.status_code == (status or answer.status_code), answer.data
    assert 400 <= answer.status_code < 500
    issues(answer.get_json())
    assert fhir.ids(f"Patient?identifier={value}") == []
    assert fhir.get(f"Patient/{identity}") == kept
    assert fhir.get(f"Patient/{identity}/_history")["total"] == 1


def test_every_faulty_entry_is_named(fhir: Fhir) -> None:
    bad = [entry("POST", "Patient", patient(gender="foo")), entry("POST", "Patient", patient()), entry("POST", "Patient", patient(birthDate="x"))]
    outcome = fhir.bundle("transaction", *bad, status=422)
    assert [issue["expression"][0] for issue in outcome["issue"]] == ["Bundle.entry[0].resource.gender", "Bundle.entry[2].resource.birthDate"]


# --- transaction: links -----------------------------------------------------------------------------------------------------------


def test_links_become_references_wherever_one_may_stand(fhir: Fhir) -> None:
    oid, canonical = "urn:oid:2.16.840.1.113883.3.4.5", "urn:uuid:9f1c7b1e-0000-4000-8000-000000000001"
    composition = {
        "resourceType": "Basic",
        "code": {"text": LINK},
        "subject": {"reference": LINK},
        "identifier": [{"system": LINK, "value": LINK}],
        "modifierExtension": [{"url": "http://example.org/inside", "valueReference": {"reference": "#o"}}],
        "contained": [{"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}, "subject": {"reference": oid}}],
        "extension": [
            {"url": "http://example.org/ref", "valueReference": {"reference": oid}},
            {"url": "http://example.org/canonical", "valueCanonical": f"{canonical}|1.0"},
            {"url": "http://example.org/uri", "valueUri": LINK},
            {"url": "http://example.org/string", "valueString": LINK},
            {"url": "http://example.org/fragment", "valueUri": f"{LINK}#name"},
        ],
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{LINK}">she</a> <a href=\'{oid}\'>it</a> {LINK} <a href="http://x.org/">x</a></div>',
        },
        "author": {"extension": [{"url": "http://example.org/deep", "valueReference": {"reference": LINK}}], "display": LINK},
    }
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Basic", composition),
        entry("POST", "Patient", patient(), LINK),
        entry("POST", "Patient", patient(), oid),
        entry("POST", "ValueSet", {"resourceType": "ValueSet", "status": "draft", "url": "http://example.org/vs"}, canonical),
    )
    found = fhir.get(written(answer, 0))
    she, it, values = written(answer, 1), written(answer, 2), written(answer, 3)
    assert found["subject"]["reference"] == she
    assert found["contained"][0]["subject"]["reference"] == it
    assert [each.get("valueReference", {}).get("reference") or each.get("valueCanonical") or each.get("valueUri") for each in found["extension"]] == [
        it,
        f"{values}|1.0",
        she,
        None,
        f"{she}#name",
    ]
    assert found["extension"][3]["valueString"] == LINK
    assert found["author"]["extension"][0]["valueReference"]["reference"] == she
    assert found["author"]["display"] == LINK
    assert found["code"]["text"] == LINK
    assert found["identifier"][0]["value"] == LINK
    assert f'<a href="{she}">she</a> <a href=\'{it}\'>it</a> {LINK} <a href="http://x.org/">x</a>' in found["text"]["div"]
    assert fhir.ids(f"Basic?subject={she}") == [found["id"]]


def test_links_may_form_a_circle_and_point_to_themselves(fhir: Fhir) -> None:
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Patient", patient(link=[{"other": {"reference": OTHER}, "type": "seealso"}]), LINK),
        entry(
            "POST",
            "Patient",
            patient(link=[{"other": {"reference": LINK}, "type": "seealso"}, {"other": {"reference": OTHER}, "type": "refer"}]),
            OTHER,
        ),
    )
    one, two = written(answer, 0), written(answer, 1)
    assert fhir.get(one)["link"][0]["other"]["reference"] == two
    assert [each["other"]["reference"] for each in fhir.get(two)["link"]] == [one, two]


def test_full_urls_of_resources_elsewhere_are_links_too(fhir: Fhir) -> None:
    there = "http://elsewhere.example.org/fhir/Patient/77"
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Patient", patient(id="77"), there),
        entry("POST", "Observation", observation(subject={"reference": there}), "http://elsewhere.example.org/fhir/Observation/5"),
        entry("POST", "Observation", observation(subject={"reference": "Patient/77"}), "http://elsewhere.example.org/fhir/Observation/6"),
    )
    assert fhir.get(written(answer, 1))["subject"]["reference"] == written(answer, 0)
    # https://hl7.org/fhir/R4/bundle.html#references: a relative reference is read against the fullUrl of the entry that it stands in.
    assert fhir.get(written(answer, 2))["subject"]["reference"] == written(answer, 0)


def test_links_to_what_was_found_updated_and_patched(fhir: Fhir) -> None:
    value, identity = unique(), unique("known")
    there = fhir.post("Patient", identified(value))["id"]
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Observation", observation(subject={"reference": LINK})),
        entry("POST", "Observation", observation(subject={"reference": OTHER})),
        entry("POST", "Patient", identified(value), LINK, ifNoneExist=f"identifier=urn:mrn|{value}"),
        entry("PUT", f"Patient/{identity}", patient(id=identity), OTHER),
    )
    assert statuses(answer) == ["201", "201", "200", "201"]
    assert fhir.get(written(answer, 0))["subject"]["reference"] == f"Patient/{there}"
    assert fhir.get(written(answer, 1))["subject"]["reference"] == f"Patient/{identity}"


def test_conditional_references(fhir: Fhir) -> None:
    value = unique()
    there = fhir.post("Patient", identified(value))["id"]
    condition = f"Patient?identifier=urn:mrn|{value}"
    made = observation(
        subject={"reference": condition},
        performer=[{"reference": condition}],
        extension=[{"url": "http://example.org/uri", "valueUri": condition}, {"url": "http://example.org/canonical", "valueCanonical": condition}],
        text={"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{condition}">she</a></div>'},
    )
    answer = fhir.bundle("transaction", entry("POST", "Observation", made))
    found = fhir.get(written(answer, 0))
    assert found["subject"]["reference"] == found["performer"][0]["reference"] == f"Patient/{there}"
    assert found["extension"][0]["valueUri"] == found["extension"][1]["valueCanonical"] == f"Patient/{there}"
    assert f'href="Patient/{there}"' in found["text"]["div"]
    fhir.post("Patient", identified(value))
    assert "more than one" in issues(fhir.bundle("transaction", entry("POST", "Observation", made), status=412))


def test_a_conditional_reference_does_not_find_what_is_deleted_beside_it(fhir: Fhir) -> None:
    value = unique()
    there = fhir.post("Patient", identified(value))["id"]
    made = observation(subject={"reference": f"Patient?identifier=urn:mrn|{value}"})
    fhir.bundle("transaction", entry("POST", "Observation", made), entry("DELETE", f"Patient/{there}"), status=412)
    assert fhir.get(f"Patient/{there}")["id"] == there


def test_a_reference_to_one_version_stays_one(fhir: Fhir) -> None:
    there = fhir.post("Patient", patient())["id"]
    versioned = f"Patient/{there}/_history/1"
    answer = fhir.bundle(
        "transaction",
        entry("POST", "Observation", observation(subject={"reference": versioned})),
        entry("PUT", f"Patient/{there}", patient(id=there), f"{BASE}/Patient/{there}"),
    )
    assert fhir.get(written(answer, 0))["subject"]["reference"] == versioned


def test_a_stored_bundle_is_left_as_it_is(fhir: Fhir) -> None:
    seen = observation(id="o", subject={"reference": LINK}, performer=[{"reference": "Patient?identifier=urn:mrn|nobody-has-this"}])
    inside = [{"fullUrl": LINK, "resource": patient(id="p")}, {"fullUrl": OTHER, "resource": seen}]
    stored = {"resourceType": "Bundle", "type": "collection", "link": [{"relation": "self", "url": "Patient?name=x"}], "entry": inside}
    asked = {"resourceType": "Bundle", "type": "batch", "entry": [entry("GET", "Patient?identifier=nobody-has-this")]}
    answer = fhir.bundle("transaction", entry("POST", "Bundle", stored), entry("POST", "Bundle", asked), entry("POST", "Patient", patient(), LINK))
    assert fhir.get(written(answer, 0))["entry"] == inside
    assert fhir.get(written(answer, 1))["entry"] == asked["entry"]


def test_links_inside_a_patch(fhir: Fhir) -> None:
    made = fhir.post("Observation", observation())
    patch = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "add"},
                    {"name": "path", "valueString": "Observation"},
                    {"name": "name", "valueString": "subject"},
                    {"name": "value", "valueReference": {"reference": LINK}},
                ],
            }
        ],
    }
    answer = fhir.bundle("transaction", entry("PATCH", f"Observation/{made['id']}", patch), entry("POST", "Patient", patient(), LINK))
    assert fhir.get(f"Observation/{made['id']}")["subject"]["reference"] == written(answer, 1)


# --- transaction: entries of every kind ---------------------------------------------------------------------------------------------


def binary(patch: list[Json]) -> Json:
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": base64.b64encode(json.dumps(patch).encode()).decode()}


def test_conditional_entries(fhir: Fhir) -> None:
    one, two, three, four = (unique() for _ in range(4))
    for value in (one, two, three, three, four):
        fhir.post("Patient", identified(value))
    add = [{"op": "add", "path": "/gender", "value": "female"}]
    answer = fhir.bundle(
        "transaction",
        entry("PUT", f"Patient?identifier=urn:mrn|{one}", identified(one, gender="male")),
        entry("PATCH", f"Patient?identifier=urn:mrn|{two}", binary(add)),
        entry("DELETE", f"Patient?identifier=urn:mrn|{three}"),
        entry("POST", "Patient", identified(four), ifNoneExist=f"identifier=urn:mrn|{four}"),
        entry("PUT", f"Patient?identifier=urn:mrn|{unique()}", identified(unique())),
        entry("DELETE", f"Patient?identifier=urn:mrn|{unique()}"),
    )
    assert statuses(answer) == ["200", "200", "204", "200", "201", "204"]
    assert fhir.get(f"Patient?identifier={one}")["entry"][0]["resource"]["gender"] == "male"
    assert fhir.get(f"Patient?identifier={two}")["entry"][0]["resource"]["gender"] == "female"
    assert fhir.ids(f"Patient?identifier={three}") == []
    assert len(fhir.ids(f"Patient?identifier={four}")) == 1
    assert "location" not in answer["entry"][2]["response"]
    assert "location" not in answer["entry"][5]["response"]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_both_kinds_of_patch_as_entries(fhir: Fhir, kind: str) -> None:
    made = [fhir.post("Patient", patient()) for _ in range(2)]
    replace = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "replace"},
                    {"name": "path", "valueString": "Patient.name[0].family"},
                    {"name": "value", "valueString": "Huber"},
                ],
            }
        ],
    }
    answer = fhir.bundle(
        kind,
        entry("PATCH", f"Patient/{made[0]['id']}", binary([{"op": "replace", "path": "/name/0/family", "value": "Huber"}]), ifMatch='W/"1"'),
        entry("PATCH", f"Patient/{made[1]['id']}", replace),
    )
    assert statuses(answer) == ["200", "200"]
    assert [fhir.get(f"Patient/{each['id']}")["name"][0]["family"] for each in made] == ["Huber", "Huber"]


def test_one_identity_twice_is_refused(fhir: Fhir) -> None:
    value = unique()
    there = fhir.post("Patient", identified(value))["id"]
    path, condition = f"Patient/{there}", f"Patient?identifier=urn:mrn|{value}"
    add = binary([{"op": "add", "path": "/gender", "value": "female"}])
    put = entry("PUT", path, identified(value, id=there))
    for pair in (
        (put, put),
        (put, entry("DELETE", path)),
        (put, entry("PATCH", path, add)),
        (entry("PATCH", path, add), entry("DELETE", path)),
        (put, entry("PUT", condition, identified(value))),
        (put, entry("DELETE", condition)),
        (entry("DELETE", path), entry("DELETE", condition)),
    ):
        assert "more than once" in issues(fhir.bundle("transaction", *pair, status=400)), pair
    assert fhir.get(f"{path}/_history")["total"] == 1


def test_two_entries_with_one_condition_do_not_make_two_resources(fhir: Fhir) -> None:
    value = unique()
    condition = f"identifier=urn:mrn|{value}"
    for pair in (
        [entry("POST", "Patient", identified(value), ifNoneExist=condition)] * 2,
        [entry("PUT", f"Patient?{condition}", identified(value))] * 2,
        [entry("POST", "Patient", identified(value), ifNoneExist=condition), entry("PUT", f"Patient?{condition}", identified(value))],
    ):
        issues(fhir.bundle("transaction", *pair, status=400))
    assert fhir.ids(f"Patient?{condition}") == []


def test_one_full_url_twice_is_refused(fhir: Fhir) -> None:
    value = unique()
    pair = [entry("POST", "Patient", identified(value), LINK), entry("POST", "Patient", identified(value), LINK)]
    assert LINK in issues(fhir.bundle("transaction", *pair, status=400))
    assert fhir.ids(f"Patient?identifier={value}") == []


@pytest.mark.parametrize(
    "bad",
    [
        7,
        None,
        "x",
        [],
        {"request": 7},
        {"request": {"method": "GET"}},
        {"request": {"method": ["GET"], "url": "Patient"}},
        {"request": {"method": "GET", "url": 7}},
        {"request": {"method": "GET", "url": "Patient/%00"}},
        {"request": {"method": "DELETE", "url": "Patient/%00"}},
        {"request": {"method": "GET", "url": "Patient/" + "x" * 100_000}},
        {"request": {"method": "GET", "url": "Patient/../../etc/passwd"}},
        {"request": {"method": "GET", "url": "Patient/1/2/3/4/5"}},
        {"request": {"method": "GET", "url": "Patient/\u2028"}},
        {"request": {"method": "GET", "url": "Patient?name=%ff"}},
        {"request": {"method": "GET", "url": "Patient?name=%00"}},
        {"request": {"method": "GET", "url": "Patient/$everything"}},
        {"request": {"method": "GET", "url": "Patient?_cursor=x"}},
        {"request": {"method": "POST", "url": "Patient", "ifNoneExist": 7}, "resource": {"resourceType": "Patient"}},
        {"request": {"method": "POST", "url": "Patient", "ifNoneExist": ""}, "resource": {"resourceType": "Patient"}},
        {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient"}, "fullUrl": {"a": 1}},
        {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient"}, "fullUrl": 7},
        {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": ["Patient"]}},
        {"request": {"method": "POST", "url": "Patient"}, "resource": [1]},
        {"request": {"method": "PUT", "url": "Patient/1", "ifMatch": "1"}, "resource": {"resourceType": "Patient", "id": "1"}},
        {"request": {"method": "PUT", "url": "Patient/1", "ifMatch": 1}, "resource": {"resourceType": "Patient", "id": "1"}},
        {"request": {"method": "GET", "url": "Patient/1", "ifModifiedSince": "2020"}},
        {"request": {"method": "GET", "url": "Patient/1", "ifModifiedSince": 7}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary", "data": "é"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary", "data": 7}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary", "data": "AAAA"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Binary"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}, "resource": {"resourceType": "Patient"}},
        {"request": {"method": "PATCH", "url": "Patient/1"}},
    ],
)
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_hostile_entries_are_refused(fhir: Fhir, kind: str, bad: Any) -> None:
    answer = fhir("POST", "", {"resourceType": "Bundle", "type": kind, "entry": [bad]})
    if kind == "batch" and answer.status_code == 200:
        response = answer.get_json()["entry"][0]["response"]
        status, outcome = int(response["status"][:3]), response["outcome"]
    else:
        status, outcome = answer.status_code, answer.get_json()
    assert 400 <= status < 500, answer.data
    issues(outcome)


@pytest.mark.parametrize("entries", [7, "x", {}, [[]]])
def test_entries_that_are_no_list(fhir: Fhir, entries: Any) -> None:
    issues(fhir.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, 400))


# --- transaction: large, concurrent, with integrity --------------------------------------------------------------------------------


def test_a_bundle_of_2000_entries(fhir: Fhir) -> None:
    value = unique()
    patients = [
        entry("POST", "Patient", identified(value, birthDate="1990-01-01"), f"urn:uuid:00000000-0000-4000-8000-{n:012}") for n in range(1_000)
    ]
    seen = [entry("POST", "Observation", observation(subject={"reference": each["fullUrl"]}, identifier=[{"value": value}])) for each in patients]
    answer = fhir.bundle("transaction", *seen, *patients)
    assert set(statuses(answer)) == {"201"}
    locations = [written(answer, n) for n in range(2_000)]
    assert len(set(locations)) == 2_000
    assert fhir.get(f"Patient?identifier={value}&_summary=count")["total"] == 1_000
    assert fhir.get(locations[7])["subject"]["reference"] == locations[1_007]
    referring = fhir.get(f"Observation?subject={locations[1_500]}")
    assert [each["resource"]["id"] for each in referring["entry"]] == [locations[500].partition("/")[2]]


def test_transactions_over_the_same_resources_in_opposite_order_both_end(fhir: Fhir) -> None:
    made = [fhir.post("Patient", patient()) for _ in range(10)]
    entries = [entry("PUT", f"Patient/{each['id']}", each) for each in made]

    def run(number: int) -> list[str]:
        return statuses(fhir.bundle("transaction", *(entries if number % 2 else reversed(entries))))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(8))) == [["200"] * 10] * 8
    assert {fhir.get(f"Patient/{each['id']}")["meta"]["versionId"] for each in made} == {"9"}


def test_racing_transactions_with_one_condition_make_one_resource(fhir: Fhir) -> None:
    value = unique()

    def run(_: int) -> tuple[str, str]:
        answer = fhir.bundle(
            "transaction",
            entry("POST", "Patient", identified(value), LINK, ifNoneExist=f"identifier=urn:mrn|{value}"),
            entry("POST", "Observation", observation(subject={"reference": LINK})),
        )
        return written(answer, 0), fhir.get(written(answer, 1))["subject"]["reference"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(6)))
    assert len({address for pair in found for address in pair}) == 1


def test_integrity_within_a_transaction(integral: Fhir) -> None:
    answer = integral.bundle(
        "transaction",
        entry("POST", "Observation", observation(subject={"reference": LINK})),
        entry("POST", "Patient", patient(), LINK),
    )
    seen, somebody = written(answer, 0), written(answer, 1)
    # Both may go together, in whichever order they stand.
    integral.bundle("transaction", entry("DELETE", somebody), status=409)
    integral.bundle("transaction", entry("DELETE", somebody), entry("DELETE", seen))
    assert integral("GET", somebody).status_code == 410
    dangling = entry("POST", "Observation", observation(subject={"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}))
    assert integral("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [dangling]}).status_code in {200, 422}
    other = integral.post("Patient", patient())["id"]
    swap = [entry("DELETE", f"Patient/{other}"), entry("POST", "Observation", observation(subject={"reference": f"Patient/{other}"}))]
    assert integral("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": swap}).status_code in {409, 422}


def test_labels_are_carried_by_updates_in_transactions(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient(meta={"tag": [{"system": "urn:t", "code": "a"}]}))
    fhir.bundle("transaction", entry("PUT", f"Patient/{made['id']}", patient(id=made["id"])))
    assert fhir.get(f"Patient/{made['id']}")["meta"]["tag"] == [{"system": "urn:t", "code": "a"}]


def test_a_transaction_in_xml(fhir: Fhir) -> None:
    sent = (
        '<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/>'
        f'<entry><fullUrl value="{LINK}"/><resource><Patient><name><family value="Xml"/></name></Patient></resource>'
        '<request><method value="POST"/><url value="Patient"/></request></entry>'
        f'<entry><resource><Observation><status value="final"/><code><text value="x"/></code>'
        f'<subject><reference value="{LINK}"/></subject></Observation>'
        '</resource><request><method value="POST"/><url value="Observation"/></request></entry></Bundle>'
    )
    answer = fhir("POST", "", sent, {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+json"})
    assert answer.status_code == 200, answer.data
    bundle = answer.get_json()
    assert fhir.get(written(bundle, 1))["subject"]["reference"] == written(bundle, 0)


def test_a_token_that_may_only_read_writes_nothing_by_bundles(fhir: Fhir) -> None:
    value = unique()
    reader = fhir.other(scope="system/*.rs")
    batch = reader.bundle("batch", entry("POST", "Patient", identified(value)), entry("GET", "Patient?_count=1"))
    assert statuses(batch) == ["403", "200"]
    issues(reader.bundle("transaction", entry("POST", "Patient", identified(value)), status=403))
    assert fhir.ids(f"Patient?identifier={value}") == []
