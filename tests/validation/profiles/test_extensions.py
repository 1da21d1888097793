from __future__ import annotations

from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.spec import profiles, r4
from fhir_server.validation.profiles import Profiles

from .conftest import CORE, Json, element, member, profile

BIRTH_PLACE = {"url": f"{CORE}patient-birthPlace", "valueAddress": {"city": "Ulm"}}


def found(resource: Json, *definitions: Json) -> list[tuple[str, str]]:
    """Severity and place of each fault of the extensions of a resource, by R4's definitions and others."""
    known = {url: bytes(body) for url, body in profiles().items()} | {each["url"]: fhirjson.dumps(each) for each in definitions}
    issues = Profiles(r4(), known.get, member).extensions(resource)
    return [(issue.severity, "".join(issue.expression)) for issue in issues if issue.severity != "information"]


def patient(**fields: Any) -> Json:
    return {"resourceType": "Patient", **fields}


def test_an_extension_is_held_to_its_definition_without_any_profile() -> None:
    assert found(patient(extension=[BIRTH_PLACE, {"url": "urn:unknown", "valueCode": "x"}, {"url": 7}])) == []
    wrong = {"url": BIRTH_PLACE["url"], "valueString": "Ulm"}
    assert found(patient(extension=[BIRTH_PLACE, wrong])) == [("error", "Patient.extension[1].value")]
    assert found(patient(contained=[patient(id="p", extension=[{"url": BIRTH_PLACE["url"]}])])) == [
        ("error", "Patient.contained[0].extension[0].value")
    ]


def test_extensions_of_primitives_and_in_the_entries_of_a_bundle_are_found() -> None:
    wrong = {"extension": [{"url": f"{CORE}patient-birthTime", "valueString": "noon"}]}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": patient(birthDate="2000-01-01", _birthDate=wrong)}]}
    assert found(bundle) == [("error", "Bundle.entry[0].resource.birthDate.extension[0].value")]


@pytest.mark.parametrize(
    ("resource", "places"),
    [
        (patient(extension=[BIRTH_PLACE]), []),
        ({"resourceType": "Observation", "extension": [BIRTH_PLACE]}, ["Observation.extension[0]"]),
        (patient(name=[{"extension": [BIRTH_PLACE]}]), ["Patient.name[0].extension[0]"]),
        (patient(name=[{"family": "x", "_family": {"extension": [{"url": f"{CORE}humanname-own-name", "valueString": "x"}]}}]), []),
        (patient(_gender={"extension": [{"url": f"{CORE}data-absent-reason", "valueCode": "unknown"}]}), []),
    ],
)
def test_an_extension_that_does_not_belong_where_it_is_is_a_warning(resource: Json, places: list[str]) -> None:
    assert found(resource) == [("warning", place) for place in places]


def test_an_extension_may_be_for_another_one_or_for_what_an_expression_tells() -> None:
    inner = profile("Extension", element("Extension.value[x]", 1), url="urn:inner", context=[{"type": "extension", "expression": "urn:outer"}])
    nested = [{"url": "urn:inner", "valueCode": "x"}]
    assert found(patient(extension=[{"url": "urn:outer", "extension": nested}]), inner) == []
    assert found(patient(extension=[{"url": "urn:other", "extension": nested}]), inner) == [("warning", "Patient.extension[0].extension[0]")]
    inner["context"] = [{"type": "fhirpath", "expression": "Patient.where(active)"}]
    assert found(patient(extension=nested), inner) == []
