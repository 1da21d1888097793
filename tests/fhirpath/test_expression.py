from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.fhirpath import FhirPathError, Node, Quantity, Temporal, locate
from fhir_server.fhirpath import compile as compile_
from fhir_server.spec import r4

PATIENT: Any = fhirjson.loads(
    b"""{"resourceType": "Patient", "id": "p", "active": true, "birthDate": "1980-02-29",
      "_birthDate": {"extension": [{"url": "http://example.org/time", "valueDateTime": "1980-02-29T10:30:00+01:00"}]},
      "_gender": {"extension": [{"url": "http://example.org/unknown", "valueCode": "asked"}]},
      "multipleBirthInteger": 2,
      "name": [{"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
               {"use": "usual", "given": [null, "Jim"], "_given": [{"id": "g0"}, {"id": "g1"}]}],
      "contained": [{"resourceType": "Practitioner", "id": "doc", "name": [{"family": "House"}]}],
      "generalPractitioner": [{"reference": "#doc"}, {"reference": "Practitioner/7"}, {"reference": "https://x.org/fhir/Organization/8/_history/2"},
                              {"type": "PractitionerRole", "identifier": {"value": "1"}}],
      "extension": [{"url": "http://example.org/size",
                     "valueQuantity": {"value": 1.80, "unit": "metre", "system": "http://unitsofmeasure.org", "code": "m"}},
                    {"url": "http://example.org/n", "valueDecimal": 1.10}]}"""
)


def evaluate(text: str, focus: Any = PATIENT, context: str = "Patient", **rest: Any) -> list[Any]:
    return compile_(text, r4(), context)(focus, **rest)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("name.given", ["Peter", "James", "Jim"]),
        ("name.given.count()", [4]),
        ("name[1].given.select(hasValue())", [False, True]),
        ("name[1].given[0].id", ["g0"]),
        ("Patient.name.family", ["Chalmers"]),
        ("Resource.id", ["p"]),
        ("Observation.name", []),
        ("birthDate.extension.value", ["1980-02-29T10:30:00+01:00"]),
        ("birthDate.extension('http://example.org/time').value.type().name", ["dateTime"]),
        ("gender.exists()", [True]),
        ("gender", []),
        ("gender.hasValue()", [False]),
        ("multipleBirth", [2]),
        ("multipleBirth is integer", [True]),
        ("multipleBirth is boolean", [False]),
        ("multipleBirthInteger", []),
        ("extension.value.ofType(Quantity).unit", ["metre"]),
        ("extension.value.as(decimal).toString()", ["1.10"]),
        ("extension.value.ofType(Quantity) = 180 'cm'", [True]),
        ("extension.value.ofType(Quantity) < 2 'm'", [True]),
        ("birthDate < @1980-03-01", [True]),
        ("birthDate + 1 year", [Temporal.literal("@1981-02-28")]),
        ("birthDate + 1 month", [Temporal.literal("@1980-03-29")]),
        ("contained.name.family", ["House"]),
        ("generalPractitioner.first().resolve().name.family", ["House"]),
        ("generalPractitioner.resolve().type().name", ["Practitioner", "Practitioner", "Organization", "PractitionerRole"]),
        ("generalPractitioner.where(resolve() is Organization).reference", ["https://x.org/fhir/Organization/8/_history/2"]),
        ("name.where(use = 'usual').exists()", [True]),
        ("name.all(given.exists())", [True]),
        ("name.exists(family = 'House')", [False]),
        ("name.select($index)", [0, 1]),
        ("%resource.id", ["p"]),
        ("%context.id = %rootResource.id", [True]),
        ("name.given.aggregate($total & $this, '')", ["PeterJamesJim"]),
        ("children().count()", [14]),
        ("1 / 3 ~ 0.33", [True]),
        ("10 mod 3 + 10 div 3", [4]),
        ("'abc'.substring(1, 1)", ["b"]),
        ("1 'g' = 1000 'mg'", [True]),
        ("1 'g' = 1 'm'", []),
        ("20 'Cel' = 68 '[degF]'", [True]),
        ("6 'mmol/L' > 100 'mg/dL'", []),
        ("1 year = 12 months", [True]),
        ("1 year ~ 1 'a'", [True]),
        ("(1 'm').toQuantity('cm')", [Quantity(Decimal(100), "cm")]),
        ("@2020-01-01T10:00:00Z = @2020-01-01T12:00:00+02:00", [True]),
        ("9223372036854775807 + 1", []),
        ("iif(active, 'yes', 1 / 0)", ["yes"]),
        ("active and gender.empty()", [False]),
        ("'2020-02-30'.convertsToDate()", [False]),
        ("text.exists() or active", [True]),
        ("'a,b'.split(',').join('-')", ["a-b"]),
        ("name.given.sort().last()", ["Peter"]),
        ("name.given.where($this.hasValue()).sort(-$this).first()", ["Peter"]),
        ("conformsTo('http://hl7.org/fhir/StructureDefinition/Patient')", [True]),
        (r"'\\ud800'.unescape('json')", []),
        (r"'\\ud83d\\ude00'.unescape('json')", ["\U0001f600"]),
        ("name.given.matches('x')", FhirPathError),
        ("active + 1", FhirPathError),
        ("name.single()", FhirPathError),
        ("%nothing", FhirPathError),
        ("now()", FhirPathError),
        ("-name", FhirPathError),
        ("-'a'", FhirPathError),
        ("-birthDate", FhirPathError),
        ("'a' > 1", FhirPathError),
        ("name[active]", FhirPathError),
    ],
)
def test_result(text: str, result: Any) -> None:
    if result is FhirPathError:
        with pytest.raises(FhirPathError):
            evaluate(text)
    else:
        found = evaluate(text)
        assert found == result
        assert [type(one) for one in found] == [type(one) for one in result] or any(isinstance(one, Decimal) for one in found)


@pytest.mark.parametrize("text", ["f()", "exists(1, 2)", "where()", "a is Nothing", "name.ofType(string1)", "a.as(humanName)"])
def test_faults_of_meaning_are_found_when_compiling(text: str) -> None:
    with pytest.raises(FhirPathError):
        compile_(text, r4(), "Patient")


@pytest.mark.parametrize(
    "text",
    ["nmae", "name.first", "Observation.code", "birthDate.value", "contact.name.use.code", "name.where(nothing = 1)", "(multipleBirth as Quantity)"],
)
def test_strict_compilation_refuses_what_the_types_do_not_have(text: str) -> None:
    compile_(text, r4(), "Patient")
    with pytest.raises(FhirPathError):
        compile_(text, r4(), "Patient", strict=True)


def test_numbers_come_out_as_they_were_written() -> None:
    assert [str(found) for found in evaluate("extension.value.ofType(decimal)")] == ["1.10"]
    assert fhirjson.dumps(evaluate("extension.value.ofType(decimal)")) == b"[1.10]"


def test_the_clock_is_an_argument() -> None:
    now = datetime(2024, 2, 29, 23, 5, tzinfo=UTC)
    assert [str(value) for value in evaluate("now() | today() | timeOfDay()", now=now)] == [
        "2024-02-29T23:05:00.000+00:00",
        "2024-02-29",
        "23:05:00.000",
    ]
    assert evaluate("birthDate > today() - 45 years", now=now) == [True]


def test_variables_are_elements_and_values() -> None:
    variables = {"other": {"resourceType": "Practitioner", "id": "x", "name": [{"family": "F"}]}, "n": 3, "codes": ["a", "b"], "none": None}
    assert evaluate("%other.name.family", variables=variables) == ["F"]
    assert evaluate("%other is Practitioner", variables=variables) == [True]
    assert evaluate("%n + 1", variables=variables) == [4]
    assert evaluate("'b' in %codes and %none.empty()", variables=variables) == [True]


def test_a_resolver_answers_for_references() -> None:
    asked: list[str] = []

    def resolver(reference: str) -> Any:
        asked.append(reference)
        return {"resourceType": "Practitioner", "id": "7", "active": True} if reference == "Practitioner/7" else None

    assert evaluate("generalPractitioner.resolve().active", resolver=resolver) == [True]
    assert asked == ["Practitioner/7", "https://x.org/fhir/Organization/8/_history/2"]


def test_member_of_is_asked_with_the_value() -> None:
    answer = evaluate("name.first().use.memberOf('http://x.org/vs')", member_of=lambda value, url: (value, url) == ("official", "http://x.org/vs"))
    assert answer == [True]
    assert evaluate("name.first().use.memberOf('http://x.org/vs')") == []


def test_nodes_tell_type_and_place() -> None:
    (node,) = compile_("extension.value.ofType(Quantity)", r4(), "Patient").nodes(PATIENT)
    assert isinstance(node, Node)
    assert (node.type, node.path()) == ("Quantity", ("extension", 0, "valueQuantity"))


def test_contained_resources_know_their_container() -> None:
    contained = PATIENT["contained"][0]
    assert evaluate("%rootResource.id | %resource.id", contained, "Practitioner", root=PATIENT) == ["p", "doc"]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("Patient", [()]),
        ("Patient.name", [("name", 0), ("name", 1)]),
        ("Patient.name.where(use='official').given[0]", [("name", 0, "given", 0)]),
        ("Patient.name[1].given", [("name", 1, "given", 0), ("name", 1, "given", 1)]),
        ("Patient.birthDate", [("birthDate",)]),
        ("gender", [("gender",)]),
        ("Patient.multipleBirth", [("multipleBirthInteger",)]),
        ("Patient.extension('http://example.org/n').value", [("extension", 1, "valueDecimal")]),
        ("birthDate.extension.value", [("birthDate", "extension", 0, "valueDateTime")]),
        ("generalPractitioner.first().resolve().name", [("contained", 0, "name", 0)]),
        ("Patient.contact", []),
        ("name.given.last() | name.first()", [("name", 1, "given", 1), ("name", 0)]),
        ("descendants().where($this = 'Jim')", [("name", 1, "given", 1)]),
    ],
)
def test_locate(text: str, places: list[tuple[str | int, ...]]) -> None:
    assert locate(text, r4(), PATIENT) == places


@pytest.mark.parametrize("text", ["name.count()", "'x'", "name.given & 'x'", "generalPractitioner[1].resolve()", "name.given | 'x'"])
def test_locate_refuses_what_is_not_in_the_resource(text: str) -> None:
    with pytest.raises(FhirPathError):
        locate(text, r4(), PATIENT)


@pytest.mark.parametrize(
    ("text", "context", "focus", "holds"),
    [
        ("name.exists() or telecom.exists()", "Patient.contact", {"gender": "male"}, False),
        ("name.exists() or telecom.exists()", "Patient.contact", {"name": {"text": "x"}}, True),
        ("reference.startsWith('#').not()", "Reference", {"display": "x"}, True),
        ("reference.startsWith('#').not()", "Reference", {"reference": "#x"}, False),
        ("extension.exists() != value.exists()", "Extension", {"url": "x", "_valueString": {"id": "y"}}, True),
        ("start <= end", "Period", {"start": "2020-01-02", "end": "2020-01-01"}, False),
        ("start <= end", "Period", {"start": "2020-01-01T23:00:00-05:00", "end": "2020-01-02T01:00:00+00:00"}, False),
        ("start <= end", "Period", {"start": "2020", "end": "2020-01-01"}, True),
        ("%resource.type = 'batch'", "Bundle", {"resourceType": "Bundle", "type": "batch"}, True),
        ("$this = '*' or toInteger() >= 0", "string", "-1", False),
        ("$this = '*' or toInteger() >= 0", "string", "1", True),
    ],
)
def test_true(text: str, context: str, focus: Any, *, holds: bool) -> None:
    assert compile_(text, r4(), context).true(focus) is holds


@pytest.mark.parametrize("focus", [{"name": "x"}, {"name": [None]}, {"name": [{"given": 3}]}, {"name": {}}, [], "x", None, 3, {"resourceType": 5}])
@pytest.mark.parametrize(
    "text",
    [
        "name.given.exists()",
        "name.where(use = 'x').empty()",
        "name.all(given.startsWith('x'))",
        "descendants().count() > 3",
        "name.use in ('a' | 'b')",
    ],
)
def test_json_of_the_wrong_shape_gives_an_answer_or_a_fhirpath_error(text: str, focus: Any) -> None:
    try:
        answer = compile_(text, r4(), "Patient").true(focus)
    except FhirPathError as error:
        answer = "takes" not in error.message
    assert isinstance(answer, bool)


def test_compiled_expressions_are_shared() -> None:
    assert compile_("name.given", r4(), "Patient") is compile_("name.given", r4(), "Patient")
