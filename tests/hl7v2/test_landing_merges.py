"""Two records of one person made one by a message, and what becomes of all that was about either."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fhir_server.interactions import Exchange, dispatch
from fhir_server.search import SYSTEM
from fhir_server.settings import CANON

from .conftest import Lab
from .test_landing import fresh, oru, results

Json = dict[str, Any]
HOSP = f"{CANON}/sid/authority/HOSP"


def merge(survivor: str, *losers: str, event: str = "A40", more: str = "") -> str:
    """A message by which losers become the survivor; each is its number."""
    lines = [f"MSH|^~\\&|ADT|LAB1|||20260103101500+0100||ADT^{event}|{{id}}|P|2.5.1", f"EVN|{event}|20260103101500+0100"]
    for loser in losers:
        lines += [f"PID|1||{survivor}^^^HOSP^MR{more}||Doe^Jane", f"MRG|{loser}^^^HOSP^MR"]
    return "\n".join(lines)


def patient(lab: Lab, number: str) -> Json:
    return lab.one(f"Patient?identifier={HOSP}|{number}")


def read(lab: Lab, kind: str, identity: str) -> Json:
    return lab.one(f"{kind}?_id={identity}")


@pytest.mark.parametrize("event", ["A40", "A18", "A34"])
def test_the_one_who_stays_has_the_numbers_and_the_results_of_both(lab: Lab, event: str) -> None:
    stays, goes = fresh(), fresh()
    lab.ok(oru(stays, fresh(), "2345-7|95|F"))
    lab.ok(oru(goes, fresh(), "2345-7|70|F"))
    before = {number: patient(lab, number)["id"] for number in (stays, goes)}
    lab.ok(merge(stays, goes, event=event))
    survivor = patient(lab, goes)
    assert survivor["id"] == patient(lab, stays)["id"] == before[stays]
    assert [(each["value"], each.get("use")) for each in survivor["identifier"]] == [(stays, None), (goes, "old")]
    assert survivor["link"] == [{"type": "replaces", "other": {"reference": f"Patient/{before[goes]}"}}]
    loser = read(lab, "Patient", before[goes])
    assert (loser["active"], loser["link"]) == (False, [{"type": "replaced-by", "other": {"reference": f"Patient/{before[stays]}"}}])
    assert "identifier" not in loser
    found = lab.ask(f"Observation?patient=Patient/{before[stays]}")
    assert sorted(each["valueQuantity"]["value"] for each in found) == [70, 95]
    assert lab.ask(f"Observation?patient=Patient/{before[goes]}") == []
    for report in lab.ask(f"DiagnosticReport?patient=Patient/{before[stays]}"):
        assert report["subject"] == {"reference": f"Patient/{before[stays]}"}


def test_what_is_told_of_the_old_number_from_then_on_is_of_the_one_who_stays(lab: Lab) -> None:
    stays, goes, order = fresh(), fresh(), fresh()
    lab.ok(oru(stays, fresh(), "2345-7|95|F"))
    lab.ok(oru(goes, order, "2345-7|70|P", report="P"))
    lab.ok(merge(stays, goes))
    lab.ok(oru(goes, order, "2345-7|71|F", at="20260104101500+0100"))
    survivor = patient(lab, stays)
    values = {each["valueQuantity"]["value"]: each["status"] for each in lab.ask(f"Observation?patient=Patient/{survivor['id']}")}
    assert values == {95: "final", 71: "final"}, "the result that came before the merge is the one that is final now"
    assert next(each for each in survivor["identifier"] if each["value"] == goes)["use"] == "old"


def test_the_same_merge_again_changes_nothing(lab: Lab) -> None:
    stays, goes = fresh(), fresh()
    lab.ok(oru(stays, fresh(), "2345-7|95|F"))
    lab.ok(oru(goes, fresh(), "2345-7|70|F"))
    lab.ok(merge(stays, goes))
    before = patient(lab, stays)
    lab.ok(merge(stays, goes))
    assert patient(lab, stays) == before
    lab.ok(merge(stays, goes, more=f"~{goes}^^^HOSP^MR"))
    assert patient(lab, stays)["link"] == before["link"]


def test_an_old_number_that_the_sender_repeats_names_no_second_patient(lab: Lab) -> None:
    stays, goes = fresh(), fresh()
    lab.ok(oru(stays, fresh(), "2345-7|95|F"))
    lab.ok(oru(goes, fresh(), "2345-7|70|F"))
    lab.ok(merge(stays, goes, more=f"~{goes}^^^HOSP^MR"))
    assert patient(lab, goes)["id"] == patient(lab, stays)["id"]
    assert len(results(lab, stays)) == 2


@pytest.mark.parametrize("known", ["neither", "survivor", "loser"])
def test_whoever_is_not_there_is_made_and_linked(lab: Lab, known: str) -> None:
    stays, goes = fresh(), fresh()
    if known != "neither":
        lab.ok(oru(stays if known == "survivor" else goes, fresh(), "2345-7|95|F"))
    lab.ok(merge(stays, goes))
    survivor = patient(lab, stays)
    assert patient(lab, goes)["id"] == survivor["id"]
    (link,) = survivor["link"]
    loser = read(lab, "Patient", link["other"]["reference"].removeprefix("Patient/"))
    assert loser["active"] is False
    assert loser["link"][0]["other"]["reference"] == f"Patient/{survivor['id']}"
    assert len(results(lab, stays)) == (0 if known == "neither" else 1)


def test_several_are_merged_by_one_message_and_one_after_the_other(lab: Lab) -> None:
    first, second, third, last = (fresh() for _ in range(4))
    for number in (first, second, third):
        lab.ok(oru(number, fresh(), "2345-7|95|F"))
    lab.ok(merge(first, second, third))
    assert len({patient(lab, number)["id"] for number in (first, second, third)}) == 1
    lab.ok(oru(last, fresh(), "2345-7|95|F"))
    lab.ok(merge(last, first))
    survivor = patient(lab, second)
    assert len(results(lab, last)) == 4
    assert len(survivor["link"]) == 3, "whom the other took the place of is linked as well"
    assert {each["value"] for each in survivor["identifier"]} == {first, second, third, last}


def test_a_merge_that_cannot_be_is_refused(lab: Lab) -> None:
    one, other, third = fresh(), fresh(), fresh()
    for number in (one, other, third):
        lab.ok(oru(number, fresh(), "2345-7|95|F"))
    (ack,) = lab.send(merge(one, f"{other}^^^HOSP^MR~{third}"))
    assert "\rMSA|AE|" in ack
    assert "MRG^1^1" in ack
    for text, place in (("PID|1||7^^^HOSP^MR", "PID^1"), ("MRG|7^^^HOSP^MR", "MRG^1")):
        (ack,) = lab.send(f"MSH|^~\\&|ADT|LAB1|||20260103101500+0100||ADT^A40|{{id}}|P|2.5.1\nEVN|A40|20260103101500+0100\n{text}")
        assert "\rMSA|AE|" in ack
        assert place in ack
    assert len({patient(lab, number)["id"] for number in (one, other, third)}) == 3


def test_all_that_refers_to_the_other_refers_to_the_one_who_stays(lab: Lab) -> None:
    stays, goes = fresh(), fresh()
    for number in (stays, goes):
        lab.ok(oru(number, fresh(), "2345-7|95|F"))
    kept, gone = patient(lab, stays)["id"], patient(lab, goes)["id"]
    made = {
        "resourceType": "Appointment",
        "status": "proposed",
        "participant": [{"actor": {"reference": f"Patient/{gone}"}, "status": "accepted"}],
        "comment": f"not a reference: Patient/{gone}",
    }
    reply = dispatch(lab.engine, Exchange("create", SYSTEM, "http://localhost/fhir", type="Appointment", body=made))
    lab.ok(merge(stays, goes))
    found = read(lab, "Appointment", str(reply.id))
    assert found["participant"][0]["actor"]["reference"] == f"Patient/{kept}"
    assert found["comment"].endswith(gone)
    assert any(f"Patient/{gone}" in str(each["target"]) for each in lab.ask(f"Provenance?target=Patient/{gone}")), "what was done stays as it was"


def test_results_that_come_while_two_are_merged_are_of_the_one_who_stays(lab: Lab) -> None:
    for _ in range(4):
        stays, goes = fresh(), fresh()
        for number in (stays, goes):
            lab.ok(oru(number, fresh(), "2345-7|95|F"))
        messages = [oru(goes, fresh(), f"2345-7|{60 + place}|F") for place in range(6)]
        messages.insert(3, merge(stays, goes))
        with ThreadPoolExecutor(7) as pool:
            list(pool.map(lab.ok, messages))
        survivor = patient(lab, goes)
        assert survivor["id"] == patient(lab, stays)["id"]
        assert len(lab.ask(f"Observation?patient=Patient/{survivor['id']}&_count=100")) == 8


def test_two_merges_at_once_do_not_lose_anybody(lab: Lab) -> None:
    for _ in range(3):
        stays, one, other = fresh(), fresh(), fresh()
        for number in (stays, one, other):
            lab.ok(oru(number, fresh(), "2345-7|95|F"))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lab.ok, [merge(stays, one), merge(stays, other), merge(stays, one), merge(stays, other)]))
        assert len({patient(lab, number)["id"] for number in (stays, one, other)}) == 1
        assert len(results(lab, stays)) == 3
        assert len(patient(lab, stays)["link"]) == 2


def test_who_is_booked_in_both_records_for_one_time_keeps_both_and_it_is_said(lab: Lab) -> None:
    stays, goes = fresh(), fresh()
    booked: list[str] = []
    for number, start in ((stays, "202702030900"), (goes, "202702030915"), (goes, "202702031100")):
        filler = fresh()
        booked.append(filler)
        header = "MSH|^~\\&|APP|LAB1|CLINIC|C1|20260102101500+0100||SIU^S12^SIU_S12|{id}|P|2.5.1"
        lab.ok(f"{header}\nSCH||{filler}|||||CHECKUP^^HL70276||30|min|^^^{start}\nPID|1||{number}^^^HOSP^MR||Doe^Jane||19800101|F")
    (ack,) = lab.send(merge(stays, goes))
    assert "\rMSA|AA|" in ack
    assert "205^Duplicate key identifier^HL70357|W|booked-twice" in ack
    survivor = patient(lab, stays)
    found = {number: lab.one(f"Appointment?identifier={number}&patient=Patient/{survivor['id']}") for number in booked}
    assert [each["status"] for each in found.values()] == ["booked"] * 3
    assert [any(mark["url"].endswith("/overbooked") for mark in each.get("extension", ())) for each in found.values()] == [False, True, False]


@pytest.mark.parametrize("is_known", [True, False])
def test_whoever_is_merged_with_themselves_stays_who_they_are(lab: Lab, *, is_known: bool) -> None:
    number = fresh()
    if is_known:
        lab.ok(oru(number, fresh(), "2345-7|95|F"))
    lab.ok(merge(number, number))
    lab.ok(oru(number, fresh(), "2345-7|70|F"))
    found = patient(lab, number)
    assert "link" not in found
    assert found.get("active") is not False
    assert found["identifier"][0]["value"] == number
