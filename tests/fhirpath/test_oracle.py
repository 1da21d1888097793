"""The same results as fhirpathpy, another engine, where both claim to follow the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from fhirpathpy import evaluate
from fhirpathpy.models import models

from fhir_server import fhirjson
from fhir_server.fhirpath import compile as compile_
from fhir_server.spec import r4

DATA: Final = Path(__file__).parent / "data"
EXPRESSIONS: Final = {
    "patient-example": [
        "Patient.name.given",
        "Patient.name.where(use = 'official').family",
        "name.given | name.family",
        "name.select(given.first() & ' ' & use)",
        "contact.relationship.coding.code",
        "telecom.where(system = 'phone').value",
        "telecom.skip(1).take(2).use",
        "telecom.where(rank > 1).value",
        "name.given.distinct().count()",
        "name.where(period.exists()).period.end",
        "identifier.period.start",
        "deceased",
        "birthDate.extension.value",
        "descendants().count() > 50",
        "name.exists(family = 'Windsor')",
        "name.all(given.exists())",
        "iif(active, name.first().family, 'none')",
        "name.given.where(startsWith('J')).select(upper())",
        "name.given.select(length())",
        "name.family.select(indexOf('a'))",
        "managingOrganization.reference.replace('Organization/', '')",
        "text.status in ('generated' | 'additional')",
        "name.repeat(period).end",
        "contact.name.family",
    ],
    "observation-example": [
        "Observation.value.unit",
        "value.ofType(Quantity).value",
        "value is Quantity",
        "code.coding.where(system = 'http://loinc.org').code",
        "category.coding.code contains 'vital-signs'",
        "value.value > 100 and value.unit = 'lbs'",
        "subject.reference.substring(8)",
        "value.value / 5",
        "value.value mod 50",
    ],
    "questionnaire-example": [
        "item.linkId",
        "repeat(item).linkId",
        "descendants().linkId.isDistinct()",
        "item.where(item.exists()).select(item.count())",
        "repeat(item).where(type = 'choice').code.code",
    ],
}
CASES: Final = [(name, text) for name, listed in EXPRESSIONS.items() for text in listed]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_same_result(name: str, text: str) -> None:
    raw = (DATA / f"{name}.json").read_bytes()
    resource: Any = fhirjson.loads(raw)
    ours = compile_(text, r4(), resource["resourceType"])(resource)
    theirs = evaluate(json.loads(raw), text, {}, models["r4"])
    assert [plain(value) for value in ours] == [plain(value) for value in theirs]


def plain(value: Any) -> Any:
    """Numbers compare as floats: the other engine knows no decimals."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value if isinstance(value, bool | str) or value is None else float(value)
