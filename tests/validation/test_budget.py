"""What a check may cost: no real resource meets the bound, and what does is refused by the name of the rule and its place."""

from __future__ import annotations

import bz2
import os
from pathlib import Path
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.outcome import Outcome
from fhir_server.spec import r4
from fhir_server.validation import Validator
from fhir_server.validation.faults import MAX_FAULTS, MAX_HINTS, MAX_ISSUES, MAX_STEPS
from tests.validation.test_invariants import definition, observation, patient

VALIDATOR = Validator(r4())
DATA = os.environ.get("FHIR_TEST_DATA")


def refused(resource: Any, validator: Validator = VALIDATOR) -> Outcome:
    with pytest.raises(Outcome) as caught:
        validator.require(resource)
    return caught.value


def tight(left: int) -> Validator:
    """A validator with only so many steps."""
    validator = VALIDATOR.of_one_request()
    validator.budget().steps = left
    return validator


def steps(resource: Any) -> int:
    """How many the check of a valid resource takes."""
    validator = VALIDATOR.of_one_request()
    validator.require(resource)
    return MAX_STEPS - validator.budget().steps


def questions(count: int) -> dict[str, Any]:
    return {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": str(n), "type": "string"} for n in range(count)]}


def codings(count: int) -> list[dict[str, str]]:
    return [{"code": str(n)} for n in range(count)]


def test_an_expression_that_takes_too_many_steps_is_named_with_its_place() -> None:
    costly = observation(valueBoolean=True, code={"coding": codings(200_000)}, component=[{"code": {"coding": [{"code": "x"}]}}])
    outcome = refused({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient()}, {"resource": costly}]})
    (issue,) = outcome.issues
    assert (outcome.status, issue.severity, issue.code) == (422, "error", "too-costly")
    assert issue.diagnostics.startswith("obs-7 cannot be decided: the evaluation takes too many steps: value.empty() or component.code.where(")
    assert issue.expression == ("Bundle.entry[1].resource",)


def test_regular_expressions_are_counted() -> None:
    resource = definition([{"type": [{"code": "a" * 500_000}]}, {"type": [{"code": "b" * 500_000}]}])
    outcome = refused({**resource, "url": "http://hl7.org/fhir/StructureDefinition/X"})
    assert [(issue.code, issue.diagnostics[:25]) for issue in outcome.issues if issue.code == "too-costly"] == [
        ("too-costly", "sdf-19 cannot be decided:")
    ]


def test_many_elements_with_rules_are_too_costly_together() -> None:
    VALIDATOR.require(questions(1_000))
    outcome = refused(questions(1_000), tight(10_000))
    (issue,) = outcome.issues
    assert issue.code == "too-costly"
    assert issue.diagnostics.startswith("que-1 cannot be decided: there are too many elements before this one: (type='group'")
    assert issue.expression[0].startswith("Questionnaire.item[")


def test_nothing_is_looked_at_beyond_the_budget() -> None:
    resource = questions(1_000)
    resource["item"].append({"linkId": 1})
    assert "too-costly" not in {issue.code for issue in refused(resource).issues}
    assert [issue.code for issue in refused(resource, tight(10_000)).issues] == ["too-costly"]


def test_the_bound_itself_is_met() -> None:
    assert refused(questions(400_000)).category == "too-costly"


def test_tags_of_narratives_are_counted() -> None:
    text = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x' + "<b/>" * 10_000 + "</div>"}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient(text=text)}] * 5}
    assert 50_000 < steps(bundle) < 51_000
    (issue,) = refused(bundle, tight(25_000)).issues
    assert (issue.code, issue.expression) == ("too-costly", ("Bundle.entry[2].resource",))


def test_an_element_of_a_narrative_with_thousands_of_attributes_is_not_even_parsed() -> None:
    crowd = " ".join(f'a{n}=""' for n in range(100_000))
    (issue,) = refused(patient(text={"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml" {crowd}>x</div>'})).issues
    assert (issue.code, issue.expression) == ("too-long", ("Patient.text.div",))


def test_the_budget_is_shared_by_the_resources_of_one_request() -> None:
    resource = questions(1_000)
    validator = tight(steps(resource) * 3 // 2)
    validator.require(resource)
    assert refused(resource, validator).category == "too-costly"
    assert [issue.code for issue in validator.check(patient())] == ["too-costly"]
    VALIDATOR.require(resource)


def test_many_faulty_resources_of_one_request_are_told_of_briefly() -> None:
    validator, faulty = VALIDATOR.of_one_request(), patient(identifier=[{"valu": "1"}] * 150)
    counts = [len(refused(faulty, validator).issues) for _ in range(MAX_ISSUES // MAX_FAULTS + 3)]
    assert counts == [MAX_FAULTS] * (MAX_ISSUES // MAX_FAULTS) + [1, 1, 1]
    assert len(refused(faulty).issues) == MAX_FAULTS


def test_suggestions_end() -> None:
    validator, faulty = VALIDATOR.of_one_request(), patient(nam=[], gender="mal")
    texts = [issue.diagnostics for _ in range(MAX_HINTS + 1) for issue in validator.check(faulty) if "nam" in issue.diagnostics]
    assert [text.endswith("did you mean 'name'?") for text in texts] == [True] * MAX_HINTS + [False]
    refusal = refused({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Patien"}}]})
    assert refusal.issues[0].diagnostics.endswith("did you mean 'Patient'?")


def test_faults_are_counted() -> None:
    validator, faulty = tight(10_000), patient(identifier=[{"value": 1}] * 150)
    categories = [refused(faulty, validator).category for _ in range(100)]
    assert categories[0] == "invalid"
    assert categories[-1] == "too-costly"


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(definition([{"min": 0, "max": "1", "type": [{"code": "string"}, {"code": "code"}]}] * 10_000), id="10,000 elements"),
        pytest.param(questions(100_000), id="100,000 questions"),
        pytest.param({"resourceType": "CodeSystem", "status": "draft", "content": "complete", "concept": codings(500_000)}, id="500,000 concepts"),
        pytest.param(patient(identifier=[{"system": "http://x.org", "value": str(n)} for n in range(300_000)]), id="300,000 identifiers"),
        pytest.param(
            observation(valueBoolean=True, code={"coding": codings(3_000)}, component=[{"code": {"coding": [{"code": "x"}]}}] * 3_000),
            id="codes compared with codes",
        ),
        pytest.param(
            {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [
                    {"resource": observation(valueQuantity={"value": 1}, effectivePeriod={"start": "2020-01-01", "end": "2020-01-02T10:00:00Z"})}
                    for _ in range(20_000)
                ],
            },
            id="20,000 entries",
        ),
    ],
)
def test_large_resources_pass_with_room_to_spare(resource: Any) -> None:
    assert steps(resource) < MAX_STEPS // 2


@pytest.mark.parametrize("count", [100, 1_000])
def test_steps_grow_with_the_size(count: int) -> None:
    for make in (
        lambda n: definition([{"min": 0, "max": "1", "type": [{"code": "string"}, {"code": "code"}]}] * n),
        questions,
        lambda n: observation(valueBoolean=True, code={"coding": codings(n)}, component=[{"code": {"coding": [{"code": "x"}]}}] * n),
    ):
        assert steps(make(2 * count)) < 2.1 * steps(make(count))


def test_synthetic_patients_take_a_thousandth_of_it() -> None:
    folder = Path(DATA, "synthea") if DATA else None
    for path in sorted(folder.glob("*.json.bz2"))[2:4] if folder else []:
        for entry in fhirjson.loads(bz2.decompress(path.read_bytes()))["entry"]:
            assert steps(entry["resource"]) < MAX_STEPS // 1_000
