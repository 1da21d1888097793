"""Observation/$lastn. https://hl7.org/fhir/R4/observation-operation-lastn.html"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interactions.conftest import Fhir, Json, entry, issues, patient, unique

Count = Callable[[Callable[[], object]], int]
VITAL = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}


def vital(name: str, which: str, at: str | None, *codes: str, **fields: Any) -> Json:
    coding = [{"system": "urn:codes", "code": code} for code in codes]
    code = fields.pop("code", {"coding": coding})
    made = {"resourceType": "Observation", "id": f"{name}-{which}", "status": "final", "category": [VITAL], "code": code}
    return made | {"subject": {"reference": f"Patient/{name}"}} | ({"effectiveDateTime": at} if at else {}) | fields


def put(fhir: Fhir, *resources: Json) -> None:
    fhir.bundle("transaction", *(entry("PUT", f"{each['resourceType']}/{each['id']}", each) for each in resources))


def newest(fhir: Fhir, name: str, query: str) -> list[str]:
    bundle = fhir.get(f"Observation/$lastn?{query}")
    assert bundle["type"] == "searchset"
    found = [each["resource"]["id"] for each in bundle.get("entry", ())]
    assert bundle["total"] == len(found)
    return [each.removeprefix(f"{name}-") for each in found]


@pytest.fixture
def name(fhir: Fhir) -> str:
    """A patient with some temperatures and weights."""
    name = unique("l")
    put(
        fhir,
        patient(id=name),
        *(vital(name, f"t{day}", f"2020-01-0{day}T08:00:00Z", "temp") for day in (1, 2, 3)),
        *(vital(name, f"w{day}", f"2020-02-0{day}", "weight") for day in (1, 2)),
    )
    return name


def test_the_newest_of_each_code_newest_first(fhir: Fhir, name: str) -> None:
    asked = f"patient={name}&category=vital-signs"
    assert newest(fhir, name, asked) == ["w2", "t3"]
    assert newest(fhir, name, f"{asked}&max=2") == ["w2", "w1", "t3", "t2"]
    assert newest(fhir, name, f"{asked}&max=9") == ["w2", "w1", "t3", "t2", "t1"]
    assert newest(fhir, name, f"subject=Patient/{name}&code=urn:codes|temp&max=2") == ["t3", "t2"]
    assert newest(fhir, name, f"{asked}&date=lt2020-01-03&max=1") == ["t2"]
    assert newest(fhir, name, f"patient={name}&category=laboratory") == []
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": key, "valueString": value} for key, value in (("patient", name), ("category", "vital-signs"))]
        + [{"name": "max", "valuePositiveInt": 2}],
    }
    assert len(fhir.post("Observation/$lastn", body, 200)["entry"]) == 4


def test_those_of_one_time_come_together(fhir: Fhir, name: str) -> None:
    put(fhir, *(vital(name, f"tie{n}", "2020-01-02T09:00:00+01:00", "temp") for n in (1, 2)))
    assert sorted(newest(fhir, name, f"patient={name}&code=temp&max=2")) == ["t2", "t3", "tie1", "tie2"]
    assert newest(fhir, name, f"patient={name}&code=temp&max=1") == ["t3"]
    # A day is not the time of its end.
    put(fhir, vital(name, "day", "2020-03-01", "day"), vital(name, "end", "2020-03-01T23:59:59.999Z", "day"))
    assert len(newest(fhir, name, f"patient={name}&code=day")) == 1
    # Without a date nothing is of the same time.
    put(fhir, *(vital(name, f"none{n}", None, "none") for n in (1, 2, 3)))
    assert newest(fhir, name, f"patient={name}&code=none") == ["none3"]


def test_codes_side_by_side_are_one_code(fhir: Fhir) -> None:
    name = unique("l")
    put(fhir, patient(id=name), vital(name, "a", "2020-01-01", "a"), vital(name, "b", "2020-01-02", "b"))
    assert newest(fhir, name, f"patient={name}&category=vital-signs") == ["b", "a"]
    put(fhir, vital(name, "ac", "2020-01-03", "a", "c"))
    assert newest(fhir, name, f"patient={name}&category=vital-signs") == ["ac", "b"]
    put(fhir, vital(name, "bc", "2020-01-04", "b", "c"))
    assert newest(fhir, name, f"patient={name}&category=vital-signs") == ["bc"]
    assert newest(fhir, name, f"patient={name}&category=vital-signs&max=3") == ["bc", "ac", "b"]
    other = vital(name, "other", "2019", code={"coding": [{"system": "urn:others", "code": "a"}]})
    put(fhir, other)
    assert newest(fhir, name, f"patient={name}&category=vital-signs") == ["bc", "other"]


def test_texts_are_codes_where_there_are_none(fhir: Fhir) -> None:
    name = unique("l")
    texts = ("textM", "Text", "t e x t", "Text")
    put(fhir, patient(id=name), *(vital(name, str(n), f"2020-01-0{n + 1}", code={"text": text}) for n, text in enumerate(texts)))
    assert newest(fhir, name, f"patient={name}&category=vital-signs") == ["3", "2", "0"]


def test_the_grant_bounds_it(fhir: Fhir, name: str) -> None:
    own = fhir.other(scope="patient/*.rs", patient=name)
    assert newest(own, name, "category=vital-signs") == ["w2", "t3"]
    stranger = fhir.other(scope="patient/*.rs", patient="nobody")
    assert newest(stranger, name, f"patient={name}&category=vital-signs") == []
    fhir.other(scope="system/Patient.rs").get(f"Observation/$lastn?patient={name}&category=vital-signs", 403)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("category=vital-signs", "$lastn needs a subject"),
        ("patient=x", "$lastn needs category"),
        ("patient=x&value-quantity=5", "$lastn needs category"),
        ("patient=x&code=a&max=0", "max is a whole number from 1 to 1,000, not '0'"),
        ("patient=x&code=a&max=1.5", "not '1.5'"),
        ("patient=x&code=a&max=1&max=2", "'max' stands twice"),
        ("patient=x&code=a&_sort=date", "_sort does not go with $lastn"),
        ("patient=x&code=a&_include=*", "_include does not go with $lastn"),
        ("patient=x&code=a&nonsense=1", "no search parameter 'nonsense'"),
        ("patient=x&code=a&date=soon", "date is no date"),
    ],
)
def test_what_is_not_understood_is_refused(fhir: Fhir, query: str, said: str) -> None:
    assert said in issues(fhir.get(f"Observation/$lastn?{query}", 400))


def test_one_statement(fhir: Fhir, name: str, statements: Count) -> None:
    path = f"Observation/$lastn?patient={name}&category=vital-signs&max=3"
    assert statements(lambda: fhir.get(path)) == 2 + 1
    put(fhir, *(vital(name, f"many{n}", "2021", f"code-{n}") for n in range(40)))
    assert statements(lambda: fhir.get(path)) == 2 + 1


def test_lenient_handling_says_what_was_left_out(fhir: Fhir, name: str) -> None:
    bundle = fhir.get(f"Observation/$lastn?patient={name}&code=temp&nonsense=1", headers={"Prefer": "handling=lenient"})
    assert bundle["total"] == 1
    assert [each["search"]["mode"] for each in bundle["entry"]] == ["match", "outcome"]
    assert "'nonsense' was left out" in issues(bundle["entry"][1]["resource"])
