"""Parameters that a modifier asks for: their rows, their values, and who has them."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.search import Registry
from fhir_server.search.params import DERIVED, kind_of
from fhir_server.spec import r4

from .conftest import Database

MRN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}], "text": "Record number"}


def rows(registry: Registry, resource: dict[str, Any], code: str) -> list[tuple[Any, ...]]:
    param = registry.supported_params(resource["resourceType"])[code]
    return [row[1:] for row in registry.rows(resource).get(kind_of(param).TABLE, ()) if row[0] in param.pids]


@pytest.mark.parametrize(
    ("resource", "code", "expected"),
    [
        (
            {"resourceType": "Condition", "code": {"coding": [{"code": "1", "display": "Fever"}, {"code": "2", "display": "Fièvre"}], "text": "Hot"}},
            "code:text",
            {("fever", "Fever"), ("fievre", "Fièvre"), ("hot", "Hot")},
        ),
        ({"resourceType": "Encounter", "class": {"code": "AMB", "display": "ambulatory"}}, "class:text", {("ambulatory", "ambulatory")}),
        (
            {"resourceType": "Patient", "identifier": [{"value": "1", "type": MRN}, {"value": "2"}]},
            "identifier:text",
            {("record number", "Record number")},
        ),
        ({"resourceType": "Patient", "meta": {"tag": [{"code": "t", "display": "Tagged"}]}}, "_tag:text", {("tagged", "Tagged")}),
        (
            {"resourceType": "Patient", "identifier": [{"value": "Ab|1", "type": MRN}, {"value": "2"}, {"value": "3", "type": {"text": "x"}}]},
            "identifier:of-type",
            {("mr|ab|1", "http://terminology.hl7.org/CodeSystem/v2-0203")},
        ),
        (
            {"resourceType": "Observation", "subject": {"identifier": {"system": "urn:mrn", "value": "A7"}}},
            "subject:identifier",
            {("a7", "urn:mrn")},
        ),
        (
            {"resourceType": "Observation", "subject": {"reference": "Patient/p", "identifier": {"value": "A7"}}},
            "patient:identifier",
            {("a7", "")},
        ),
        ({"resourceType": "Observation", "subject": {"type": "Patient", "identifier": {"value": "A7"}}}, "patient:identifier", {("a7", "")}),
        ({"resourceType": "Observation", "subject": {"type": "Group", "identifier": {"value": "A7"}}}, "patient:identifier", set()),
        ({"resourceType": "Observation", "subject": {"reference": "Patient/p"}}, "subject:identifier", set()),
    ],
)
def test_rows(registry: Registry, resource: dict[str, Any], code: str, expected: set[tuple[str, str]]) -> None:
    assert {row[:2] for row in rows(registry, resource, code)} == expected


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        ("code:text", "FEV", True),
        ("code:text", "ever", False),
        ("identifier:of-type", "http://terminology.hl7.org/CodeSystem/v2-0203|MR|x-1", True),
        ("identifier:of-type", "http://terminology.hl7.org/CodeSystem/v2-0203|MR|x", False),
        ("identifier:of-type", "urn:other|MR|x-1", False),
        ("subject:identifier", "urn:mrn|A7", True),
        ("subject:identifier", "A7", True),
        ("subject:identifier", "urn:mrn|", True),
        ("subject:identifier", "|A7", False),
    ],
)
def test_sql_and_memory_find_the_same(database: Database, code: str, text: str, found: bool) -> None:  # noqa: FBT001 - a table's column
    resource = {
        "resourceType": "Condition",
        "id": "c",
        "meta": {"lastUpdated": "2024-01-01T00:00:00Z"},
        "code": {"coding": [{"display": "Fever"}]},
        "identifier": [{"value": "X-1", "type": MRN}],
        "subject": {"identifier": {"system": "urn:mrn", "value": "A7"}},
    }
    param = database.registry.supported_params("Condition")[code]
    kind = kind_of(param)
    value = kind.parse(text, None, param.targets, database.registry.context)
    assert any(kind.matches(value, row) for row in rows(database.registry, resource, code)) is found
    condition = kind.predicate([value], "")
    with database.holding([resource]):
        statement = f"SELECT count(*) > 0 FROM {kind.TABLE} WHERE pid = {param.pid} AND {condition.text}"
        assert database.connection.execute(statement, condition.params).fetchone() == (found,)


@pytest.mark.parametrize("text", ["", "MR|1", "urn:x|MR|", "|MR|1", "urn:x||1", "a|b|c|d"])
def test_of_type_names_its_form(registry: Registry, text: str) -> None:
    with pytest.raises(ValueError, match=r"\[system\]\|\[code\]\|\[value\]"):
        DERIVED["of-type"].parse(text, None, (), registry.context)


def test_only_what_can_have_rows_is_a_parameter(registry: Registry) -> None:
    params = registry.supported_params("Patient")
    assert {"identifier:text", "identifier:of-type", "general-practitioner:identifier", "language:text"} <= set(params)
    assert not {"gender:text", "active:text", "telecom:text", "_id:text", "language:of-type", "name:text"} & set(params)
    assert (params["identifier:text"].type, params["identifier:of-type"].type, params["link:identifier"].type) == ("string", "token", "token")
    assert not any(":" in code for name in r4().resource_types for code in registry.unsupported(name))
