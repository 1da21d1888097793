"""Appointments: their status by event, their time from wherever a sender puts it, and who and what takes part.

https://build.fhir.org/ig/HL7/v2-to-fhir/ConceptMap-message-siu-s12-to-bundle.html
"""

from __future__ import annotations

import pytest

from fhir_server.hl7v2.mapping import KNOWN, Converter
from fhir_server.hl7v2.text.message import read

from .samples import PID, ZONE, convert, message, of_type, only, target

WHEN = "^^^202601050900^202601050930"


def sch(when: str = WHEN, status: str = "", reason: str = "FOLLOWUP^Follow-up^HL70276", length: str = "", unit: str = "") -> str:
    return f"SCH|P1|F1|||||{reason}|Normal^^HL70277|{length}|{unit}|{when}|{'|' * 13}{status}"


@pytest.mark.parametrize(
    ("event", "said", "status"),
    [
        ("S12", "", "booked"),
        ("S13", "", "booked"),
        ("S14", "", "booked"),
        ("S15", "", "cancelled"),
        ("S17", "", "cancelled"),
        ("S26", "", "noshow"),
        ("S12", "Pending", "pending"),
        ("S12", "BOOKED", "booked"),
        ("S14", "Complete", "fulfilled"),
        ("S14", "Started", "checked-in"),
        ("S15", "Booked", "cancelled"),
        ("S26", "Booked", "noshow"),
        ("S12", "Deleted", "cancelled"),
        ("S12", "Noshow", "noshow"),
        ("S12", "Waitlist", "waitlist"),
    ],
)
def test_the_event_says_the_status_where_the_filler_does_not(converter: Converter, event: str, said: str, status: str) -> None:
    assert only(convert(converter, f"SIU^{event}", sch(status=said)), "Appointment")["status"] == status


@pytest.mark.parametrize(
    ("first", "others", "end"),
    [
        (sch(), (), "09:30"),
        (sch("^^^202601050900", length="45", unit="min"), (), "09:45"),
        (sch("^^^202601050900", length="1", unit="h"), (), "10:00"),
        (sch("^^^202601050900", length="900", unit="s"), (), "09:15"),
        (sch("^^^202601050900", length="20"), (), "09:20"),
        (sch(""), ("RGS|1", "AIS|1|A|X^Visit^L|202601050900|||20|min"), "09:20"),
        (sch(""), ("RGS|1", "AIS|1|A|X^Visit^L|202601050900|||3600|SEC"), "10:00"),
        (sch("^^^202001010000^202101010000"), ("RGS|1",), ""),
    ],
)
def test_the_time_stands_where_a_sender_puts_it(converter: Converter, first: str, others: tuple[str, ...], end: str) -> None:
    found = only(convert(converter, "SIU^S12", first, *others), "Appointment")
    if end:
        assert (found["start"], found["end"]) == ("2026-01-05T09:00:00+01:00", f"2026-01-05T{end}:00+01:00")
    else:
        assert found["start"].startswith("2020-01-01")


def test_the_timing_segment_goes_before_the_field_that_was_withdrawn_for_it(converter: Converter) -> None:
    converted = convert(converter, "SIU^S12", sch("^^^202001010000^202101010000"), "RGS|1")
    assert only(converted, "Appointment")["end"].startswith("2021-01-01")
    raw = message("SIU^S12", sch("^^^202001010000^202101010000"), "TQ1|1||||||202601050900|202601050930", PID, version="2.8", patient="")
    (found,) = of_type(converter.convert(read(raw), ZONE), "Appointment")
    assert (found["start"], found["end"]) == ("2026-01-05T09:00:00+01:00", "2026-01-05T09:30:00+01:00")


def test_who_and_what_takes_part(converter: Converter) -> None:
    converted = convert(
        converter,
        "SIU^S12",
        sch(),
        "RGS|1",
        "AIS|1|A|X^Visit^L|202601050900|||30|min",
        "NTE|1||Bring papers",
        "AIG|1|A|E1^Scope^L|D^Device^L||||202601050900|||30|min||Booked",
        "AIL|1|A|W1^R2^^GH|C^Clinic^L||202601050900|||30|min||Booked",
        "AIP|1|A|77^Doe^Jo|D^Doctor^L||202601050900|||30|min||Cancelled",
        "AIP|2|A|78^Roe^Al|D^Doctor^L",
    )
    found = only(converted, "Appointment")
    actors = [(target(converted, each["actor"])["resourceType"], each["status"]) for each in found["participant"]]
    assert actors == [
        ("Patient", "accepted"),
        ("Device", "accepted"),
        ("Location", "accepted"),
        ("Practitioner", "declined"),
        ("Practitioner", "accepted"),
    ]
    assert found["participant"][2]["period"] == {"start": "2026-01-05T09:00:00+01:00", "end": "2026-01-05T09:30:00+01:00"}
    assert found["serviceType"][0]["text"] == "Visit"
    assert found["comment"] == "Bring papers"
    assert not [segment.name for segment in converted.unhandled if segment.name != "RGS"]


def test_whoever_wrote_it_down_takes_no_part_of_the_time(converter: Converter) -> None:
    first = f"SCH|P1|F1|||||||||{WHEN}|1^Plan^Er||||2^Fill^Er||||3^Clerk^Al"
    people = only(convert(converter, "SIU^S12", first), "Appointment")["participant"]
    assert [each["required"] for each in people] == ["information-only"] * 3 + ["required"]
    assert not [each for each in people[:3] if "reference" in each["actor"]]
    assert [each["actor"]["display"] for each in people[:3]] == ["Er Plan", "Er Fill", "Al Clerk"]


def test_the_reason_is_the_type_by_which_the_desk_sorts(converter: Converter) -> None:
    found = only(convert(converter, "SIU^S12", sch()), "Appointment")
    assert found["appointmentType"]["coding"] == [{"code": "FOLLOWUP", "system": "http://terminology.hl7.org/CodeSystem/v2-0276"}]
    assert found["reasonCode"][0]["coding"][0]["code"] == "185389009"
    other = only(convert(converter, "SIU^S12", sch(reason="X^Chat^L")), "Appointment")
    assert other["appointmentType"]["coding"][0]["code"] == "Normal"
    assert (other["reasonCode"][0]["text"], other["description"]) == ("Chat", "Chat")


def test_an_appointment_is_for_the_order_that_it_names(converter: Converter) -> None:
    converted = convert(converter, "SIU^S12", sch() + "|P9^OE")
    order = next(made for made in converted.made if made.type == "ServiceRequest")
    assert (order.key, order.resource["identifier"][0]["value"]) == (KNOWN, "P9")
    assert target(converted, only(converted, "Appointment")["basedOn"][0]) == order.resource


def test_a_mistake_says_that_it_was_one(converter: Converter) -> None:
    found = only(convert(converter, "SIU^S17", sch()), "Appointment")
    assert found["cancelationReason"]["coding"][0]["code"] == "oth-err"
