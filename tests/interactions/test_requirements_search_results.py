"""What the specification demands of the result of a search: each named in conformance/requirements.csv.

https://hl7.org/fhir/R4/search.html#return
"""

from __future__ import annotations

from typing import Any

from tests.interactions.conftest import Fhir, entry, identified, made, observation, patient, self_query, unique


def test_contained_resources_are_not_found(fhir: Fhir) -> None:
    value = unique()
    inside = {"resourceType": "Patient", "id": "p", "identifier": [{"value": value}]}
    holder = made(fhir, observation(identifier=[{"value": value}], contained=[inside], subject={"reference": "#p"}))
    assert fhir.ids(f"Patient?identifier={value}") == []
    assert fhir.ids(f"Observation?identifier={value}") == [holder]


def test_every_page_has_its_own_includes_and_the_count_is_of_matches(fhir: Fhir) -> None:
    value, who = unique(), made(fhir, patient(text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">she</div>'}))
    for _ in range(5):
        made(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Patient/{who}"}))
    query = f"Observation?identifier={value}&_include=Observation:subject:Patient&_count=2&_total=accurate&_elements=status"
    pages = list(fhir.pages(query))
    assert [[each["search"]["mode"] for each in page["entry"]] for page in pages] == [["match", "match", "include"]] * 2 + [["match", "include"]]
    assert {page["total"] for page in pages} == {5}
    for page in pages:
        # What `_elements` names is of the matches; what is included is whole.
        assert "text" in page["entry"][-1]["resource"]
        assert page["entry"][0]["resource"].keys() == {"resourceType", "id", "meta", "status", "code"}
        assert self_query(page)["_count"] == ["2"]
    assert len(fhir.get(f"Observation?identifier={value}&_include=Observation:subject:Device")["entry"]) == 5


def test_the_self_link_says_how_it_was_sorted_and_counted(fhir: Fhir) -> None:
    value = unique()
    made(fhir, identified(value))
    for query in ("_sort=-birthdate,family", "_summary=count", "_summary=text", "_count=0", "_total=none", "gender:missing=true", "_elements=name"):
        name, _, asked = query.partition("=")
        assert self_query(fhir.get(f"Patient?identifier={value}&{query}")) == {"identifier": [value], name: [asked]}
    lenient = fhir.get(f"Patient?identifier={value}&_sort=nope", headers={"Prefer": "handling=lenient"})
    assert self_query(lenient) == {"identifier": [value]}


def test_an_outcome_among_the_results_is_no_error(fhir: Fhir) -> None:
    bundle = fhir.get(f"Patient?identifier={unique()}&nope=1&organization.nope=x", headers={"Prefer": "handling=lenient"})
    (told,) = bundle["entry"]
    assert (bundle["total"], told["search"]["mode"]) == (0, "outcome")
    assert {issue["severity"] for issue in told["resource"]["issue"]} <= {"warning", "information"}
    assert len(told["resource"]["issue"]) == 2


def test_sorting_is_without_case(fhir: Fhir) -> None:
    value = unique()
    ids = [made(fhir, identified(value, name=[{"family": family}])) for family in ("adam", "BERTA", "cäsar", "CAESAR")]
    assert fhir.ids(f"Patient?identifier={value}&_sort=family") == [ids[0], ids[1], ids[3], ids[2]]
    # Of several values the one that is first in the order counts.
    both = made(fhir, identified(value, name=[{"family": "aaron"}, {"family": "zora"}]))
    assert fhir.ids(f"Patient?identifier={value}&_sort=family")[0] == both
    assert fhir.ids(f"Patient?identifier={value}&_sort=-family")[0] == both


def test_searches_in_a_batch_answer_as_alone(fhir: Fhir) -> None:
    value = unique()
    identity = made(fhir, identified(value))
    answer: Any = fhir.bundle("batch", entry("GET", f"Patient?identifier={value}"), entry("GET", "Patient?nope=1"))
    assert [each["resource"]["id"] for each in answer["entry"][0]["resource"]["entry"]] == [identity]
    assert answer["entry"][1]["response"]["status"].startswith("400")
