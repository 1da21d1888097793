"""Orders: what their control codes and states mean to the one who is asked, when and why they are wanted, and what is not taken.

https://build.fhir.org/ig/HL7/v2-to-fhir/ConceptMap-message-orm-o01-to-bundle.html
"""

from __future__ import annotations

import pytest

from fhir_server.hl7v2.mapping import Converter

from .samples import Json, convert, of_type, only, target

OBR = "OBR|1|||GLU^Glucose^L"
EVENTS = ("ORM^O01", "OML^O21^OML_O21")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    ("control", "state", "status"),
    [
        ("NW", "", "active"),
        ("CA", "", "revoked"),
        ("DC", "", "revoked"),
        ("XO", "", "active"),
        ("HD", "", "on-hold"),
        ("RL", "", "active"),
        ("SC", "CM", "completed"),
        ("SC", "IP", "active"),
        ("SC", "HD", "on-hold"),
        ("SC", "ER", "entered-in-error"),
        ("NW", "SC", "active"),
        ("CA", "IP", "revoked"),
        ("NW", "NW", "active"),
        ("RP", "", "revoked"),
        ("RO", "", "active"),
    ],
)
def test_what_control_and_state_say_of_an_order(converter: Converter, event: str, control: str, state: str, status: str) -> None:
    order = only(convert(converter, event, f"ORC|{control}|P1^OE|||{state}", OBR), "ServiceRequest")
    assert (order["status"], order["intent"]) == (status, "order")
    assert order["identifier"][0]["value"] == "P1"


@pytest.mark.parametrize("event", EVENTS)
def test_an_order_says_what_when_why_and_for_whom(converter: Converter, event: str) -> None:
    converted = convert(
        converter,
        event,
        "ORC|NW|P1^OE||G1^OE|||||20260102080000+0100|||77^Doe^Jo",
        "TQ1|1||||||20260103080000+0100||S",
        "OBR|1|P1^OE||GLU^Glucose^L|||||||||fasting||||||||||||||||||R73^High sugar^I10",
        "NTE|1||Handle",
        "NTE|2||with care",
        "DG1|1||E11^Diabetes^I10|Type 2||A",
        "OBX|1|CWE|82810-3^Pregnant^LN||N^No^HL70136||||||O",
        "NTE|1||she says",
        "SPM|1|S1||BLD",
        "ORC|NW|P2^OE",
        "OBR|2|P2^OE||NA^Sodium^L",
    )
    first, second = of_type(converted, "ServiceRequest")
    assert (first["priority"], first["occurrenceDateTime"]) == ("stat", "2026-01-03T08:00:00+01:00")
    assert first["authoredOn"] == "2026-01-02T08:00:00+01:00"
    assert first["requisition"]["value"] == "G1"
    assert target(converted, first["requester"])["name"][0]["family"] == "Doe"
    assert [note["text"] for note in first["note"]] == ["fasting", "Handle\nwith care"]
    reason = target(converted, first["reasonReference"][0])
    assert (reason["code"]["text"], reason["clinicalStatus"]["coding"][0]["code"]) == ("Type 2", "active")
    answer = target(converted, first["supportingInfo"][0])
    assert answer["note"] == [{"text": "she says"}]
    assert target(converted, first["specimen"][0])["identifier"][0]["value"] == "S1"
    assert second["code"]["text"] == "Sodium"
    assert not {"note", "reasonReference", "supportingInfo", "specimen", "priority"} & set(second)
    assert not converted.unhandled


@pytest.mark.parametrize(
    ("orc", "obr", "made"),
    [
        (
            "ORC|NW|P1|||||^^^202601030800^202601040800^S",
            OBR,
            {"occurrencePeriod": {"start": "2026-01-03T08:00:00+01:00", "end": "2026-01-04T08:00:00+01:00"}, "priority": "stat"},
        ),
        ("ORC|NW|P1|||||^^^202601030800^^R", OBR, {"occurrenceDateTime": "2026-01-03T08:00:00+01:00", "priority": "routine"}),
        ("ORC|NW|P1", "OBR|1|||GLU^Glucose^L|A|20260103", {"occurrenceDateTime": "2026-01-03", "priority": "asap"}),
        (
            "ORC|NW|P1",
            f"OBR|1|||GLU^Glucose^L{'|' * 23}^^^20260103^20260104^S",
            {"occurrencePeriod": {"start": "2026-01-03", "end": "2026-01-04"}, "priority": "stat"},
        ),
        (
            "ORC|NW|P1|||||^^^20260103^20260104^S",
            "OBR|1|||GLU^Glucose^L|R|20260109",
            {"occurrencePeriod": {"start": "2026-01-03", "end": "2026-01-04"}, "priority": "stat"},
        ),
    ],
)
def test_when_an_order_is_wanted_stands_in_one_place_of_three(converter: Converter, orc: str, obr: str, made: Json) -> None:
    order = only(convert(converter, "ORM^O01", orc, obr, version="2.3"), "ServiceRequest")
    assert {name: value for name, value in order.items() if name.startswith("occurrence") or name == "priority"} == made


@pytest.mark.parametrize("segment", ["RXO|DRUG^Aspirin^L", "ODS|D||D1^Diet^L", "RQD|1|X^Gloves^L", "RQ1|1", "ODT|EARLY"])
def test_an_order_of_something_else_is_refused(converter: Converter, segment: str) -> None:
    converted = convert(converter, "ORM^O01", "ORC|NW|P1", segment, version="2.3")
    assert [(fault.code, fault.severity, fault.segment) for fault in converted.faults] == [("200", "E", segment[:3])]
    assert not of_type(converted, "ServiceRequest")


def test_what_stands_too_late_takes_nothing_away_from_what_follows(converter: Converter) -> None:
    """Some senders have the timing behind the order; diagnoses and results after it are still the order's."""
    late = ("NTE|1||soon", "TQ1|1||||||20260109|20260110|S^Stat", "DG1|1||J20^Bronchitis^I10", "OBX|1|NM|8339-4^Weight^LN||60|kg|||||F")
    converted = convert(converter, "OML^O21^OML_O21", "ORC|NW|P1", OBR, *late)
    order = only(converted, "ServiceRequest")
    assert (order["priority"], order["note"]) == ("stat", [{"text": "soon"}])
    assert target(converted, order["reasonReference"][0])["resourceType"] == "Condition"
    assert target(converted, order["supportingInfo"][0])["valueQuantity"]["value"] == 60
    assert converted.unhandled == []


def test_a_visit_that_stands_behind_its_order_is_still_that_of_the_patient(converter: Converter) -> None:
    converted = convert(
        converter, "ORM^O01", "ORC|NW|P1", "PV1|1|O" + "|" * 17 + "V1^^^HOSP", OBR, "DG1|1||J20^Bronchitis^I10", "ORC|NW|P2", OBR, version="2.3"
    )
    visit = only(converted, "Encounter")
    for order in of_type(converted, "ServiceRequest"):
        assert target(converted, order["encounter"]) is visit
    assert (converted.unhandled, converted.faults) == ([], [])


def test_results_from_before_are_no_orders(converter: Converter) -> None:
    converted = convert(converter, "OML^O21^OML_O21", "ORC|NW|P1", OBR, "ORC|PR|P0", "OBR|1|||NA^Sodium^L", "OBX|1|NM|1^A^L||140||||||F")
    assert only(converted, "ServiceRequest")["identifier"][0]["value"] == "P1"
    assert [segment.name for segment in converted.unhandled] == ["ORC", "OBR", "OBX"]


def test_what_is_of_no_use_for_an_order_is_reported(converter: Converter) -> None:
    converted = convert(converter, "OML^O21^OML_O21", "PD1|||A practice", "ORC|NW|P1", OBR, "BLG|D")
    assert [segment.name for segment in converted.unhandled] == ["PD1", "BLG"]
    assert only(converted, "ServiceRequest")["status"] == "active"


def test_a_reflex_order_names_the_one_it_comes_of(converter: Converter) -> None:
    converted = convert(converter, "OML^O21^OML_O21", "ORC|NW|P2", "OBR|1|P2||NA^Sodium^L|||||||G||||||||||||||||||P1&OE^F1&LAB")
    order = only(converted, "ServiceRequest")
    assert order["intent"] == "reflex-order"
    assert order["basedOn"] == [
        {"identifier": {"value": "P1", "system": "https://clinic-fhir.example.org/sid/authority/OE"}, "type": "ServiceRequest"}
    ]


def test_why_an_order_is_cancelled_is_kept(converter: Converter) -> None:
    order = only(convert(converter, "OML^O21^OML_O21", "ORC|CA|P1||||||||||||||DUP^Ordered twice^L", OBR), "ServiceRequest")
    assert order["extension"][0]["url"] == "http://hl7.org/fhir/StructureDefinition/request-statusReason"
    assert order["extension"][0]["valueCodeableConcept"]["text"] == "Ordered twice"
