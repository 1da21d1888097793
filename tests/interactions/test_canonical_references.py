"""References by canonical URL are followed like any others: in chains, in reverse, and by includes.

https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fhir_server.search import narrow
from tests.interactions.conftest import Fhir, Json, unique


@dataclass(frozen=True)
class Forms:
    """Two versions of a questionnaire and another one; answers to each, to any version of the first, and to one that nobody has."""

    url: str
    ids: dict[str, str]

    def names(self, ids: list[str]) -> set[str]:
        known = {identity: name for name, identity in self.ids.items()}
        assert len(ids) == len(set(ids))
        return {known[each] for each in ids}


@pytest.fixture(scope="module")
def forms(fhir: Fhir) -> Forms:
    url = f"http://forms.example.org/Questionnaire/{unique()}"

    def questionnaire(title: str, **fields: str) -> Json:
        return {"resourceType": "Questionnaire", "title": title, **fields}

    def answers(canonical: str) -> Json:
        return {"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": canonical}

    made = {
        "q1": questionnaire("Pain", url=url, version="1", status="active"),
        "q2": questionnaire("Pain and sleep", url=url, version="2", status="draft"),
        "other": questionnaire("Diet", url=f"{url}-x", status="active"),
        "r1": answers(f"{url}|1"),
        "r2": answers(f"{url}|2"),
        "any": answers(url),
        "diet": answers(f"{url}-x"),
        "nowhere": answers(f"{url}-nobody"),
    }
    return Forms(url, {name: fhir.post(body["resourceType"], body)["id"] for name, body in made.items()})


@pytest.mark.parametrize("few", [0, 1_000])
def test_chains_lead_along_urls(fhir: Fhir, forms: Forms, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "FEW", few)
    listed = f"_id={','.join(forms.ids.values())}"
    for asked, found in (
        ("questionnaire.title=diet", {"diet"}),
        ("questionnaire:Questionnaire.title=diet", {"diet"}),
        # A chain goes to any version: which one a reference without version means is not said.
        ("questionnaire.title=pain", {"r1", "r2", "any"}),
        ("questionnaire.status=draft", {"r1", "r2", "any"}),
        (f"questionnaire._id={forms.ids['other']}", {"diet"}),
        (f"questionnaire.url={forms.url}-nobody", set()),
        ("questionnaire.title=pain&questionnaire.status=retired", set()),
    ):
        assert forms.names(fhir.ids(f"QuestionnaireResponse?{listed}&{asked}&_count=2")) == found, asked
        assert fhir.get(f"QuestionnaireResponse?{listed}&{asked}&_summary=count")["total"] == len(found)
    reverse = "_has:QuestionnaireResponse:questionnaire:status=completed"
    assert forms.names(fhir.ids(f"Questionnaire?{listed}&{reverse}&_count=1")) == {"q1", "q2", "other"}
    assert fhir.ids(f"Questionnaire?{listed}&_has:QuestionnaireResponse:questionnaire:_id={forms.ids['diet']}") == [forms.ids["other"]]
    assert fhir.ids(f"Questionnaire?{listed}&_has:QuestionnaireResponse:questionnaire:status=amended") == []


def included(fhir: Fhir, forms: Forms, query: str) -> set[str]:
    return forms.names([each["resource"]["id"] for each in fhir.get(query)["entry"] if each["search"]["mode"] == "include"])


def test_includes_bring_the_version_that_is_named(fhir: Fhir, forms: Forms) -> None:
    def brought(name: str, include: str = "QuestionnaireResponse:questionnaire") -> set[str]:
        return included(fhir, forms, f"QuestionnaireResponse?_id={forms.ids[name]}&_include={include}")

    assert brought("r1") == {"q1"}
    assert brought("r2") == {"q2"}
    assert brought("any") == {"q1"}  # The active one goes before the draft that is newer.
    assert brought("diet", "*") == {"other"}
    assert brought("diet", "QuestionnaireResponse:questionnaire:Questionnaire") == {"other"}
    assert brought("diet", "QuestionnaireResponse:questionnaire:Patient") == set()
    assert brought("nowhere") == set()


def test_reverse_includes_bring_what_names_the_url(fhir: Fhir, forms: Forms) -> None:
    def brought(name: str, include: str = "QuestionnaireResponse:questionnaire") -> set[str]:
        return included(fhir, forms, f"Questionnaire?_id={forms.ids[name]}&_revinclude={include}")

    assert brought("other") == brought("other", "*") == {"diet"}
    assert brought("q1") == {"r1", "r2", "any"}


def test_what_the_token_does_not_open_is_not_reached_by_url_either(fhir: Fhir, forms: Forms) -> None:
    narrow_token = fhir.other(scope="system/QuestionnaireResponse.rs")
    query = f"QuestionnaireResponse?_id={forms.ids['diet']}"
    assert narrow_token.ids(f"{query}&questionnaire.title=diet") == []
    assert len(narrow_token.get(f"{query}&_include=QuestionnaireResponse:questionnaire")["entry"]) == 1
    other_way = fhir.other(scope="system/Questionnaire.rs")
    reverse = f"Questionnaire?_id={forms.ids['other']}"
    assert other_way.ids(f"{reverse}&_has:QuestionnaireResponse:questionnaire:status=completed") == []
    assert len(other_way.get(f"{reverse}&_revinclude=QuestionnaireResponse:questionnaire")["entry"]) == 1
