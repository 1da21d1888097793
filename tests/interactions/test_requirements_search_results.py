"""What the specification demands of the result of a search: each named in conformance/requirements.csv.

https://hl7.org/fhir/R4/search.html#return
"""

from __future__ import annotations

from typing import Any

from tests.interactions.conftest import Fhir, entry, identified, issues, made, observation, patient, self_query, unique


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


def test_sorting_by_every_type_of_parameter_that_has_an_order(fhir: Fhir) -> None:
    value = unique()
    ids = [
        made(
            fhir,
            observation(
                identifier=[{"value": value}],
                status=status,
                subject={"reference": f"Patient/{letter}"},
                effectiveDateTime=f"202{n}",
                valueQuantity={"value": n},
                meta={"source": f"urn:{letter}"},
            ),
        )
        for n, (letter, status) in enumerate(zip("abc", ("amended", "final", "registered"), strict=True))
    ]
    lacking = made(fhir, {"resourceType": "Observation", "identifier": [{"value": value}], "status": "unknown", "code": {"text": "x"}})
    for code in ("subject", "date", "value-quantity", "_source"):
        assert fhir.ids(f"Observation?identifier={value}&_sort={code}&_count=1") == [*ids, lacking], code
        assert fhir.ids(f"Observation?identifier={value}&_sort=-{code}&_count=3") == [*reversed(ids), lacking], code
    assert fhir.ids(f"Observation?identifier={value}&_sort=status") == [*ids, lacking]
    risks = [
        made(
            fhir,
            {
                "resourceType": "RiskAssessment",
                "identifier": [{"value": value}],
                "status": "final",
                "subject": {"reference": "Patient/x"},
                "prediction": [{"probabilityDecimal": number}],
            },
        )
        for number in (0.5, 0.25)
    ]
    assert fhir.ids(f"RiskAssessment?identifier={value}&_sort=probability") == [risks[1], risks[0]]
    for code in ("code-value-quantity", "_content", "nothing"):
        assert "_sort" in issues(fhir.get(f"Observation?_sort={code}", 400))


def test_included_resources_are_followed_once_also_in_circles(fhir: Fhir) -> None:
    value = unique()
    first = made(fhir, {"resourceType": "Organization", "identifier": [{"value": value}], "name": "A"})
    second = made(fhir, {"resourceType": "Organization", "name": "B", "partOf": {"reference": f"Organization/{first}"}})
    fhir.put(
        f"Organization/{first}",
        {
            "resourceType": "Organization",
            "id": first,
            "identifier": [{"value": value}],
            "name": "A",
            "partOf": {"reference": f"Organization/{second}"},
        },
    )
    for query in ("_include:iterate=Organization:partof", "_revinclude:iterate=Organization:partof", "_include:iterate=*", "_revinclude:iterate=*"):
        found = [each["resource"]["id"] for each in fhir.get(f"Organization?identifier={value}&{query}")["entry"]]
        assert found == [first, second], query
    once = fhir.get(f"Organization?identifier={value}&_include=Organization:partof")["entry"]
    assert [(each["resource"]["id"], each["search"]["mode"]) for each in once] == [(first, "match"), (second, "include")]


def test_summary_text_with_includes_cuts_both(fhir: Fhir) -> None:
    value = unique()
    who = made(fhir, patient(gender="female"))
    made(fhir, observation(identifier=[{"value": value}], subject={"reference": f"Patient/{who}"}))
    _, beside = fhir.get(f"Observation?identifier={value}&_include=Observation:subject&_summary=text")["entry"]
    assert "gender" not in beside["resource"]
    assert beside["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_contained_resources_where_they_are_asked_for(fhir: Fhir) -> None:
    value = unique()
    inside = {"resourceType": "Patient", "id": "p", "identifier": [{"value": value}]}
    holder = made(fhir, observation(contained=[inside], subject={"reference": "#p"}))
    alone = made(fhir, identified(value))
    query = f"Patient?identifier={value}&_contained"
    assert fhir.ids(f"{query}=false") == [alone]
    assert fhir.ids(f"{query}=true") == fhir.ids(f"{query}=true&_containedType=container") == [holder]
    assert set(fhir.ids(f"{query}=both")) == {alone, holder}
    (found,) = fhir.get(f"{query}=true&_containedType=contained")["entry"]
    assert (found["resource"], found["search"]["mode"]) == (inside, "match")
    assert holder in found["fullUrl"]


def test_what_is_searchable_is_stated(fhir: Fhir) -> None:
    (rest,) = fhir.get("metadata")["rest"]
    by_type = {each["type"]: each for each in rest["resource"]}
    assert {each["name"] for each in rest["searchParam"]} >= {"_type", "_has", "_list", "_filter", "_contained", "_containedType"}
    stated = {each["name"]: each for each in by_type["QuestionnaireResponse"]["searchParam"]}
    assert stated["questionnaire"]["type"] == "reference"
    assert {"_id", "_lastUpdated", "_content", "_text"} <= stated.keys()
    assert "QuestionnaireResponse:questionnaire" in by_type["QuestionnaireResponse"]["searchInclude"]
    for code in stated:
        assert fhir("GET", f"QuestionnaireResponse?{code}:missing=false&_count=0").status_code == 200, code
