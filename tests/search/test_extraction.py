"""Which parameters work, and which rows they give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.search import Registry, matches
from fhir_server.search.tables import metadata
from fhir_server.spec import r4
from tests.strategies import resources

UNSUPPORTED = {
    ("_filter", "special parameters are not supported"): 146,
    ("_query", "it has no expression"): 146,
}
"""Parameters of R4 that cannot be searched by, with the number of resource types they belong to. All others work."""


def test_every_parameter_works_or_is_listed(registry: Registry) -> None:
    missing: dict[tuple[str, str], int] = {}
    for name in r4().resource_types:
        params, failures = registry.supported_params(name), registry.unsupported(name)
        assert {code for code in params if ":" not in code} | set(failures) == set(r4().search_params(name))
        for code, reason in failures.items():
            missing[code, reason] = missing.get((code, reason), 0) + 1
    assert missing == UNSUPPORTED


GENETICS = "http://hl7.org/fhir/StructureDefinition/DiagnosticReport-geneticsAssessedCondition"


def values(registry: Registry, resource: dict[str, Any], code: str) -> set[Any]:
    """The first value column of the rows of one parameter."""
    pids = registry.supported_params(resource["resourceType"])[code].pids
    return {row[1] for rows in registry.rows(resource).values() for row in rows if row[0] in pids}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Patient", "deceasedBoolean": True}, {"deceased": {"true"}, "death-date": set()}),
        ({"resourceType": "Patient", "deceasedBoolean": False}, {"deceased": {"false"}}),
        (
            {"resourceType": "Patient", "deceasedDateTime": "2020-01-01T00:00:00Z"},
            {"deceased": {"true"}, "death-date": {"2020-01-01T00:00:00.000000+00:00"}},
        ),
        ({"resourceType": "Patient"}, {"deceased": {"false"}, "name": set()}),
        (
            {"resourceType": "Patient", "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "A@b"}]},
            {"telecom": {"1", "a@b"}, "phone": {"1"}, "email": {"a@b"}},
        ),
        ({"resourceType": "Patient", "_birthDate": {"extension": [{"url": "x"}]}, "gender": "female"}, {"gender": {"female"}, "birthdate": set()}),
        (
            {"resourceType": "Observation", "subject": {"reference": "Patient/p"}, "status": "final"},
            {"subject": {"p"}, "patient": {"p"}, "status": {"final"}},
        ),
        ({"resourceType": "Observation", "subject": {"reference": "Device/d"}}, {"subject": {"d"}, "patient": set()}),
        (
            {"resourceType": "Observation", "subject": {"reference": "http://else.example/Patient/p"}},
            {"patient": {"http://else.example/Patient/p"}},
        ),
        ({"resourceType": "Observation", "subject": {"reference": "urn:uuid:1", "type": "Patient"}}, {"patient": {"urn:uuid:1"}}),
        ({"resourceType": "Observation", "subject": {"reference": "urn:uuid:1"}}, {"subject": {"urn:uuid:1"}, "patient": set()}),
        (
            {
                "resourceType": "Observation",
                "component": [{"code": {"coding": [{"code": "X"}]}, "valueQuantity": {"value": 1}}],
                "valueString": "Text",
            },
            {
                "component-code": {"x"},
                "combo-code": {"x"},
                "component-value-quantity": {"1"},
                "combo-value-quantity": {"1"},
                "value-string": {"text"},
            },
        ),
        (
            {
                "resourceType": "Bundle",
                "entry": [{"resource": {"resourceType": "Composition", "id": "c"}}, {"resource": {"resourceType": "Patient", "id": "p"}}],
            },
            {"composition": {"c"}},
        ),
        (
            {
                "resourceType": "Library",
                "relatedArtifact": [
                    {"type": "depends-on", "resource": "http://x.example/a"},
                    {"type": "successor", "resource": "http://x.example/b"},
                ],
            },
            {"depends-on": {"http://x.example/a"}, "successor": {"http://x.example/b"}, "predecessor": set()},
        ),
        (
            {
                "resourceType": "DiagnosticReport",
                "extension": [{"url": GENETICS, "valueReference": {"reference": "Condition/c"}}, {"url": "http://other.example"}],
            },
            {"assessed-condition": {"c"}},
        ),
        ({"resourceType": "InsurancePlan", "name": "One", "alias": ["Two"]}, {"name": {"one", "two"}}),
        (
            {"resourceType": "Condition", "onsetAge": {"value": 41, "code": "a"}, "recordedDate": "2020-01-01"},
            {"onset-age": {"41"}, "onset-date": set()},
        ),
        ({"resourceType": "Invoice", "totalGross": {"value": 9, "currency": "EUR"}}, {"totalgross": {"9"}}),
        (
            {"resourceType": "Patient", "meta": {"profile": ["http://x.example/p|1"], "source": "urn:s", "tag": [{"code": "T"}]}},
            {"_tag": {"t"}, "_source": {"urn:s"}},
        ),
    ],
)
def test_values(registry: Registry, resource: dict[str, Any], expected: dict[str, set[Any]]) -> None:
    assert {code: values(registry, resource, code) for code in expected} == expected


def test_codes_carry_the_system_of_their_binding(registry: Registry) -> None:
    rows = registry.rows({"resourceType": "Patient", "gender": "female"})["sp_token"]
    assert (registry.supported_params("Patient")["gender"].pid, "female", "http://hl7.org/fhir/administrative-gender", True, True) in rows


def test_references_to_patients_carry_the_main_date(registry: Registry) -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/p"},
        "performer": [{"reference": "Practitioner/q"}],
        "effectiveDateTime": "2020-01-01T00:00:00Z",
    }
    found = {row[1]: row[3] for row in registry.rows(resource)["sp_reference"]}
    assert found == {"p": "2020-01-01T00:00:01.000000+00:00", "q": None}
    assert registry.main_date("Observation") == "date"
    assert registry.main_date("MedicationRequest") == "authoredon"


def test_references_for_includes(registry: Registry) -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/p"},
        "performer": [{"reference": "Practitioner/q"}, {"reference": "http://else.example/Patient/x"}, {"reference": "#c"}],
    }
    assert registry.references(resource) == [("Patient", "p"), ("Practitioner", "q")]
    assert registry.references(resource, "performer") == [("Practitioner", "q")]
    assert "Observation:patient" in registry.reverse_includes("Patient")
    assert "Observation:encounter" not in registry.reverse_includes("Patient")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(resource=st.sampled_from(r4().resource_types).flatmap(resources))
def test_rows_of_any_valid_resource_fit_their_tables(registry: Registry, resource: dict[str, Any]) -> None:
    for table, rows in registry.rows(resource).items():
        columns = len(metadata.tables[table].columns) - 1
        assert all(len(row) == columns for row in rows)
        assert len(set(rows)) == len(rows)
        assert all(len(str(value).encode()) <= 2_000 for row in rows for value in row if table != "sp_words")
        codes = {pid: code for code, param in registry.supported_params(resource["resourceType"]).items() for pid in param.pids}
        for code in {codes[row[0]] for row in rows if row[0] > 0}:
            if ":" not in code:
                query = registry.parse(resource["resourceType"], [(f"{code}:missing", "false")], strict=True)
                assert matches(query, resource, registry)


def test_patients_rows_carry_the_main_codes(registry: Registry) -> None:
    code = {"coding": [{"system": "http://loinc.org", "code": "A-1"}, {"code": 'b"\\'}, {"system": "http://loinc.org", "code": "a-1"}]}
    resource = {"resourceType": "Observation", "code": code, "subject": {"reference": "Patient/p"}, "device": {"reference": "Device/d"}}
    found = {row[1]: row[4] for row in registry.rows(resource)["sp_reference"]}
    assert found == {"p": '{"a-1","b\\"\\\\"}', "d": None}
