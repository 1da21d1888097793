"""JSON Patch and FHIRPath Patch as functions: what they change, what they refuse, and that they can be undone."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhirjson import Number, dumps, loads
from fhir_server.interactions.patching import fhirpath_patch, json_patch
from fhir_server.interactions.patching.bounds import MAX_OPERATIONS
from fhir_server.outcome import Outcome
from fhir_server.spec import r4
from tests.strategies import resources

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "meta": {"versionId": "3"},
    "birthDate": "1970-01-01",
    "_birthDate": {"extension": [{"url": "http://x.org/time", "valueTime": "10:00:00"}]},
    "name": [{"use": "official", "given": ["Anna", "Berta"], "_given": [None, {"id": "g"}]}, {"use": "nickname", "text": "A"}],
    "maritalStatus": {"coding": [{"code": "M"}]},
    "generalPractitioner": [{"reference": "Practitioner/1"}],
}


def patched(*operations: dict[str, Any], resource: dict[str, Any] = PATIENT) -> dict[str, Any]:
    before = copy.deepcopy(resource)
    result = json_patch.apply(list(operations), resource)
    assert resource == before
    return result


def operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    """A FHIRPath Patch operation; a part given as a dict is taken as it is, a string is a valueString, an integer a valueInteger."""
    listed: list[dict[str, Any]] = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    for name, given_part in parts.items():
        value = (
            {"valueString": given_part}
            if isinstance(given_part, str)
            else {"valueInteger": given_part}
            if isinstance(given_part, int)
            else given_part
        )
        listed.append({"name": name, **value})
    return {"name": "operation", "part": listed}


def fhir_patched(*operations: dict[str, Any], resource: dict[str, Any] = PATIENT) -> dict[str, Any]:
    before = copy.deepcopy(resource)
    result = fhirpath_patch.apply({"resourceType": "Parameters", "parameter": list(operations)}, resource, r4())
    assert resource == before
    return result


# JSON Patch


def test_json_patch_applies_every_kind_of_operation() -> None:
    result = patched(
        {"op": "test", "path": "/name/0/use", "value": "official"},
        {"op": "add", "path": "/name/0/given/-", "value": "Clara"},
        {"op": "replace", "path": "/birthDate", "value": "1971-01-01"},
        {"op": "remove", "path": "/_birthDate"},
        {"op": "copy", "from": "/name/1/text", "path": "/name/0/text"},
        {"op": "move", "from": "/name/1", "path": "/name/0"},
    )
    assert result["name"][0] == {"use": "nickname", "text": "A"}
    assert result["name"][1]["given"] == ["Anna", "Berta", "Clara"]
    assert result["name"][1]["text"] == "A"
    assert result["birthDate"] == "1971-01-01"
    assert "_birthDate" not in result


def test_json_patch_keeps_the_text_of_numbers() -> None:
    text = b'{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10},"referenceRange":[{"low":{"value":1e3}}]}'
    result = json_patch.apply(loads(b'[{"op":"add","path":"/referenceRange/0/high","value":{"value":2.500}}]'), loads(text))
    assert dumps(result) == text.replace(b"1e3}", b'1e3},"high":{"value":2.500}')


@pytest.mark.parametrize(
    ("value", "same"),
    [(1, True), (Number("1.0"), True), (True, False), ("1", False), (Number("1.00"), True), (2, False), (None, False), ([1], False)],
)
def test_json_patch_compares_values_as_json_does(value: Any, same: bool) -> None:  # noqa: FBT001 - a table's column
    resource = {**PATIENT, "multipleBirthInteger": 1}
    test = {"op": "test", "path": "/multipleBirthInteger", "value": value}
    if same:
        assert patched(test, resource=resource) == resource
    else:
        with pytest.raises(Outcome) as refused:
            patched(test, resource=resource)
        assert refused.value.status == 422


def test_json_patch_leaves_out_what_a_removal_has_emptied() -> None:
    assert "maritalStatus" not in patched({"op": "remove", "path": "/maritalStatus/coding/0/code"})
    assert patched({"op": "remove", "path": "/name/1/text"}, {"op": "remove", "path": "/name/1/use"})["name"] == PATIENT["name"][:1]


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        ({}, 400),
        ("[]", 400),
        (None, 400),
        ([1], 400),
        ([{"op": "explode", "path": "/name"}], 400),
        ([{"op": ["add"], "path": "/name"}], 400),
        ([{"path": "/name"}], 400),
        ([{"op": "remove"}], 400),
        ([{"op": "remove", "path": 5}], 400),
        ([{"op": "remove", "path": "name"}], 400),
        ([{"op": "remove", "path": "/a~2"}], 400),
        ([{"op": "add", "path": "/active"}], 400),
        ([{"op": "move", "path": "/active"}], 400),
        ([{"op": "copy", "from": 1, "path": "/active"}], 400),
        ([{"op": "remove", "path": "/active"}], 422),
        ([{"op": "replace", "path": "/active", "value": True}], 422),
        ([{"op": "test", "path": "/active", "value": True}], 422),
        ([{"op": "add", "path": "/contact/0/name", "value": {}}], 422),
        ([{"op": "add", "path": "/name/9", "value": {}}], 422),
        ([{"op": "add", "path": "/name/01", "value": {}}], 422),
        ([{"op": "add", "path": "/name/" + "9" * 5_000, "value": {}}], 422),
        ([{"op": "add", "path": "/birthDate/x", "value": {}}], 422),
        ([{"op": "move", "from": "/name", "path": "/name/0/x"}], 422),
        ([{"op": "copy", "from": "/nothing", "path": "/active"}], 422),
        ([{"op": "replace", "path": "/id", "value": "q"}], 422),
        ([{"op": "remove", "path": "/id"}], 422),
        ([{"op": "replace", "path": "/resourceType", "value": "Person"}], 422),
        ([{"op": "replace", "path": "/meta/versionId", "value": "4"}], 422),
        ([{"op": "replace", "path": "", "value": []}], 422),
        ([{"op": "remove", "path": ""}], 422),
        ([{"op": "test", "path": "", "value": 1}], 422),
        ([{"op": "test", "path": "/id", "value": "p"}] * (MAX_OPERATIONS + 1), 413),
        ([{"op": "copy", "from": "/name", "path": "/name/-"}, {"op": "copy", "from": "/name", "path": "/name/0/x"}] * 200, 413),
    ],
)
def test_json_patch_refuses(patch: Any, status: int) -> None:
    with pytest.raises(Outcome) as refused:
        json_patch.apply(patch, PATIENT)
    assert refused.value.status == status


@few
@given(resources(), resources())
def test_a_json_patch_can_be_undone(first: dict[str, Any], second: dict[str, Any]) -> None:
    second = {**second, "resourceType": first["resourceType"]} | ({"id": first["id"]} if "id" in first else {})
    if "id" not in first:
        second.pop("id", None)
    for resource in (first, second):
        resource.pop("meta", None)
    there = json_patch.apply(_difference(first, second), first)
    assert there == second
    assert json_patch.apply(_difference(second, first), there) == first


def _difference(before: dict[str, Any], after: dict[str, Any]) -> Any:
    return jsonpatch.JsonPatch.from_diff(before, after, dumps=lambda value: dumps(value).decode()).patch


# FHIRPath Patch


def test_add_sets_or_appends() -> None:
    assert fhir_patched(operation("add", "Patient", name="gender", value={"valueCode": "female"}))["gender"] == "female"
    result = fhir_patched(operation("add", "Patient", name="name", value={"valueHumanName": {"text": "B"}}))
    assert result["name"] == [*PATIENT["name"], {"text": "B"}]
    given_names = fhir_patched(operation("add", "Patient.name[0]", name="given", value="Clara"))["name"][0]
    assert given_names["given"] == ["Anna", "Berta", "Clara"]
    assert given_names["_given"] == [None, {"id": "g"}, None]


def test_add_knows_choices_by_name_and_type() -> None:
    result = fhir_patched(operation("add", "Patient", name="deceased", value={"valueBoolean": False}))
    assert result["deceasedBoolean"] is False
    with pytest.raises(Outcome) as refused:
        fhir_patched(operation("add", "Patient", name="deceased", value={"valueDateTime": "2020"}), resource=result)
    assert refused.value.status == 422
    assert refused.value.issues[0].expression == ("Patient.deceased",)


def test_add_builds_anonymous_types_from_parts() -> None:
    contact = {
        "part": [
            {"name": "name", "valueHumanName": {"text": "a name"}},
            {"name": "telecom", "valueContactPoint": {"system": "phone", "value": "1"}},
            {"name": "telecom", "valueContactPoint": {"system": "phone", "value": "2"}},
            {"name": "gender", "valueCode": "male", "_valueCode": {"id": "x"}},
        ]
    }
    assert fhir_patched(operation("add", "Patient", name="contact", value=contact))["contact"] == [
        {
            "name": {"text": "a name"},
            "telecom": [{"system": "phone", "value": "1"}, {"system": "phone", "value": "2"}],
            "gender": "male",
            "_gender": {"id": "x"},
        }
    ]


def test_nested_extension_parts_are_kept() -> None:
    inner = {"name": "extension", "part": [{"name": "url", "valueUri": "code"}, {"name": "value", "valueCode": "x"}]}
    outer = {"part": [{"name": "url", "valueUri": "http://x.org/race"}, inner, inner]}
    expected = {"url": "http://x.org/race", "extension": [{"url": "code", "valueCode": "x"}] * 2}
    assert fhir_patched(operation("add", "Patient", name="extension", value=outer))["extension"] == [expected]
    contact = {"part": [{"name": "name", "valueHumanName": {"text": "n"}}, {"name": "extension", **outer}]}
    assert fhir_patched(operation("add", "Patient", name="contact", value=contact))["contact"][0]["extension"] == [expected]
    plain = {"valueExtension": expected}
    assert fhir_patched(operation("add", "Patient", name="extension", value=plain))["extension"] == [expected]


def test_a_primitive_can_be_given_extensions() -> None:
    extension = {"part": [{"name": "url", "valueUri": "http://x.org"}, {"name": "value", "valueCode": "x"}]}
    added = fhir_patched(operation("add", "Patient.birthDate", name="extension", value=extension))
    assert added["_birthDate"]["extension"] == [*PATIENT["_birthDate"]["extension"], {"url": "http://x.org", "valueCode": "x"}]
    added = fhir_patched(operation("add", "Patient.name[1].text", name="extension", value=extension))
    assert added["name"][1] == {**PATIENT["name"][1], "_text": {"extension": [{"url": "http://x.org", "valueCode": "x"}]}}
    only = {"part": [{"name": "extension", **extension}]}
    absent = fhir_patched(operation("add", "Patient", name="gender", value=only))
    assert "gender" not in absent
    assert absent["_gender"] == {"extension": [{"url": "http://x.org", "valueCode": "x"}]}


@pytest.mark.parametrize(("index", "expected"), [(0, ["X", "Anna", "Berta"]), (1, ["Anna", "X", "Berta"]), (2, ["Anna", "Berta", "X"])])
def test_insert_keeps_extensions_beside_their_values(index: int, expected: list[str]) -> None:
    name = fhir_patched(operation("insert", "Patient.name[0].given", index=index, value="X"))["name"][0]
    assert name["given"] == expected
    assert name["_given"][expected.index("Berta")] == {"id": "g"}
    assert name["_given"].count(None) == 2


def test_delete_removes_one_element_or_nothing() -> None:
    assert "birthDate" not in fhir_patched(operation("delete", "Patient.birthDate"))
    assert "_birthDate" not in fhir_patched(operation("delete", "Patient.birthDate"))
    assert fhir_patched(operation("delete", "Patient.gender")) == PATIENT
    assert fhir_patched(operation("delete", "Patient.name.where(use = 'nickname')"))["name"] == PATIENT["name"][:1]
    assert fhir_patched(operation("delete", "Patient.name[0].given[0]"))["name"][0] == {
        "use": "official",
        "given": ["Berta"],
        "_given": [{"id": "g"}],
    }
    assert "maritalStatus" not in fhir_patched(operation("delete", "Patient.maritalStatus.coding.code"))
    without = fhir_patched(operation("delete", "Patient.birthDate.extension"))
    assert without["birthDate"] == PATIENT["birthDate"]
    assert "_birthDate" not in without
    resource = {"resourceType": "Patient", "id": "p", "_gender": {"extension": [{"url": "http://x.org", "valueCode": "x"}]}}
    assert fhir_patched(operation("delete", "Patient.gender.extension"), resource=resource) == {"resourceType": "Patient", "id": "p"}
    assert fhir_patched(operation("delete", "Patient.gender"), resource=resource) == {"resourceType": "Patient", "id": "p"}
    beside = fhir_patched(operation("delete", "Patient.name[0].given[1].id"))
    assert beside["name"][0] == {"use": "official", "given": ["Anna", "Berta"]}
    with pytest.raises(Outcome) as refused:
        fhir_patched(operation("delete", "Patient.name"))
    assert refused.value.status == 422


def test_replace_changes_one_element() -> None:
    assert fhir_patched(operation("replace", "Patient.name[1]", value={"valueHumanName": {"text": "B"}}))["name"][1] == {"text": "B"}
    given_names = fhir_patched(operation("replace", "Patient.name[0].given[1]", value="X"))["name"][0]
    assert given_names == {"use": "official", "given": ["Anna", "X"]}
    birth = fhir_patched(operation("replace", "Patient.birthDate", value={"valueDate": "1980"}))
    assert (birth["birthDate"], birth.get("_birthDate")) == ("1980", None)
    assert list(birth) == [key for key in PATIENT if key != "_birthDate"]


def test_replace_changes_the_type_of_a_choice() -> None:
    resource = {**PATIENT, "deceasedBoolean": True}
    result = fhir_patched(operation("replace", "Patient.deceased", value={"valueDateTime": "2020"}), resource=resource)
    assert (result.get("deceasedBoolean"), result["deceasedDateTime"]) == (None, "2020")


def test_move_keeps_extensions_beside_their_values() -> None:
    name = fhir_patched(operation("move", "Patient.name[0].given", source=1, destination=0))["name"][0]
    assert (name["given"], name["_given"]) == (["Berta", "Anna"], [{"id": "g"}, None])
    assert fhir_patched(operation("move", "Patient.name", source=0, destination=1))["name"] == PATIENT["name"][::-1]


def test_operations_see_what_those_before_them_did() -> None:
    result = fhir_patched(
        operation("add", "Patient", name="contact", value={"part": [{"name": "gender", "valueCode": "male"}]}),
        operation("add", "Patient.contact[0]", name="name", value={"valueHumanName": {"text": "n"}}),
        operation("replace", "Patient.contact.name.text", value="m"),
    )
    assert result["contact"] == [{"gender": "male", "name": {"text": "m"}}]


def test_resources_inside_resources_can_be_patched() -> None:
    resource = {**PATIENT, "contained": [{"resourceType": "Organization", "id": "o", "name": "O"}], "managingOrganization": {"reference": "#o"}}
    result = fhir_patched(operation("replace", "Patient.contained[0].name", value="P"), resource=resource)
    assert result["contained"][0]["name"] == "P"


def test_fhirpath_patch_keeps_the_text_of_numbers() -> None:
    resource = loads(b'{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10}}')
    low = loads(b'{"value":2.500}')
    operations = [operation("add", "Observation", name="referenceRange", value={"part": [{"name": "low", "valueQuantity": low}]})]
    expected = b'{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10},"referenceRange":[{"low":{"value":2.500}}]}'
    assert dumps(fhir_patched(*operations, resource=resource)) == expected


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        (None, 400),
        ([], 400),
        ({"resourceType": "Patient"}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "other"}]}, 400),
        ({"resourceType": "Parameters", "parameter": ["operation"]}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "operation"}]}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": {"name": "type"}}]}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [{"name": "type", "valueCode": "add"}]}]}, 400),
        (operation("explode", "Patient"), 400),
        (operation("add", "Patient..", name="active", value={"valueBoolean": True}), 400),
        (operation("add", "Patient", value={"valueBoolean": True}), 400),
        (operation("add", "Patient", name="active"), 400),
        (operation("add", "Patient", name="active", value={}), 400),
        (operation("add", "Patient", name="active", value={"valueBoolean": True, "part": [{"name": "id", "valueString": "x"}]}), 400),
        (operation("add", "Patient", name="active", value={"valueBoolean": True, "valueString": "x"}), 400),
        (operation("add", "Patient", name="nothing", value={"valueBoolean": True}), 400),
        (operation("add", "Patient", name="deceased", value={"valueQuantity": {"value": 1}}), 400),
        (operation("add", "Patient", name="contact", value={"part": [{"name": "nothing", "valueString": "x"}]}), 400),
        (operation("add", "Patient", name="contact", value={"part": [{"name": "gender", "valueCode": "x"}] * 2}), 400),
        (operation("add", "Patient", name="contact", value={"part": [{"valueCode": "x"}]}), 400),
        (operation("add", "Patient", name="birthDate", value={"valueDate": "1980"}), 422),
        (operation("add", "Patient.gender", name="extension", value={"valueExtension": {"url": "x"}}), 422),
        (operation("add", "Patient.name", name="text", value="x"), 422),
        (operation("insert", "Patient.name", index=3, value={"valueHumanName": {"text": "B"}}), 422),
        (operation("insert", "Patient.name", index=-1, value={"valueHumanName": {"text": "B"}}), 422),
        (operation("insert", "Patient.name", index="0", value={"valueHumanName": {"text": "B"}}), 400),
        (operation("insert", "Patient.birthDate", index=0, value={"valueDate": "1980"}), 422),
        (operation("insert", "Patient.contact", index=0, value={"part": [{"name": "gender", "valueCode": "male"}]}), 422),
        (operation("delete", "Patient"), 422),
        (operation("replace", "Patient.gender", value={"valueCode": "male"}), 422),
        (operation("replace", "Patient.name", value={"valueHumanName": {"text": "B"}}), 422),
        (operation("replace", "Patient", value={"valueString": "x"}), 422),
        (operation("move", "Patient.name", source=0, destination=2), 422),
        (operation("move", "Patient.name", source=2, destination=0), 422),
        (operation("replace", "Patient.generalPractitioner.resolve().name", value={"valueHumanName": {"text": "x"}}), 422),
        (operation("replace", "Patient.name.given.first().substring(1)", value="x"), 400),
        (operation("replace", "Patient.id", value={"valueId": "q"}), 422),
        (operation("delete", "Patient.id"), 422),
        (operation("replace", "Patient.meta.versionId", value={"valueId": "4"}), 422),
        ({"resourceType": "Parameters", "parameter": [operation("delete", "Patient.gender")] * (MAX_OPERATIONS + 1)}, 413),
    ],
)
def test_fhirpath_patch_refuses(parameters: Any, status: int) -> None:
    if isinstance(parameters, dict) and "resourceType" not in parameters:
        parameters = {"resourceType": "Parameters", "parameter": [parameters]}
    with pytest.raises(Outcome) as refused:
        fhirpath_patch.apply(parameters, PATIENT, r4())
    assert refused.value.status == status


def test_paths_that_take_too_many_steps_are_refused_and_named() -> None:
    resource = {**PATIENT, "name": [{"given": ["x"] * 2_000}]}
    costly = operation("delete", "descendants().where(%resource.descendants().exclude($this).empty())")
    for operations in ([costly], [operation("delete", "Patient.gender"), *[operation("delete", "Patient.name.given.where($this = 'y')")] * 500]):
        with pytest.raises(Outcome) as refused:
            fhir_patched(*operations, resource=resource)
        (issue,) = refused.value.issues
        assert (refused.value.status, issue.code) == (422, "too-costly")
        assert f"'{operations[-1]['part'][1]['valueString']}'" in issue.diagnostics


def test_a_large_resource_bounds_the_number_of_operations() -> None:
    resource = {**PATIENT, "name": [{"given": ["x"] * 100_000}]}
    with pytest.raises(Outcome) as refused:
        fhir_patched(*[operation("delete", "Patient.gender")] * 500, resource=resource)
    assert refused.value.status == 413


@few
@given(resources(), st.data())
def test_what_is_added_can_be_deleted_again(resource: dict[str, Any], data: st.DataObject) -> None:
    kind = resource["resourceType"]
    elements = r4().types[kind].elements
    key = data.draw(
        st.sampled_from([key for key, e in elements.items() if e.many and e.type != "Resource" and key not in resource and "_" + key not in resource])
    )
    extension = {"name": "extension", "valueExtension": {"url": "http://x.org", "valueBoolean": True}}
    added = fhir_patched(
        operation("add", kind, name=key, value={"part": [extension] * 1}) if key != "extension" else _extended(kind), resource=resource
    )
    assert added != resource
    assert fhir_patched(operation("delete", f"{kind}.{key}"), resource=added) == resource


@few
@given(resources(), st.data())
def test_a_move_and_its_reverse_change_nothing(resource: dict[str, Any], data: st.DataObject) -> None:
    kind = resource["resourceType"]
    lists = [
        key for key, value in resource.items() if isinstance(value, list) and len(value) > 1 and "_" + key not in resource and not key.startswith("_")
    ]
    if not lists:
        return
    key = data.draw(st.sampled_from(lists))
    places = st.integers(0, len(resource[key]) - 1)
    source, destination = data.draw(places), data.draw(places)
    moved = fhir_patched(operation("move", f"{kind}.{key}", source=source, destination=destination), resource=resource)
    assert moved[key][destination] == resource[key][source]
    assert fhir_patched(operation("move", f"{kind}.{key}", source=destination, destination=source), resource=moved) == resource


def _extended(kind: str) -> dict[str, Any]:
    return operation("add", kind, name="extension", value={"valueExtension": {"url": "http://x.org", "valueBoolean": True}})


def test_a_json_patch_stays_as_it_was_sent() -> None:
    patch = [{"op": "add", "path": "/name", "value": [{"family": "A"}]}, {"op": "replace", "path": "/name/0/family", "value": "B"}]
    sent = copy.deepcopy(patch)
    for _ in range(2):
        assert json_patch.apply(patch, {"resourceType": "Patient"})["name"] == [{"family": "B"}]
    assert patch == sent
