"""Observation/$stats. https://hl7.org/fhir/R4/observation-operation-stats.html"""

from __future__ import annotations

import statistics as oracle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.operations.measures import DISPLAYS, measure, regression
from tests.interactions.conftest import Fhir, Json, entry, issues, patient, unique

Count = Callable[[Callable[[], object]], int]
UCUM = "http://unitsofmeasure.org"
STATISTICS = "http://terminology.hl7.org/CodeSystem/observation-statistics"


def quantity(value: float, code: str = "mm[Hg]", **fields: Any) -> Json:
    return {"value": value, "unit": code, "system": UCUM, "code": code, **fields}


def concept(code: str) -> Json:
    return {"coding": [{"system": "urn:codes", "code": code}]}


def measured(name: str, code: str, at: str, **fields: Any) -> Json:
    made = {"resourceType": "Observation", "status": "final", "code": concept(code), "subject": {"reference": f"Patient/{name}"}}
    return made | {"effectiveDateTime": at} | fields


def put(fhir: Fhir, *resources: Json) -> None:
    fhir.bundle("transaction", *(entry("POST", each["resourceType"], each) for each in resources))


def ask(fhir: Fhir, name: str, query: str, code: str = "bp") -> list[Json]:
    """The Observations that state statistics, checked to be valid."""
    answer = fhir.get(f"Observation/$stats?subject=Patient/{name}&system=urn:codes&code={code}&{query}")
    assert answer["resourceType"] == "Parameters"
    found = [each["resource"] for each in answer["parameter"] if each["name"] == "statistics"]
    for each in found:
        told = fhir.post("Observation/$validate", each, 200)
        assert [issue for issue in told["issue"] if issue["severity"] in {"error", "fatal"}] == []
        assert each["subject"] == {"reference": f"Patient/{name}"}
    return found


def values(stated: Json) -> dict[str, Any]:
    """Value and unit by statistic, None where there is none."""
    told = {}
    for part in stated["component"]:
        (coding,) = part["code"]["coding"]
        assert (coding["system"], coding["display"]) == (STATISTICS, DISPLAYS[coding["code"]])
        key = part["code"].get("text", coding["code"])
        told[key] = (part["valueQuantity"]["value"], part["valueQuantity"]["code"]) if "valueQuantity" in part else None
    return told


@pytest.fixture
def name(fhir: Fhir) -> str:
    """A patient with four blood pressures, one each day."""
    name = unique("s")
    pressures = enumerate((110, 120, 130, 160), 1)
    put(fhir, patient(id=name), *(measured(name, "bp", f"2020-01-0{day}T08:00:00Z", valueQuantity=quantity(value)) for day, value in pressures))
    return name


def test_every_statistic(fhir: Fhir, name: str) -> None:
    (stated,) = ask(fhir, name, f"statistic={','.join(DISPLAYS)}")
    assert stated["code"] == concept("bp")
    unit = "mm[Hg]"
    found = values(stated)
    assert {key: found[key] for key in ("average", "maximum", "minimum", "sum", "median")} == {
        "average": (130, unit),
        "maximum": (160, unit),
        "minimum": (110, unit),
        "sum": (520, unit),
        "median": (125, unit),
    }
    assert found["count"] == found["total-count"] == (4, "1")
    assert found["variance"] == (pytest.approx(1400 / 3), f"({unit}).({unit})")
    assert found["std-dev"] == (pytest.approx((1400 / 3) ** 0.5), unit)
    assert [found[key][0] for key in ("20-percent", "80-percent", "4-lower", "4-upper", "4-dev")] == [116, 142, 117.5, 137.5, 10]
    assert [found[f"5-{number}"][0] for number in (1, 2, 3, 4)] == [116, 122, 128, 142]
    assert found["gradient"] == (pytest.approx(16 / 24), f"{unit}/h")
    assert found["intercept"] == (pytest.approx(106), unit)
    assert found["skew"][0] > 0
    assert found["kurtosis"][1] == "1"


def test_units_are_made_the_same(fhir: Fhir) -> None:
    name = unique("s")
    weights = [quantity(70, "kg"), quantity(71, "kg"), quantity(72000, "g"), quantity(37, "Cel"), quantity(73, "kg", comparator="<")]
    put(fhir, patient(id=name), *(measured(name, "w", "2020", valueQuantity=each) for each in weights))
    put(fhir, measured(name, "w", "2020", valueQuantity={"value": 74, "unit": "kg"}), measured(name, "w", "2020", valueString="heavy"))
    (stated,) = ask(fhir, name, "statistic=average&statistic=max&statistic=count&statistic=total-count", "w")
    assert values(stated) == {"average": (71, "kg"), "maximum": (72, "kg"), "count": (3, "1"), "total-count": (7, "1")}
    temperatures = [quantity(37, "Cel"), quantity(38, "Cel"), quantity(102.2, "[degF]")]
    put(fhir, *(measured(name, "t", "2020", valueQuantity=each) for each in temperatures))
    (stated,) = ask(fhir, name, "statistic=average,min", "t")
    assert values(stated) == {"average": (38, "Cel"), "minimum": (37, "Cel")}


def test_what_does_not_count(fhir: Fhir, name: str) -> None:
    put(
        fhir,
        measured(name, "bp", "2020", valueQuantity=quantity(1), status="entered-in-error"),
        measured(name, "bp", "2020", valueQuantity=quantity(1), modifierExtension=[{"url": "urn:not", "valueBoolean": True}]),
        measured(name, "other", "2020", valueQuantity=quantity(1)),
        measured("nobody", "bp", "2020", valueQuantity=quantity(1)),
    )
    (stated,) = ask(fhir, name, "statistic=minimum,total-count")
    assert values(stated) == {"minimum": (110, "mm[Hg]"), "total-count": (4, "1")}


def test_a_period_and_a_duration(fhir: Fhir, name: str) -> None:
    period = {"start": "2020-01-02", "end": "2020-01-03"}
    given = {"subject": ("Uri", f"Patient/{name}"), "coding": ("Coding", concept("bp")["coding"][0]), "period": ("Period", period)}
    body: Json = {"resourceType": "Parameters", "parameter": [{"name": key, f"value{kind}": value} for key, (kind, value) in given.items()]}
    body["parameter"] += [{"name": "statistic", "valueCode": code} for code in ("count", "average")]
    body["parameter"] += [{"name": "include", "valueBoolean": True}, {"name": "limit", "valuePositiveInt": 1}]
    answer = fhir.post("Observation/$stats", body, 200)
    stated, source = (part["resource"] for part in answer["parameter"])
    assert stated["effectivePeriod"] == period
    assert values(stated) == {"count": (2, "1"), "average": (125, "mm[Hg]")}
    assert source["effectiveDateTime"] == "2020-01-03T08:00:00Z"
    recent = (datetime.now(UTC) - timedelta(minutes=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    put(fhir, measured(name, "bp", recent, valueQuantity=quantity(200)))
    assert values(ask(fhir, name, "statistic=count&duration=2")[0]) == {"count": (1, "1")}
    (none,) = ask(fhir, name, "statistic=count,average&duration=0.5")
    assert values(none) == {"count": (0, "1"), "average": None}
    assert none["effectivePeriod"].keys() == {"start", "end"}


def test_panels_state_their_parts(fhir: Fhir) -> None:
    name = unique("s")
    for systolic, diastolic in ((120, 80), (140, 90)):
        parts = [{"code": concept(code), "valueQuantity": quantity(value)} for code, value in (("sys", systolic), ("dia", diastolic))]
        put(fhir, measured(name, "panel", "2020", component=parts))
    found = ask(fhir, name, "statistic=average,count", "panel")
    assert {each["code"]["coding"][0]["code"]: values(each)["average"][0] for each in found} == {"sys": 130, "dia": 85}
    assert values(ask(fhir, name, "statistic=maximum", "sys")[0]) == {"maximum": (140, "mm[Hg]")}
    assert len(ask(fhir, name, "statistic=maximum", "sys,dia")) == 2
    counting: tuple[Json, ...] = ({}, {"status": "entered-in-error"}, {"modifierExtension": [{"url": "urn:not", "valueBoolean": True}]})
    members = [fhir.post("Observation", measured(name, "pulse", "2020", valueQuantity=quantity(60, "/min"), **fields)) for fields in counting]
    links = [*({"reference": f"Observation/{each['id']}"} for each in members), {"reference": "Observation/gone"}, {"display": "x"}]
    put(fhir, *(measured(name, "group", "2020", hasMember=links) for _ in range(2)))
    (stated,) = ask(fhir, name, "statistic=count,average", "group")
    assert stated["code"] == concept("pulse")
    assert values(stated) == {"count": (1, "1"), "average": (60, "/min")}
    assert values(ask(fhir, name, "statistic=count", "group,pulse")[-1]) == {"count": (1, "1")}


def test_the_grant_bounds_it(fhir: Fhir, name: str) -> None:
    assert values(ask(fhir.other(scope="patient/*.rs", patient=name), name, "statistic=count")[0]) == {"count": (4, "1")}
    assert values(ask(fhir.other(scope="patient/*.rs", patient="nobody"), name, "statistic=count")[0]) == {"count": (0, "1")}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("code=a&system=s&statistic=count", "$stats needs subject"),
        ("subject=x&code=a&system=s&statistic=count", "subject is one reference such as Patient/123, not 'x'"),
        ("subject=Patient/1&statistic=count", "$stats needs code and system"),
        ("subject=Patient/1&code=a&statistic=count", "code needs its system"),
        ("subject=Patient/1&coding=a&statistic=count", "coding as [system]|[code]"),
        ("subject=Patient/1&code=a&system=s", "$stats needs a statistic: average"),
        ("subject=Patient/1&code=a&system=s&statistic=mode", "statistic is one of average, maximum"),
        ("subject=Patient/1&code=a&system=s&statistic=count&duration=0", "duration is a number of hours above 0"),
        ("subject=Patient/1&code=a&system=s&statistic=count&duration=x", "'duration' is a number such as 1.5"),
        ("subject=Patient/1&code=a&system=s&statistic=count&limit=0", "limit is a whole number from 1"),
        ("subject=Patient/1&code=a&system=s&statistic=count&include=yes", "'include' is true or false"),
        ("subject=Patient/1&code=a&system=s&statistic=count&period=2020", "'period' has elements"),
        ("subject=Patient/1&code=a&system=s&statistic=count&params=count", "'params' is not supported here"),
    ],
)
def test_what_is_not_understood_is_refused(fhir: Fhir, query: str, said: str) -> None:
    assert said in issues(fhir.get(f"Observation/$stats?{query}", 400))


def test_statements_do_not_grow_with_the_observations(fhir: Fhir, name: str, statements: Count) -> None:
    path = f"Observation/$stats?subject=Patient/{name}&system=urn:codes&code=bp&statistic=average"
    assert statements(lambda: fhir.get(path)) == 2 + 1
    put(fhir, *(measured(name, "bp", f"20{n:02}", valueQuantity=quantity(100 + n)) for n in range(1, 60)))
    assert statements(lambda: fhir.get(path)) == 2 + 1


@given(st.lists(st.decimals(-1000, 1000, places=3), min_size=2, max_size=40))
def test_the_arithmetic_is_that_of_the_library(found: list[Decimal]) -> None:
    expected: dict[str, Any] = {"average": oracle.fmean(found), "median": oracle.median(found), "variance": oracle.variance(map(float, found))}
    quartiles = oracle.quantiles(map(float, found), n=4, method="inclusive")
    quintiles = oracle.quantiles(map(float, found), n=5, method="inclusive")
    expected |= {"4-lower": quartiles[0], "4-upper": quartiles[2], "5-2": quintiles[1], "80-percent": quintiles[3]}
    for code, value in expected.items():
        told = measure(code, found)
        assert told is not None
        assert float(told) == pytest.approx(float(value), rel=1e-9, abs=1e-9), code
    points = [(Decimal(place), value) for place, value in enumerate(found)]
    line = regression(points)
    straight = oracle.linear_regression([float(x) for x, _ in points], [float(y) for _, y in points])
    assert line is not None
    assert float(line.gradient) == pytest.approx(straight.slope, rel=1e-9, abs=1e-9)
    assert float(line.intercept) == pytest.approx(straight.intercept, rel=1e-9, abs=1e-9)


def test_too_few_values_have_no_statistics() -> None:
    assert measure("average", []) is None
    assert measure("std-dev", [Decimal(1)]) is None
    assert measure("skew", [Decimal(2), Decimal(2)]) is None
    assert regression([(Decimal(1), Decimal(1)), (Decimal(1), Decimal(2))]) is None
