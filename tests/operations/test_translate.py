from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.interactions.conftest import Fhir, Json, issues, made, unique

Coding = tuple[str, str]

NOTHING = [{"code": "nothing"}]


@pytest.fixture(scope="module")
def maps(fhir: Fhir) -> SimpleNamespace:
    """A map of our colours to theirs, which names another for what it has not."""
    name = unique("colours")
    ours, theirs, base = f"urn:{name}:ours", f"urn:{name}:theirs", f"urn:{name}"
    rest: Json = {
        "resourceType": "ConceptMap",
        "url": f"{base}:rest",
        "status": "draft",
        "group": [{"source": ours, "target": theirs, "element": NOTHING, "unmapped": {"mode": "fixed", "code": "other", "display": "Another"}}],
    }
    main: Json = {
        "resourceType": "ConceptMap",
        "url": f"{base}:main",
        "status": "active",
        "group": [
            {
                "source": ours,
                "target": theirs,
                "unmapped": {"mode": "other-map", "url": f"{base}:rest"},
                "element": [
                    {
                        "code": "red",
                        "display": "Red",
                        "target": [{"code": "r", "display": "Rouge", "equivalence": "equivalent"}, {"code": "w", "equivalence": "wider"}],
                    },
                    {"code": "void", "target": [{"equivalence": "unmatched", "comment": "No colour"}]},
                ],
            }
        ],
    }
    same: Json = {
        "resourceType": "ConceptMap",
        "url": f"{base}:same",
        "status": "draft",
        "group": [{"source": ours, "target": f"{theirs}:2", "element": NOTHING, "unmapped": {"mode": "provided"}}],
    }
    made(fhir, rest)
    made(fhir, same)
    return SimpleNamespace(fhir=fhir, id=made(fhir, main), main=main, ours=ours, theirs=theirs, base=base)


def asked(
    maps: SimpleNamespace, path: str = "ConceptMap/$translate", body: Json | None = None, **params: Any
) -> tuple[bool, list[tuple[str, Coding]]]:
    """The result, and the equivalence and coding of each match."""
    query = "&".join(f"{name}={value}" for name, value in params.items())
    answer = maps.fhir.post(path, body, 200) if body is not None else maps.fhir.get(f"{path}?{query}")
    parts = answer["parameter"]
    found = []
    for part in parts:
        if part["name"] == "match":
            values = {each["name"]: next(value for name, value in each.items() if name.startswith("value")) for each in part["part"]}
            concept = values.get("concept", {})
            found.append((values["equivalence"], (concept.get("system", ""), concept.get("code", ""))))
    assert parts[0]["name"] == "result"
    return parts[0]["valueBoolean"], found


def test_a_code_is_translated_by_the_map_of_a_url_of_an_address_and_of_its_system(maps: SimpleNamespace) -> None:
    expected = (True, [("equivalent", (maps.theirs, "r")), ("wider", (maps.theirs, "w"))])
    assert asked(maps, url=f"{maps.base}:main", system=maps.ours, code="red") == expected
    assert asked(maps, f"ConceptMap/{maps.id}/$translate", system=maps.ours, code="red") == expected
    assert asked(maps, system=maps.ours, code="red") == expected
    assert asked(maps, system=maps.ours, code="red", targetsystem=maps.theirs) == expected
    assert asked(maps, system=maps.ours, code="red", targetsystem="urn:else") == (False, [])


def test_a_map_may_come_with_the_question(maps: SimpleNamespace) -> None:
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "conceptMap", "resource": maps.main},
            {
                "name": "codeableConcept",
                "valueCodeableConcept": {"coding": [{"system": "urn:else", "code": "red"}, {"system": maps.ours, "code": "void"}]},
            },
        ],
    }
    assert asked(maps, body=body) == (False, [("unmatched", ("", ""))])


def test_it_goes_backwards(maps: SimpleNamespace) -> None:
    assert asked(maps, url=f"{maps.base}:main", system=maps.theirs, code="w", reverse="true") == (True, [("narrower", (maps.ours, "red"))])
    assert asked(maps, system=maps.theirs, code="r", reverse="true") == (True, [("equivalent", (maps.ours, "red"))])


def test_what_a_map_has_not_goes_as_it_says(maps: SimpleNamespace) -> None:
    assert asked(maps, url=f"{maps.base}:main", system=maps.ours, code="blue") == (True, [("relatedto", (maps.theirs, "other"))])
    assert asked(maps, url=f"{maps.base}:same", system=maps.ours, code="blue") == (True, [("equivalent", (f"{maps.theirs}:2", "blue"))])


def test_maps_that_name_each_other_come_to_an_end(maps: SimpleNamespace) -> None:
    url = f"{maps.base}:circle"
    group = {"source": maps.ours, "target": maps.theirs, "element": NOTHING, "unmapped": {"mode": "other-map", "url": url}}
    made(maps.fhir, {"resourceType": "ConceptMap", "url": url, "status": "draft", "group": [group, group]})
    assert asked(maps, url=url, system=maps.ours, code="blue") == (False, [])


@pytest.mark.parametrize(("query", "status"), [("url=urn:none&code=a&system=urn:b", 404), ("system=urn:b", 400), ("code=a&nonsense=1", 400)])
def test_what_cannot_be_asked_is_refused(maps: SimpleNamespace, query: str, status: int) -> None:
    answer = maps.fhir("GET", f"ConceptMap/$translate?{query}")
    assert answer.status_code == status
    issues(json.loads(answer.data))


def test_maps_are_for_those_who_may_see_them(maps: SimpleNamespace) -> None:
    stranger = maps.fhir.other(scope="system/Patient.rs")
    for path in ("ConceptMap/$translate", f"ConceptMap/{maps.id}/$translate"):
        assert stranger("GET", f"{path}?system={maps.ours}&code=red").status_code in {403, 404}
