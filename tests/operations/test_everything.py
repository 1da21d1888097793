"""$everything. https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interactions.conftest import Fhir, Json, entry, issues, observation, patient, unique

Count = Callable[[Callable[[], object]], int]


def ids(bundle: Json, mode: str | None = None) -> list[str]:
    """`type/id` of the entries, or of those of a mode."""
    found = [each for each in bundle.get("entry", ()) if mode in (None, each["search"]["mode"])]
    assert all(each["fullUrl"].endswith(f"/{each['resource']['resourceType']}/{each['resource']['id']}") for each in found)
    return [f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in found]


@pytest.fixture
def record(fhir: Fhir) -> Json:
    """A patient with a practitioner, whose organisation has a parent, and another patient beside them."""
    name = unique("e")
    resources: list[Json] = [
        {"resourceType": "Organization", "id": f"{name}-parent", "name": "P"},
        {"resourceType": "Organization", "id": f"{name}-org", "name": "O", "partOf": {"reference": f"Organization/{name}-parent"}},
        {"resourceType": "Practitioner", "id": f"{name}-doc"},
        patient(id=name, managingOrganization={"reference": f"Organization/{name}-org"}),
        patient(id=f"{name}-other"),
        {
            "resourceType": "Encounter",
            "id": f"{name}-enc",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": {"reference": f"Patient/{name}"},
            "period": {"start": "2020-05-01T10:00:00Z", "end": "2020-05-01T11:00:00Z"},
            "participant": [{"individual": {"reference": f"Practitioner/{name}-doc"}}],
        },
        observation(
            id=f"{name}-obs",
            subject={"reference": f"Patient/{name}"},
            encounter={"reference": f"Encounter/{name}-enc"},
            effectiveDateTime="2020-05-01",
            performer=[{"reference": f"Practitioner/{name}-doc"}],
        ),
        observation(id=f"{name}-late", subject={"reference": f"Patient/{name}"}, effectiveDateTime="2021-05-01"),
        observation(id=f"{name}-theirs", subject={"reference": f"Patient/{name}-other"}, hasMember=[{"reference": f"Observation/{name}-obs"}]),
        observation(id=f"{name}-linked", subject={"reference": f"Patient/{name}"}, hasMember=[{"reference": f"Observation/{name}-theirs"}]),
    ]
    fhir.bundle("transaction", *(entry("PUT", f"{each['resourceType']}/{each['id']}", each) for each in resources))
    return {"name": name}


def test_a_patient_and_what_belongs_to_it_and_what_that_refers_to(fhir: Fhir, record: Json) -> None:
    name = record["name"]
    bundle = fhir.get(f"Patient/{name}/$everything")
    assert ids(bundle)[0] == f"Patient/{name}"
    assert set(ids(bundle, "match")) == {
        f"Patient/{name}",
        *(
            f"{kind}/{name}-{which}"
            for kind, which in (("Encounter", "enc"), ("Observation", "obs"), ("Observation", "late"), ("Observation", "linked"))
        ),
    }
    # Another patient's observation stays out, though one refers to it.
    assert set(ids(bundle, "include")) == {f"Practitioner/{name}-doc", f"Organization/{name}-org", f"Organization/{name}-parent"}
    assert bundle["type"] == "searchset"
    assert bundle["total"] == len(bundle["entry"]) == len(set(ids(bundle)))
    assert [link["relation"] for link in bundle["link"]] == ["self"]
    fhir.post("Bundle/$validate", bundle, 200)
    assert ids(fhir.post(f"Patient/{name}/$everything", {"resourceType": "Parameters"}, 200)) == ids(bundle)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_pages_have_everything_once_and_answer_from_one_moment(fhir: Fhir, record: Json, count: int) -> None:
    name = record["name"]
    whole = ids(fhir.get(f"Patient/{name}/$everything"))

    def change() -> None:
        fhir.post("Observation", observation(subject={"reference": f"Patient/{name}"}))
        fhir("DELETE", f"Observation/{name}-late")
        fhir.put(f"Practitioner/{name}-doc", {"resourceType": "Practitioner", "id": f"{name}-doc", "active": True})

    pages = list(fhir.pages(f"Patient/{name}/$everything?_count={count}", change))
    assert [each for page in pages for each in ids(page)] == whole
    assert all(len(page.get("entry", ())) <= count for page in pages)
    assert all(page.get("entry") for page in pages)
    assert not any("active" in each["resource"] for page in pages for each in page["entry"])


def test_types_times_and_dates(fhir: Fhir, record: Json) -> None:
    name = record["name"]
    path = f"Patient/{name}/$everything"
    assert set(ids(fhir.get(f"{path}?_type=Observation,Practitioner"))) == {
        *(f"Observation/{name}-{which}" for which in ("obs", "late", "linked")),
        f"Practitioner/{name}-doc",
    }
    assert ids(fhir.get(f"{path}?_type=Practitioner&_type=Encounter")) == [f"Encounter/{name}-enc", f"Practitioner/{name}-doc"]
    early = ids(fhir.get(f"{path}?end=2020-05-01"))
    assert f"Observation/{name}-late" not in early
    assert {f"Patient/{name}", f"Encounter/{name}-enc", f"Observation/{name}-obs", f"Observation/{name}-linked"} < set(early)
    late = ids(fhir.get(f"{path}?start=2020-05-02&end=2021"))
    assert {f"Patient/{name}", f"Observation/{name}-late"} < set(late)
    # Nothing of that time refers to the practitioner.
    assert not {f"Encounter/{name}-enc", f"Observation/{name}-obs", f"Practitioner/{name}-doc"} & set(late)
    changed = fhir.put(f"Observation/{name}-late", observation(id=f"{name}-late", subject={"reference": f"Patient/{name}"}))
    assert ids(fhir.get(f"{path}?_since={changed['meta']['lastUpdated']}")) == [f"Observation/{name}-late"]
    assert ids(fhir.get(f"{path}?_since=2999-01-01T00:00:00Z")) == []


def test_an_encounter_and_its_patient(fhir: Fhir, record: Json) -> None:
    name = record["name"]
    bundle = fhir.get(f"Encounter/{name}-enc/$everything")
    assert ids(bundle, "match") == [f"Encounter/{name}-enc", f"Observation/{name}-obs"]
    assert set(ids(bundle, "include")) == {f"Patient/{name}", f"Practitioner/{name}-doc"}
    assert [each for page in fhir.pages(f"Encounter/{name}-enc/$everything?_count=1") for each in ids(page)] == ids(bundle)


def test_nobody_sees_more_than_their_grant(fhir: Fhir, record: Json) -> None:
    name = record["name"]
    own = fhir.other(scope="patient/*.rs", patient=name)
    assert set(ids(own.get("Patient/$everything"))) == set(ids(own.get(f"Patient/{name}/$everything")))
    assert set(ids(own.get("Patient/$everything"))) == set(ids(fhir.get(f"Patient/{name}/$everything")))
    own.get(f"Patient/{name}-other/$everything", 404)
    few = fhir.other(scope="system/Patient.rs system/Observation.rs system/Organization.r")
    assert {each.split("/")[0] for each in ids(few.get(f"Patient/{name}/$everything"))} == {"Patient", "Observation", "Organization"}
    fhir.other(scope="system/Observation.rs").get(f"Patient/{name}/$everything", 403)
    other = fhir.other(scope="system/*.rs", user="somebody else")
    link = next(each["url"] for each in fhir.get(f"Patient/{name}/$everything?_count=2")["link"] if each["relation"] == "next")
    assert "page link" in issues(other.get(link, 400))
    assert "page link" in issues(fhir.get(link.replace("_count=2", "_count=3"), 400))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("_count=0", "_count is a whole number from 1, not '0'"),
        ("_count=x", "_count is a whole number"),
        ("_type=Nothing", "_type names no resource type: 'Nothing'"),
        ("_since=yesterday", "_since is no date such as 2020"),
        ("start=2020-13", "start is no date"),
        ("start=2021&end=2020", "start is the earlier date"),
        ("start=2020&start=2021", "'start' stands twice"),
        ("_sort=date", "'_sort' is not known here"),
        ("_cursor=abc", "page link"),
    ],
)
def test_what_is_not_understood_is_refused(fhir: Fhir, record: Json, query: str, said: str) -> None:
    assert said in issues(fhir.get(f"Patient/{record['name']}/$everything?{query}", 400))


def test_whose_everything_there_is_not(fhir: Fhir, record: Json) -> None:
    name = record["name"]
    fhir.get("Patient/nobody/$everything", 404)
    assert "name one" in issues(fhir.get("Patient/$everything", 400))
    assert "start" not in issues(fhir.get(f"Encounter/{name}-enc/$everything?start=2020", 400)).partition("here;")[2]
    fhir.get("Encounter/$everything", 404)
    fhir.get("Practitioner/x/$everything", 404)
    fhir("DELETE", f"Patient/{name}-other")
    fhir.get(f"Patient/{name}-other/$everything", 410)
    fhir.post(f"Patient/{name}/$everything", patient(), 400)


def test_statements_do_not_grow_with_the_record(fhir: Fhir, statements: Count) -> None:
    def make(size: int) -> str:
        name = unique("many")
        resources: list[Any] = [patient(id=name)]
        resources += (
            observation(id=f"{name}-{n}", subject={"reference": f"Patient/{name}"}, performer=[{"reference": f"Practitioner/{name}-{n}"}])
            for n in range(size)
        )
        resources += ({"resourceType": "Practitioner", "id": f"{name}-{n}"} for n in range(size))
        fhir.bundle("transaction", *(entry("PUT", f"{each['resourceType']}/{each['id']}", each) for each in resources))
        return name

    for size in (2, 60):
        name = make(size)
        found: list[Json] = []
        # Beside BEGIN, isolation level and COMMIT: the patient, the compartment, what is outside.
        assert statements(lambda name=name, found=found: found.append(fhir.get(f"Patient/{name}/$everything"))) == 2 + 3  # type: ignore[misc]
        assert len(found[0]["entry"]) == 2 * size + 1
