"""Create, update, patch and delete with their conditional forms. https://hl7.org/fhir/R4/http.html#cud"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.interactions.conftest import BASE, Fhir, identified, issues, observation, patient, unique

XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'

# --- create ---------------------------------------------------------------------------------------------------------------------


def test_create_ignores_the_callers_id_and_version(fhir: Fhir) -> None:
    answer = fhir("POST", "Patient", patient(id="mine", meta={"versionId": "9", "lastUpdated": "2001-01-01T00:00:00Z"}))
    made = answer.get_json()
    assert answer.status_code == 201
    assert made["id"] != "mine"
    assert made["meta"]["versionId"] == "1"
    assert made["meta"]["lastUpdated"] > "2020"
    assert answer.headers["Location"] == f"{BASE}/Patient/{made['id']}/_history/1"
    assert answer.headers["ETag"] == 'W/"1"'
    assert "Last-Modified" in answer.headers
    fhir.get("Patient/mine", 404)


def test_create_unless_it_exists(fhir: Fhir) -> None:
    value = unique()
    condition = {"If-None-Exist": f"identifier=urn:mrn|{value}"}
    first = fhir("POST", "Patient", identified(value), condition)
    again = fhir("POST", "Patient", identified(value, gender="male"), condition)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.get_json() == first.get_json()
    assert again.headers["Location"] == first.headers["Location"]
    fhir.post("Patient", identified(value))
    assert "more than one" in issues(fhir.post("Patient", identified(value), 412, condition))
    assert len(fhir.ids(f"Patient?identifier=urn:mrn|{value}")) == 2


@pytest.mark.parametrize(
    "condition", ["", "nonsense=1", "identifier", "_count=1", "identifier=", "birthdate=2020-02-30", "_sort=name", "identifier:foo=1"]
)
def test_a_condition_that_says_nothing_or_nonsense_is_refused(fhir: Fhir, condition: str) -> None:
    value = unique()
    answer = fhir("POST", "Patient", identified(value), {"If-None-Exist": condition})
    assert answer.status_code in {400, 412}, answer.data
    issues(answer.get_json())
    assert fhir.ids(f"Patient?identifier={value}") == []


def test_racing_conditional_creates_make_one_resource(fhir: Fhir) -> None:
    value = unique()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: fhir("POST", "Patient", identified(value), {"If-None-Exist": f"identifier=urn:mrn|{value}"}), range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert len(fhir.ids(f"Patient?identifier={value}")) == 1


@pytest.mark.parametrize("conditions", [["identifier=urn:mrn|{}"], ["family={}"], ["identifier=urn:mrn|{}", "identifier={}", "family={}"]])
def test_racing_conditional_updates_make_one_resource(fhir: Fhir, conditions: list[str]) -> None:
    value = unique()

    def put(number: int) -> int:
        condition = conditions[number % len(conditions)].format(value)
        return fhir("PUT", f"Patient?{condition}", identified(value, name=[{"family": value}])).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(put, range(6))) == [200] * 5 + [201]
    assert len(fhir.ids(f"Patient?identifier={value}")) == 1


def test_long_values_are_stored_or_refused(fhir: Fhir) -> None:
    letters = "".join(chr(97 + (n * n * 7 + n // 3) % 26) for n in range(200_000))
    for size in (2_000, 3_000, 200_000):
        text = letters[:size]
        for body in (
            patient(name=[{"family": text}]),
            patient(identifier=[{"system": "urn:x", "value": text}]),
            patient(identifier=[{"system": f"urn:{text}", "value": "x"}]),
            patient(meta={"source": f"urn:{text}", "profile": [f"http://{text}"], "tag": [{"system": f"urn:{text}", "code": text}]}),
            observation(subject={"reference": f"http://{text}"}, valueQuantity={"value": 1, "unit": text, "code": text, "system": "urn:x"}),
            {"resourceType": "ValueSet", "status": "draft", "url": f"http://{text}"},
        ):
            answer = fhir("POST", body["resourceType"], body)
            assert answer.status_code in {201, 413, 422}, answer.data[:500]
            if answer.status_code == 201:
                assert fhir.get(f"{body['resourceType']}/{answer.get_json()['id']}")["meta"]["versionId"] == "1"
            else:
                issues(answer.get_json())
    found = fhir.post("Patient", patient(name=[{"family": letters}]))
    assert found["id"] in fhir.ids(f"Patient?family={letters[:60]}&_count=100")


def test_the_type_of_the_body_is_that_of_the_address(fhir: Fhir) -> None:
    answer = fhir.post("Observation", patient(), 400)
    assert "Patient" in issues(answer)
    assert "Observation" in issues(answer)
    fhir.put("Observation/x1", patient(id="x1"), 400)


def test_an_invalid_resource_is_422_with_every_fault_and_its_place(fhir: Fhir) -> None:
    identity = unique("bad")
    wrong = {"resourceType": "Patient", "id": identity, "gender": "foo", "birthDate": "2020-02-30", "nmae": [], "contact": [{"id": "c"}]}
    outcome = fhir.put(f"Patient/{identity}", wrong, 422)
    places = {place for issue in outcome["issue"] for place in issue.get("expression", ())}
    assert {"Patient.gender", "Patient.birthDate", "Patient.nmae"} <= places
    assert any(place.startswith("Patient.contact[0]") for place in places)
    fhir.get(f"Patient/{identity}", 404)


# --- update ---------------------------------------------------------------------------------------------------------------------


def test_update_as_create_is_201_with_location(fhir: Fhir) -> None:
    identity = unique("new")
    answer = fhir("PUT", f"Patient/{identity}", patient(id=identity))
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{BASE}/Patient/{identity}/_history/1"
    again = fhir("PUT", f"Patient/{identity}", patient(id=identity))
    assert again.status_code == 200
    assert again.headers["ETag"] == 'W/"2"'
    assert again.get_json()["meta"]["versionId"] == "2"


@pytest.mark.parametrize("body", [patient(), patient(id="another"), patient(id=7), patient(id=None)])
def test_the_id_of_the_body_is_that_of_the_address(fhir: Fhir, body: dict[str, Any]) -> None:
    outcome = fhir("PUT", "Patient/this-one", body)
    assert outcome.status_code == (400 if isinstance(body.get("id", ""), str) else 422), outcome.data
    issues(outcome.get_json())
    fhir.get("Patient/this-one", 404)


def test_update_with_if_match(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    fhir.put(path, {**made, "gender": "female"}, headers={"If-Match": 'W/"1"'})
    stale = fhir.put(path, {**made, "gender": "male"}, 412, {"If-Match": 'W/"1"'})
    assert "version 2" in issues(stale)
    assert fhir.get(path)["gender"] == "female"
    missing = unique("no")
    fhir.put(f"Patient/{missing}", patient(id=missing), 412, {"If-Match": 'W/"1"'})
    fhir.get(f"Patient/{missing}", 404)


def test_racing_updates_with_if_match_let_one_win(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: fhir("PUT", path, {**made, "language": f"de-{n}"}, {"If-Match": 'W/"1"'}).status_code, range(6)))
    assert sorted(answers) == [200] + [412] * 5
    assert fhir.get(path)["meta"]["versionId"] == "2"


def test_update_only_where_there_is_none(fhir: Fhir) -> None:
    identity = unique("none")
    fhir.put(f"Patient/{identity}", patient(id=identity), 201, {"If-None-Match": "*"})
    fhir.put(f"Patient/{identity}", patient(id=identity, gender="male"), 412, {"If-None-Match": "*"})
    assert "gender" not in fhir.get(f"Patient/{identity}")


def test_update_brings_back_what_was_deleted(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    fhir("DELETE", path)
    answer = fhir("PUT", path, made)
    assert answer.status_code == 201
    assert answer.headers["ETag"] == 'W/"3"'
    assert fhir.get(path)["meta"]["versionId"] == "3"
    assert fhir.ids(f"Patient?_id={made['id']}") == [made["id"]]


def test_conditional_update(fhir: Fhir) -> None:
    value = unique()
    path = f"Patient?identifier=urn:mrn|{value}"
    made = fhir.put(path, identified(value), 201)
    changed = fhir.put(path, identified(value, gender="male"))
    assert changed["id"] == made["id"]
    assert changed["meta"]["versionId"] == "2"
    fhir.put(path, identified(value, id=made["id"]))
    assert made["id"] in issues(fhir.put(path, identified(value, id="quite-another"), 400))
    fhir.post("Patient", identified(value))
    assert "more than one" in issues(fhir.put(path, identified(value), 412))
    assert "needs search parameters" in issues(fhir.put("Patient", identified(value), 400))
    assert "nope" in issues(fhir.put(f"{path}&nope=1", identified(value), 400))


def test_conditional_update_without_a_match_takes_the_id_of_the_body(fhir: Fhir) -> None:
    identity, value = unique("own"), unique()
    made = fhir.put(f"Patient?identifier=urn:mrn|{value}", identified(value, id=identity), 201)
    assert made["id"] == identity
    other = unique()
    fhir.put(f"Patient?identifier=urn:mrn|{other}", identified(other, id=identity), 409)


# --- meta -----------------------------------------------------------------------------------------------------------------------


def test_labels_stay_until_a_patch_takes_them_off(fhir: Fhir) -> None:
    tag, label = {"system": "urn:t", "code": "keep"}, {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    made = fhir.post("Patient", patient(meta={"tag": [tag], "security": [label], "profile": ["http://example.org/a"], "source": "urn:lab:1"}))
    path = f"Patient/{made['id']}"
    assert made["meta"]["profile"] == ["http://example.org/a"]
    more = {"system": "urn:t", "code": "more"}
    changed = fhir.put(path, patient(id=made["id"], meta={"tag": [more], "profile": ["http://example.org/b"]}))
    assert changed["meta"]["security"] == [label]
    assert sorted(each["code"] for each in changed["meta"]["tag"]) == ["keep", "more"]
    assert changed["meta"]["profile"] == ["http://example.org/b"]
    assert fhir.ids(f"Patient?_id={made['id']}&_tag=urn:t|keep&_security=R") == [made["id"]]
    fhir("PATCH", path, [{"op": "remove", "path": "/meta/security"}])
    assert "security" not in fhir.get(path)["meta"]
    assert fhir.ids(f"Patient?_id={made['id']}&_security=R") == []


# --- patch ----------------------------------------------------------------------------------------------------------------------

JSON_PATCH: list[dict[str, Any]] = [{"op": "add", "path": "/gender", "value": "female"}]
FHIRPATH_PATCH: dict[str, Any] = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "add"},
                {"name": "path", "valueString": "Patient"},
                {"name": "name", "valueString": "gender"},
                {"name": "value", "valueCode": "female"},
            ],
        }
    ],
}


@pytest.mark.parametrize("patch", [JSON_PATCH, FHIRPATH_PATCH], ids=["json", "fhirpath"])
def test_patch(fhir: Fhir, patch: Any) -> None:
    value = unique()
    made = fhir.post("Patient", identified(value))
    path = f"Patient/{made['id']}"
    answer = fhir("PATCH", path, patch, {"If-Match": 'W/"1"'})
    assert answer.status_code == 200, answer.data
    assert answer.headers["ETag"] == 'W/"2"'
    assert answer.get_json()["gender"] == "female"
    assert fhir.ids(f"Patient?gender=female&identifier={value}") == [made["id"]]
    assert fhir("PATCH", path, patch, {"If-Match": 'W/"1"'}).status_code == 412
    assert fhir("PATCH", f"Patient?identifier=urn:mrn|{value}", patch).status_code in {200, 422}
    assert fhir("PATCH", "Patient/never-was", patch).status_code == 404
    assert fhir("PATCH", f"Patient?identifier={unique()}", patch).status_code == 404
    fhir.post("Patient", identified(value))
    assert fhir("PATCH", f"Patient?identifier=urn:mrn|{value}", patch).status_code == 412
    assert fhir("PATCH", "Patient", patch).status_code == 400
    fhir("DELETE", path)
    assert fhir("PATCH", path, patch).status_code == 410


def test_patch_in_xml(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    sent = (
        '<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/><part><name value="type"/><valueCode value="add"/></part>'
        '<part><name value="path"/><valueString value="Patient"/></part><part><name value="name"/><valueString value="birthDate"/></part>'
        '<part><name value="value"/><valueDate value="1990-05-04"/></part></parameter></Parameters>'
    )
    answer = fhir("PATCH", f"Patient/{made['id']}", sent, {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+json"})
    assert answer.status_code == 200, answer.data
    assert answer.get_json()["birthDate"] == "1990-05-04"


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        ([{"op": "replace", "path": "/gender", "value": "foo"}], 422),
        ([{"op": "add", "path": "/gender", "value": "foo"}], 422),
        ([{"op": "add", "path": "/text", "value": {"status": "additional", "div": f"<div {XHTML}><p onclick='x()'>She</p></div>"}}], 422),
        ([{"op": "add", "path": "/resourceType", "value": "Observation"}], 0),
        ([{"op": "replace", "path": "/id", "value": "x"}], 0),
        ([{"op": "test", "path": "/name/0/family", "value": "Other"}], 0),
        ([{"op": "nonsense"}], 400),
        ([{"op": "add"}], 400),
        ([7], 400),
        ([{"op": "remove", "path": "/name/99"}], 0),
        ([{"op": "remove", "path": "name"}], 400),
        ([{"op": "replace", "path": "", "value": 7}], 0),
        ({"resourceType": "Patient"}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "operation"}]}, 0),
        ({"resourceType": "Parameters", "parameter": 7}, 0),
        ({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [{"name": ["type"], "valueCode": {}}]}]}, 0),
    ],
)
def test_a_patch_that_cannot_be_changes_nothing(fhir: Fhir, patch: Any, status: int) -> None:
    made = fhir.post("Patient", patient())
    answer = fhir("PATCH", f"Patient/{made['id']}", patch)
    assert answer.status_code == (status or answer.status_code)
    assert answer.status_code in {400, 409, 412, 422}, answer.data
    issues(answer.get_json())
    assert fhir.get(f"Patient/{made['id']}") == made


def test_patching_from_many_sides_loses_nothing(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient(telecom=[{"system": "phone", "value": "0"}]))
    path = f"Patient/{made['id']}"

    def add(number: int) -> int:
        return fhir("PATCH", path, [{"op": "add", "path": "/telecom/-", "value": {"system": "phone", "value": str(number)}}]).status_code

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(add, range(1, 13))) == [200] * 12
    now = fhir.get(path)
    assert sorted(int(each["value"]) for each in now["telecom"]) == list(range(13))
    assert now["meta"]["versionId"] == "13"


# --- delete ---------------------------------------------------------------------------------------------------------------------


def test_delete_may_be_repeated(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    path = f"Patient/{made['id']}"
    first, again = fhir("DELETE", path), fhir("DELETE", path)
    assert (first.status_code, first.data, first.headers["ETag"]) == (204, b"", 'W/"2"')
    assert again.status_code == 204
    assert fhir("DELETE", "Patient/never-was").status_code == 204
    assert [each["response"]["status"][:3] for each in fhir.get(f"{path}/_history")["entry"]] == ["204", "201"]
    assert fhir.ids(f"Patient?_id={made['id']}") == []


def test_a_delete_that_had_to_wait_still_deletes(fhir: Fhir) -> None:
    for _ in range(8):
        made = fhir.post("Patient", patient())
        path = f"Patient/{made['id']}"
        with ThreadPoolExecutor(4) as pool:
            updates = [pool.submit(fhir, "PUT", path, {**made, "language": f"de-{n}"}) for n in range(3)]
            deleted = pool.submit(fhir, "DELETE", path).result()
        assert deleted.status_code == 204
        assert "ETag" in deleted.headers
        assert {each.result().status_code for each in updates} <= {200, 201}
        methods = [each["request"]["method"] for each in fhir.get(f"{path}/_history")["entry"]]
        assert sorted(methods) == ["DELETE", "POST", "PUT", "PUT", "PUT"]


def test_delete_with_if_match(fhir: Fhir) -> None:
    made = fhir.post("Patient", patient())
    assert fhir("DELETE", f"Patient/{made['id']}", headers={"If-Match": 'W/"2"'}).status_code == 412
    assert fhir("DELETE", f"Patient/{made['id']}", headers={"If-Match": 'W/"1"'}).status_code == 204


def test_conditional_delete_of_one_many_and_none(fhir: Fhir) -> None:
    value, other = unique(), unique()
    made = [fhir.post("Patient", identified(value))["id"] for _ in range(3)]
    kept = fhir.post("Patient", identified(other))["id"]
    assert fhir("DELETE", f"Patient?identifier={unique()}").status_code == 204
    answer = fhir("DELETE", f"Patient?identifier=urn:mrn|{value}", headers={"Prefer": "return=OperationOutcome"})
    assert answer.status_code == 200
    assert "deleted: 3" in issues(answer.get_json())
    assert [fhir("GET", f"Patient/{each}").status_code for each in made] == [410] * 3
    assert fhir("DELETE", f"Patient?identifier=urn:mrn|{value}").status_code == 204
    assert fhir("DELETE", "Patient").status_code == 400
    assert fhir("DELETE", "Patient?nope=1").status_code == 400
    assert fhir("DELETE", "Patient?_count=5").status_code in {400, 412}
    assert fhir("DELETE", "Patient?identifier=").status_code in {400, 412}
    assert fhir.get(f"Patient/{kept}")["id"] == kept


# --- Prefer ---------------------------------------------------------------------------------------------------------------------


def test_what_comes_back_is_what_was_preferred(fhir: Fhir) -> None:
    def create(prefer: str) -> Any:
        answer = fhir("POST", "Patient", patient(), {"Prefer": prefer})
        assert answer.status_code == 201
        assert answer.headers["Location"]
        assert answer.headers["ETag"] == 'W/"1"'
        return json.loads(answer.data) if answer.data else None

    assert create("return=minimal") is None
    assert create("return=representation")["resourceType"] == "Patient"
    assert create("return=OperationOutcome")["resourceType"] == "OperationOutcome"
    made = fhir.post("Patient", patient())
    answer = fhir("PUT", f"Patient/{made['id']}", made, {"Prefer": "return=minimal"})
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (200, b"", 'W/"2"')


# --- referential integrity --------------------------------------------------------------------------------------------------------


def test_references_are_taken_as_they_come(fhir: Fhir) -> None:
    made = fhir.post("Observation", observation(subject={"reference": f"Patient/{unique('later')}"}))
    assert fhir.get(f"Observation/{made['id']}") == made
