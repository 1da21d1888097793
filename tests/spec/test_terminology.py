"""The code systems and value sets that ship."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fhir_server.spec import build, terminology

ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def test_every_resource_stands_under_its_url_and_holds_no_prose() -> None:
    shipped = terminology()
    assert len(shipped.code_systems) == 1052
    assert len(shipped.value_sets) == 1316
    told = {"resourceType", "url", "version", "name", "content", "caseSensitive", "hierarchyMeaning", "property", "concept", "compose"}
    for kind, urls in (("CodeSystem", shipped.code_systems), ("ValueSet", shipped.value_sets)):
        for url in urls:
            resource = shipped.find(kind, url)  # type: ignore[arg-type]
            assert resource is not None
            assert (resource["resourceType"], resource["url"]) == (kind, url)
            assert resource.keys() <= told


def test_versions_are_told_apart() -> None:
    shipped = terminology()
    found = shipped.find("CodeSystem", ACT_CODE)
    assert found is not None
    assert shipped.find("CodeSystem", f"{ACT_CODE}|{found['version']}") == found
    assert shipped.find("CodeSystem", f"{ACT_CODE}|1") is None
    assert shipped.find("CodeSystem", "http://terminology.hl7.org/CodeSystem/v2-0006|2.1") is not None
    assert shipped.find("CodeSystem", "http://example.org/nowhere") is None
    assert shipped.find("ValueSet", ACT_CODE) is None


def test_a_concept_keeps_what_filters_ask_for() -> None:
    system = {
        "resourceType": "CodeSystem",
        "url": "http://example.org/s",
        "description": "Text",
        "content": "complete",
        "property": [{"code": "status", "type": "code", "description": "Text"}],
        "concept": [
            {
                "code": "a",
                "display": "A",
                "definition": "Text",
                "designation": [{"value": "Text"}],
                "property": [{"code": "status", "valueCode": "retired"}],
                "concept": [{"code": "b", "definition": "Text"}],
            }
        ],
    }
    empty = {"resourceType": "CodeSystem", "url": "http://example.org/e", "content": "not-present"}
    facts = build._terminology([system, empty])
    assert facts["codeSystems"] == {
        "http://example.org/s": {
            "resourceType": "CodeSystem",
            "url": "http://example.org/s",
            "content": "complete",
            "property": [{"code": "status", "type": "code"}],
            "concept": [{"code": "a", "display": "A", "property": [{"code": "status", "valueCode": "retired"}], "concept": [{"code": "b"}]}],
        }
    }


def test_the_data_is_written_the_same_every_time(tmp_path: Path) -> None:
    build._write(tmp_path / "one.gz", {"b": {"ä": 1}, "a": [1]})
    build._write(tmp_path / "two.gz", {"a": [1], "b": {"ä": 1}})
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


@pytest.mark.parametrize("module", ["fhir_server.app", "fhir_server.cli"])
def test_nothing_is_read_before_it_is_asked_for(module: str) -> None:
    script = f"import {module}; from fhir_server.spec import terminology; raise SystemExit(terminology.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
