"""What speaks against a medicine."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.prescribing import Caution, Substance, Taken, cautions, substance
from fhir_server.prescribing.substances import ATC, RXNORM, read_rows

Json = dict[str, Any]


def text(words: str) -> Substance:
    return substance([{"text": words}])


def code(system: str, value: str) -> Substance:
    return substance([{"coding": [{"system": system, "code": value}]}])


def found(prescribed: Substance, allergy: Substance | None = None, other: Substance | None = None) -> list[tuple[str, str]]:
    allergies = [Taken("AllergyIntolerance/1", allergy)] if allergy is not None else []
    others = [Taken("MedicationRequest/1", other)] if other is not None else []
    return [(caution.kind, caution.severity) for caution in cautions(prescribed, allergies, others)]


@pytest.mark.parametrize(
    ("medicine", "allergen"),
    [
        (text("Amoxicillin 500 mg capsules"), text("Penicillin")),
        (code(RXNORM, "723"), code(ATC, "J01CA04")),
        (code(ATC, "J01CA04"), text("allergy to penicillins")),
        (text("acetaminophen"), text("Paracetamol")),
        (code("http://example.org/list", "77"), code("http://example.org/list", "77")),
    ],
)
def test_an_allergy_is_found_by_code_by_name_and_by_group(medicine: Substance, allergen: Substance) -> None:
    assert found(medicine, allergy=allergen) == [("allergy", "high")]


def test_a_related_group_is_a_lesser_caution() -> None:
    assert found(text("cefuroxime 250 mg"), allergy=text("penicillin")) == [("allergy", "moderate")]


@pytest.mark.parametrize("allergen", ["peanut", "latex", "ibuprofen"])
def test_another_allergy_speaks_against_nothing(allergen: str) -> None:
    assert found(text("amoxicillin"), allergy=text(allergen)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("warfarin", "ibuprofen"), ("simvastatin", "clarithromycin"), ("sildenafil", "glyceryl trinitrate spray"), ("lisinopril", "spironolactone")],
)
def test_what_does_not_go_together_is_found_either_way(one: str, other: str) -> None:
    assert ("interaction", "high") in found(text(one), other=text(other))
    assert ("interaction", "high") in found(text(other), other=text(one))


def test_the_same_and_what_does_the_same_are_duplicates() -> None:
    assert found(text("atorvastatin 20 mg"), other=code(RXNORM, "83367")) == [("duplicate", "high")]
    assert found(text("atorvastatin"), other=text("simvastatin")) == [("duplicate", "moderate")]


def test_a_caution_says_what_and_where() -> None:
    (only,) = cautions(text("Amoxicillin"), [Taken("AllergyIntolerance/9", text("Penicillin"))], [])
    assert only == Caution("allergy", "high", "Amoxicillin: an allergy to Penicillin is recorded", "AllergyIntolerance/9")


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_read(one: str, other: str) -> None:
    assert set(found(text(one), allergy=text(other))) <= {("allergy", "high"), ("allergy", "moderate")}


@given(
    st.sampled_from(["warfarin", "digoxin", "lithium", "penicillin", "", "water"]), st.sampled_from(["ibuprofen", "verapamil", "amoxicillin", "salt"])
)
def test_interactions_are_mutual(one: str, other: str) -> None:
    first = {pair for pair in found(text(one), other=text(other)) if pair[0] == "interaction"}
    assert first == {pair for pair in found(text(other), other=text(one)) if pair[0] == "interaction"}


@pytest.mark.parametrize(
    ("one", "other", "severity"),
    [
        ("apixaban 5 mg", "fluconazole", "high"),
        ("rosuvastatin", "Gemfibrozil 600 mg", "high"),
        ("ramipril", "sacubitril/valsartan", "high"),
        ("trimethoprim", "methotrexate", "high"),
        ("co-trimoxazole", "spironolactone", "high"),
        ("oxycodone", "zopiclone", "high"),
        ("tramadol", "tranylcypromine", "high"),
        ("citalopram", "clarithromycin", "high"),
        ("tacrolimus", "voriconazole", "high"),
        ("levothyroxine", "ferrous sulfate", "moderate"),
        ("gliclazide", "fluconazole", "moderate"),
        ("sumatriptan", "sertraline", "moderate"),
    ],
)
def test_well_known_pairs_are_found(one: str, other: str, severity: str) -> None:
    assert ("interaction", severity) in found(text(one), other=text(other))
    assert ("interaction", severity) in found(text(other), other=text(one))


@pytest.mark.parametrize(
    ("allergen", "medicine", "severity"),
    [
        ("amoxicillin", "flucloxacillin", "high"),
        ("aspirin", "ibuprofen", "high"),
        ("ibuprofen", "diclofenac", "moderate"),
        ("sulfonamides", "co-trimoxazole", "high"),
        ("enalapril", "ramipril", "high"),
        ("carbamazepine", "phenytoin", "high"),
        ("cefuroxime", "amoxicillin", "moderate"),
        ("erythromycin", "azithromycin", "high"),
        ("iohexol", "iopamidol", "high"),
    ],
)
def test_allergies_cross_within_classes(allergen: str, medicine: str, severity: str) -> None:
    assert found(text(medicine), allergy=text(allergen)) == [("allergy", severity)]


@pytest.mark.parametrize(
    ("one", "other"), [("ibuprofen", "diclofenac"), ("lorazepam", "zolpidem"), ("metoprolol", "carvedilol"), ("omeprazole", "cimetidine")]
)
def test_what_does_the_same_by_another_substance_is_a_duplicate(one: str, other: str) -> None:
    assert ("duplicate", "moderate") in found(text(one), other=text(other))


def test_the_worst_of_two_pairs_is_told() -> None:
    assert found(text("clomipramine"), other=text("fluoxetine")) == [("interaction", "high")]


@pytest.mark.parametrize("one", ["paracetamol", "amoxicillin", "levothyroxine", "salbutamol", "metformin"])
@pytest.mark.parametrize("other", ["omeprazole", "amlodipine", "paracetamol", "prednisolone"])
def test_common_ones_that_go_together_are_left_alone(one: str, other: str) -> None:
    assert found(text(one), other=text(other)) == ([("duplicate", "high")] if one == other else [])


def test_each_row_of_the_tables_is_about_something_that_is_known() -> None:
    rows = read_rows("substances.csv")
    names = [name for row in rows for name in row["names"].split("|")]
    assert len(names) == len(set(names))
    groups = [group for row in rows for group in row["atc"].split()]
    assert [group for group in groups if not re.fullmatch(r"[A-Z][0-9]{2}[A-Z]([A-Z]([0-9]{2})?)?", group)] == []
    exact = [group for group in groups if len(group) == 7]
    assert len(exact) == len(set(exact))
    tables = [read_rows(name) for name in ("interactions.csv", "crossed.csv")]
    named = {row[side] for table in tables for row in table for side in ("one", "other")} | {
        group for row in read_rows("alike.csv") for group in row["groups"].split()
    }
    assert sorted(each for each in named if not any(group.startswith(each) for group in groups)) == ["C09B"]
    pairs = [frozenset((row["one"], row["other"])) for row in tables[0]]
    assert len(pairs) == len(set(pairs))
    assert {row["severity"] for table in tables for row in table} == {"high", "moderate"}
