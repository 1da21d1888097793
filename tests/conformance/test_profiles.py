"""The clinic's profiles, and an example of each: valid as R4, and as its profile says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.operations.conformance import FOLDER
from fhir_server.spec import r4
from fhir_server.validation import Validator

Json = dict[str, Any]
VALIDATOR = Validator(r4())
PROFILES: dict[str, Json] = {
    profile["url"]: profile for path in FOLDER.glob("StructureDefinition-clinic-*.json") for profile in (fhirjson.loads(path.read_bytes()),)
}
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))


def named(resource: Json, path: str) -> list[Any]:
    """What stands at a path below the resource."""
    found: list[Any] = [resource]
    for name in path.split(".")[1:]:
        step = name.removesuffix("[x]")
        reached = [
            value
            for element in found
            if isinstance(element, dict)
            for key, value in element.items()
            if key == step or (step != name and key.startswith(step))
        ]
        found = [each for value in reached for each in (value if isinstance(value, list) else [value])]
    return found


def faults(resource: Json, profile: Json) -> list[str]:
    """What a resource lacks of a profile, or has that it does not know."""
    found = []
    extensions = set()
    for element in profile["differential"]["element"]:
        if "sliceName" in element:
            extensions.add(element["type"][0]["profile"][0])
        elif len(named(resource, element["path"])) < element.get("min", 0):
            found.append(f"{element['path']} is missing")
    unknown = {each["url"] for each in resource.get("extension", ())} - extensions
    return found + sorted(unknown)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_fits_its_profile(path: Path) -> None:
    resource = fhirjson.loads(path.read_bytes())
    VALIDATOR.require(resource)
    (url,) = resource["meta"]["profile"]
    assert PROFILES[url]["type"] == resource["resourceType"]
    assert faults(resource, PROFILES[url]) == []
    assert path.name == f"{resource['resourceType']}-{resource['id']}.json"


def test_each_profile_has_an_example_and_constrains_what_there_is() -> None:
    used = {url for path in EXAMPLES for url in fhirjson.loads(path.read_bytes())["meta"]["profile"]}
    assert used == set(PROFILES)
    own = {fhirjson.loads(path.read_bytes())["url"] for path in FOLDER.glob("StructureDefinition-*.json")}
    for profile in PROFILES.values():
        type_name = profile["type"]
        for element in profile["differential"]["element"][1:]:
            first, _, rest = element["path"].partition(".")
            assert first == type_name
            stem = rest.split(".")[0].removesuffix("[x]")
            assert any(name.startswith(stem) for name in r4().types[type_name].elements), element["path"]
            assert {url for each in element.get("type", ()) for url in each.get("profile", ())} <= own


def test_what_a_profile_asks_for_is_missed() -> None:
    profile = PROFILES["https://clinic-fhir.example.org/StructureDefinition/clinic-encounter"]
    lacking = {"resourceType": "Encounter", "extension": [{"url": "http://example.org/other"}]}
    assert faults(lacking, profile) == ["Encounter.subject is missing", "http://example.org/other"]
