"""Results: every kind of value, units and ranges, lines of text, comments, specimens, documents, and reports that hang together.

https://build.fhir.org/ig/HL7/v2-to-fhir/ConceptMap-message-oru-r01-to-bundle.html
"""

from __future__ import annotations

import base64

import pytest

from fhir_server import fhirjson
from fhir_server.hl7v2.mapping import FILLED, KNOWN, Converter
from fhir_server.hl7v2.text.message import read
from fhir_server.settings import CANON

from .samples import PID, ZONE, Json, convert, of_type, only, target

OBR = "OBR|1|P1^OE|F1^LAB|GLU^Glucose^L|||20260102090000+0100|||||||||||||||20260102101500+0100||LAB|F"
PDF = base64.b64encode(b"%PDF-1.4 a report").decode()


def plain(value: object) -> object:
    return fhirjson.loads(fhirjson.dumps(value))


@pytest.mark.parametrize(
    ("kind", "text", "unit", "made"),
    [
        ("NM", "5.10", "mmol/L^^UCUM", {"valueQuantity": {"value": 5.10, "unit": "mmol/L", "code": "mmol/L", "system": "http://unitsofmeasure.org"}}),
        ("NM", "-3", "%", {"valueQuantity": {"value": -3, "unit": "%"}}),
        (
            "NM",
            ">10",
            "mg^^UCUM",
            {"valueQuantity": {"comparator": ">", "value": 10, "unit": "mg", "code": "mg", "system": "http://unitsofmeasure.org"}},
        ),
        ("NM", "<= 0.50", "mg", {"valueQuantity": {"comparator": "<=", "value": 0.50, "unit": "mg"}}),
        ("NM", "<>5", "", {"valueString": "<>5"}),
        ("NM", "1:128", "", {"valueString": "1:128"}),
        ("NM", "1+", "", {"valueString": "1+"}),
        ("NM", "neg", "", {"valueString": "neg"}),
        ("NM", "\u0663.\u0665", "", {"valueString": "\u0663.\u0665"}),
        ("SN", "^182", "mg/dl", {"valueQuantity": {"value": 182, "unit": "mg/dl"}}),
        ("SN", ">=^10", "U", {"valueQuantity": {"comparator": ">=", "value": 10, "unit": "U"}}),
        ("SN", "=^10", "U", {"valueQuantity": {"value": 10, "unit": "U"}}),
        ("SN", "^1^-^5", "U", {"valueRange": {"low": {"value": 1, "unit": "U"}, "high": {"value": 5, "unit": "U"}}}),
        ("SN", "^1^:^128", "", {"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}),
        ("SN", "^2^+", "", {"valueString": "2 +"}),
        ("SN", "<>^5", "", {"valueString": "<> 5"}),
        ("SN", "^few", "", {"valueString": "few"}),
        ("ST", "A \\T\\ B", "", {"valueString": "A & B"}),
        ("FT", "one\\.br\\two", "", {"valueString": "one\ntwo"}),
        ("TX", "one~two", "", {"valueString": "one\ntwo"}),
        ("CE", "260415000^Not detected^SCT", "", {"code": "260415000", "system": "http://snomed.info/sct"}),
        ("CWE", "260415000^Not detected^SCT", "", {"code": "260415000", "system": "http://snomed.info/sct"}),
        ("CNE", "260415000^Not detected^SCT", "", {"code": "260415000", "system": "http://snomed.info/sct"}),
        ("CF", "260415000^Not detected^SCT", "", {"code": "260415000", "system": "http://snomed.info/sct"}),
        ("IS", "POS", "", {"code": "POS"}),
        ("DT", "20260102", "", {"valueDateTime": "2026-01-02"}),
        ("TS", "202601021015", "", {"valueDateTime": "2026-01-02T10:15:00+01:00"}),
        ("DTM", "20260102101500.1234+0000", "", {"valueDateTime": "2026-01-02T10:15:00.1234+00:00"}),
        ("TM", "101530", "", {"valueTime": "10:15:30"}),
        ("DR", "20260102^20260103", "", {"valuePeriod": {"start": "2026-01-02", "end": "2026-01-03"}}),
        ("NR", "1^2.50", "g", {"valueRange": {"low": {"value": 1, "unit": "g"}, "high": {"value": 2.50, "unit": "g"}}}),
        ("CQ", "5^mL", "", {"valueQuantity": {"value": 5, "unit": "mL"}}),
        ("SI", "3", "", {"valueInteger": 3}),
        ("CX", "123^^^HOSP^MR", "", {"valueString": "123 HOSP MR"}),
        ("EI", "A-1^LAB", "", {"valueString": "A-1 LAB"}),
        ("XPN", "Doe^Jane^^^Dr", "", {"valueString": "Doe Jane Dr"}),
        ("XAD", "1 Main St&Main St^^Oldtown", "", {"valueString": "1 Main St Main St Oldtown"}),
        ("", "plain", "", {"valueString": "plain"}),
    ],
)
def test_each_kind_of_value_becomes_what_it_is_in_fhir(converter: Converter, kind: str, text: str, unit: str, made: Json) -> None:
    converted = convert(converter, "ORU^R01", OBR, f"OBX|1|{kind}|1^A^L||{text}|{unit}|||||F")
    result = only(converted, "Observation")
    values = {name: value for name, value in result.items() if name.startswith("value")}
    if "code" in made:
        coding = values["valueCodeableConcept"]["coding"][0]
        assert {name: coding.get(name) for name in made} == made
    else:
        assert plain(values) == plain(made)
    assert {fault.severity for fault in converted.faults} == (
        {"W"} if kind == "NM" and "valueString" in made else {"I"} if "comparator" in repr(made) and kind == "NM" else set()
    )


@pytest.mark.parametrize("kind", ["XX", "nm", "NUM", "Z1"])
def test_a_value_of_a_type_that_there_is_not_is_kept_and_told(converter: Converter, kind: str) -> None:
    converted = convert(converter, "ORU^R01", OBR, f"OBX|1|{kind}|1^A^L||7.10|g|||||F", f"OBX|2|{kind}|2^B^L||low~lower||||||F")
    first, second = of_type(converted, "Observation")
    assert first["valueString"] == "7.10"
    assert [each["valueString"] for each in second["component"]] == ["low", "lower"]
    assert {(fault.segment, fault.field, fault.code) for fault in converted.faults} == {("OBX", 5, "103")}


@pytest.mark.parametrize(("kind", "value"), [("ST", ">=32"), ("NM", "10 or more"), ("TX", "about 5")])
def test_the_unit_of_a_text_is_kept_beside_it(converter: Converter, kind: str, value: str) -> None:
    result = only(convert(converter, "ORU^R01", OBR, f"OBX|1|{kind}|1^A^L||{value}|ug/mL^^UCUM||R|||F", "NTE|1||By gradient"), "Observation")
    assert result["valueString"] == value
    assert [each["text"] for each in result["note"]] == ["Unit: ug/mL", "By gradient"]
    bare = only(convert(converter, "ORU^R01", OBR, f"OBX|1|{kind}|1^A^L||{value}|||R|||F"), "Observation")
    assert "note" not in bare


def test_a_number_keeps_its_digits(converter: Converter) -> None:
    result = only(convert(converter, "ORU^R01", OBR, "OBX|1|NM|1^A^L||7.10|g||||| F"), "Observation")
    assert b'"value":7.10' in fhirjson.dumps(result)


def test_numbers_in_a_row_are_samples(converter: Converter) -> None:
    result = only(convert(converter, "ORU^R01", OBR, "OBX|1|NA|1^A^L||1^2.5^^4|mV|||||F"), "Observation")
    assert result["valueSampledData"]["data"] == "1 2.5 E 4"
    assert result["valueSampledData"]["dimensions"] == 1
    assert result["valueSampledData"]["origin"] == {"value": 0, "unit": "mV"}
    several = only(convert(converter, "ORU^R01", OBR, "OBX|1|NA|1^A^L||1^2~3^4|mV|||||F"), "Observation")
    assert (several["valueSampledData"]["data"], several["valueSampledData"]["dimensions"]) == ("1 2 3 4", 2)


def test_a_field_that_repeats_is_components_in_its_order(converter: Converter) -> None:
    result = only(convert(converter, "ORU^R01", OBR, "OBX|1|NM|1^A^L||60~neg~120|/min|||||F"), "Observation")
    assert not [name for name in result if name.startswith("value")]
    assert [plain(each.get("valueQuantity") or each["valueString"]) for each in result["component"]] == [
        {"value": 60, "unit": "/min"},
        "neg",
        {"value": 120, "unit": "/min"},
    ]
    assert all(each["code"] == result["code"] for each in result["component"])


@pytest.mark.parametrize(
    ("text", "unit", "low", "high"),
    [
        ("70-110", "mg/dL", 70, 110),
        ("13 to 18", "g/mL^grams per milliliter^UCUM", 13, 18),
        ("3.5 – 5.0 mmol/L", "mmol/L", 3.5, 5.0),
        ("<5", "U", None, 5),
        (">=60", "U", 60, None),
        ("70_105", "mg/dL", None, None),
        ("10-11", "1", 10, 11),
        ("negative", "", None, None),
    ],
)
def test_a_reference_range_is_numbers_with_the_unit_of_the_value(
    converter: Converter, text: str, unit: str, low: float | None, high: float | None
) -> None:
    result = only(convert(converter, "ORU^R01", OBR, f"OBX|1|NM|1^A^L||95|{unit}|{text}||||F"), "Observation")
    (found,) = result["referenceRange"]
    assert found["text"] == text
    for name, bound in (("low", low), ("high", high)):
        assert float(found[name]["value"]) == bound if bound is not None else name not in found
        if bound is not None:
            assert found[name]["unit"] == result["valueQuantity"]["unit"]


def test_lines_of_a_report_are_one_text_in_their_order(converter: Converter) -> None:
    lines = [f"OBX|{number}|TX|11502-2^Report^LN|1|{text}||||||F" for number, text in enumerate(("FINDINGS", "", "All is well~really", "END"), 1)]
    converted = convert(converter, "ORU^R01", OBR, *lines, "OBX|5|TX|11502-2^Report^LN|2|Another||||||F")
    first, second = of_type(converted, "Observation")
    assert first["valueString"] == "FINDINGS\n\nAll is well\nreally\nEND"
    assert second["valueString"] == "Another"
    assert not converted.unhandled


def test_results_of_one_code_stay_apart(converter: Converter) -> None:
    segments = [f"OBX|{number}|CE|600-7^Bacteria^LN|1|{code}^X^L||||||F" for number, code in enumerate("ABA", 1)]
    converted = convert(converter, "ORU^R01", OBR, *segments)
    assert [each["valueCodeableConcept"]["coding"][0]["code"] for each in of_type(converted, "Observation")] == ["A", "B", "A"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("F", "final"),
        ("P", "preliminary"),
        ("C", "corrected"),
        ("A", "amended"),
        ("D", "entered-in-error"),
        ("W", "entered-in-error"),
        ("X", "cancelled"),
        ("I", "registered"),
        ("O", "registered"),
        ("R", "preliminary"),
        ("S", "preliminary"),
        ("U", "final"),
        ("N", "unknown"),
    ],
)
def test_each_status_of_a_result(converter: Converter, code: str, status: str) -> None:
    result = only(convert(converter, "ORU^R01", OBR, f"OBX|1|NM|1^A^L||{'' if code in 'XN' else '5'}||||||{code}"), "Observation")
    assert result["status"] == status
    assert ("dataAbsentReason" in result) == (code in "XN")


@pytest.mark.parametrize(
    ("code", "status", "order"),
    [
        ("F", "final", "completed"),
        ("C", "corrected", "completed"),
        ("P", "preliminary", "active"),
        ("R", "partial", "active"),
        ("O", "registered", "active"),
        ("I", "registered", "active"),
        ("X", "cancelled", "revoked"),
        ("A", "partial", "active"),
    ],
)
def test_each_status_of_a_report_says_what_its_order_is(converter: Converter, code: str, status: str, order: str) -> None:
    converted = convert(converter, "ORU^R01", "ORC|RE|P1|F1", f"OBR|1|P1|F1|GLU^Glucose^L{'|' * 21}{code}", "OBX|1|NM|1^A^L||5||||||F")
    assert only(converted, "DiagnosticReport")["status"] == status
    assert only(converted, "ServiceRequest")["status"] == order


def test_a_status_one_field_too_far_right_is_unknown_and_told(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", f"OBR|1|P1|F1|GLU^Glucose^L{'|' * 22}F", "OBX|1|NM|1^A^L||5")
    assert only(converted, "DiagnosticReport")["status"] == "unknown"
    assert only(converted, "Observation")["status"] == "unknown"
    assert [(fault.code, fault.segment, fault.field, fault.severity) for fault in converted.faults][:1] == [("101", "OBR", 25, "W")]


def test_a_result_without_status_has_that_of_its_report(converter: Converter) -> None:
    assert only(convert(converter, "ORU^R01", OBR, "OBX|1|NM|1^A^L||5"), "Observation")["status"] == "final"


def test_comments_stand_where_they_belong(converter: Converter) -> None:
    converted = convert(
        converter,
        "ORU^R01",
        OBR,
        "NTE|1|L|Haemolysed",
        "NTE|2|L|Repeat",
        "OBX|1|NM|1^A^L||5||||||F",
        "NTE|1|L|Checked",
        "NTE|2|L|twice",
        "NTE|3|P|By hand",
    )
    assert only(converted, "DiagnosticReport")["conclusion"] == "Haemolysed\nRepeat"
    assert [note["text"] for note in only(converted, "Observation")["note"]] == ["Checked\ntwice", "By hand"]


def test_a_comment_of_the_patient_is_reported_and_not_lost_silently(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", "NTE|1||Difficult veins", OBR, "OBX|1|NM|1^A^L||5||||||F")
    assert [segment.name for segment in converted.unhandled] == ["NTE"]


def test_a_result_names_who_made_it_how_and_when(converter: Converter) -> None:
    obx = (
        "OBX|1|NM|1^A^L|2|5||||||F|||20260102080000+0100|LAB9^Nine^L|77^Doe^Jo|M^Method^L|D1^DEV||B^Arm^L|R1^LAB||Lab One^^^^^AUTH^^^^55||9^Boss^Ann"
    )
    result = only(converted := convert(converter, "ORU^R01", OBR, obx), "Observation")
    assert result["effectiveDateTime"] == "2026-01-02T08:00:00+01:00"
    assert result["issued"] == "2026-01-02T10:15:00+01:00"
    assert [target(converted, each)["resourceType"] for each in result["performer"]] == [
        "Organization",
        "Practitioner",
        "Organization",
        "Practitioner",
    ]
    assert target(converted, result["device"])["identifier"][0]["value"] == "D1"
    assert (result["method"]["text"], result["bodySite"]["text"], result["identifier"][0]["value"]) == ("Method", "Arm", "R1")
    assert result["extension"][0]["extension"] == [{"url": "original-sub-identifier", "valueString": "2"}]


def test_answers_asked_with_the_order_support_it_and_are_no_results(converter: Converter) -> None:
    answer = f"OBX|2|CWE|82810-3^Pregnant^LN||N^No^HL70136||||||F{'|' * 18}QST"
    converted = convert(converter, "ORU^R01", "ORC|RE|P1|F1", OBR, "OBX|1|NM|1^A^L||5||||||F", answer)
    result, pregnant = of_type(converted, "Observation")
    assert [target(converted, each) for each in only(converted, "DiagnosticReport")["result"]] == [result]
    assert [target(converted, each) for each in only(converted, "ServiceRequest")["supportingInfo"]] == [pregnant]
    assert "survey" in {category["coding"][0]["code"] for category in pregnant["category"]}


@pytest.mark.parametrize("section", ["LAB", "", "HM"])
def test_results_are_of_the_laboratory_where_nothing_else_is_said(converter: Converter, section: str) -> None:
    report = OBR.replace("|LAB|F", f"|{section}|F")
    assert only(convert(converter, "ORU^R01", report, "OBX|1|NM|1^A^L||5||||||F"), "Observation")["category"][0]["coding"][0]["code"] == "laboratory"


def test_results_of_radiology_are_imaging(converter: Converter) -> None:
    result = only(convert(converter, "ORU^R01", OBR.replace("|LAB|F", "|RAD|F"), "OBX|1|TX|1^A^L||Clear||||||F"), "Observation")
    assert result["category"][0]["coding"][0]["code"] == "imaging"


def test_a_pdf_is_a_document_and_the_form_of_its_report(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", "ORC|RE|P1|F1", OBR, f"OBX|1|ED|PDF^Report^L||LAB^application^pdf^Base64^{PDF}||||||F")
    (form,) = only(converted, "DiagnosticReport")["presentedForm"]
    assert (form["contentType"], form["data"], form["size"], form["title"]) == ("application/pdf", PDF, 17, "Report")
    document = only(converted, "DocumentReference")
    assert document["content"][0]["attachment"]["data"] == PDF
    assert (document["status"], document["docStatus"]) == ("current", "final")
    result = only(converted, "Observation")
    assert [target(converted, each) for each in result["derivedFrom"]] == [document]
    assert not [name for name in result if name.startswith("value")]


@pytest.mark.parametrize("data", ["not base64!", base64.b64encode(b"MZ a program").decode(), "AAA"])
def test_what_is_no_pdf_refuses_the_message_once(converter: Converter, data: str) -> None:
    converted = convert(converter, "ORU^R01", OBR, f"OBX|1|ED|PDF^Report^L||LAB^application^pdf^Base64^{data}||||||F")
    assert [(fault.code, fault.severity, fault.field) for fault in converted.faults] == [("102", "E", 5)]


@pytest.mark.parametrize(
    ("value", "severity", "code"), [("A" * 120, "E", "102"), ("LAB^application^pdf^Base64^", "W", "101"), ("^^^Base64^", "W", "101")]
)
def test_a_document_without_data_is_told_and_one_whose_data_are_elsewhere_refused(converter: Converter, value: str, severity: str, code: str) -> None:
    converted = convert(converter, "ORU^R01", OBR, f"OBX|1|ED|PDF^Report^L||{value}||||||F")
    assert [(fault.code, fault.severity, fault.field) for fault in converted.faults] == [(code, severity, 5)]


def test_a_pointer_is_kept_and_one_that_is_no_address_of_the_web_is_not(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", OBR, "OBX|1|RP|IMG^Slide^L||https://lab.example/1^^IM^JPEG||||||F")
    assert only(converted, "DiagnosticReport")["presentedForm"] == [{"url": "https://lab.example/1", "contentType": "image/jpeg", "title": "Slide"}]
    assert only(converted, "DocumentReference")["content"][0]["attachment"]["url"] == "https://lab.example/1"
    bad = convert(converter, "ORU^R01", OBR, "OBX|1|RP|IMG^Slide^L||file:///etc/passwd||||||F")
    assert [(fault.code, fault.severity) for fault in bad.faults] == [("102", "W")]
    assert "passwd" not in repr(bad.made)


def test_a_specimen_of_two_reports_is_one(converter: Converter) -> None:
    spm = "SPM|1|S1||BLD|||||||||||||20260102080000+0100|20260102083000+0100"
    other = OBR.replace("F1^LAB", "F2^LAB")
    converted = convert(converter, "ORU^R01", OBR, "OBX|1|NM|1^A^L||5||||||F", spm, other, "OBX|1|NM|1^A^L||5||||||F", spm)
    specimen = only(converted, "Specimen")
    assert (specimen["collection"]["collectedDateTime"], specimen["receivedTime"]) == ("2026-01-02T08:00:00+01:00", "2026-01-02T08:30:00+01:00")
    assert all([target(converted, each) for each in report["specimen"]] == [specimen] for report in of_type(converted, "DiagnosticReport"))


def test_a_specimen_of_old_messages_stands_in_the_order(converter: Converter) -> None:
    order = "OBR|1|P1|F1|CUL^Culture^L|||20260102||5^mL|1^Nurse^A||||202601021000+0100|UR&Urine&HL70070^^Midstream^BLAD&Bladder&L|||||||||||F"
    converted = convert(converter, "ORU^R01", order, "OBX|1|ST|1^A^L||x||||||F", version="2.3")
    specimen = only(converted, "Specimen")
    assert specimen["type"]["text"] == "Urine"
    assert specimen["note"] == [{"text": "Midstream"}]
    assert specimen["receivedTime"] == "2026-01-02T10:00:00+01:00"
    assert target(converted, only(converted, "DiagnosticReport")["specimen"][0]) == specimen


def test_what_is_observed_of_a_specimen_is_of_it(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", OBR, "OBX|1|NM|1^A^L||5||||||F", "SPM|1|S1||BLD", "OBX|1|NM|3145-0^Volume^LN||5|mL|||||F")
    _, volume = of_type(converted, "Observation")
    assert target(converted, volume["specimen"]) == only(converted, "Specimen")


def test_the_susceptibilities_of_an_organism_hang_together_with_it(converter: Converter) -> None:
    child = f"OBR|2|P2|F2|SUSC^Susceptibility^L{'|' * 21}F|600-7&Bacteria&LN^1^E. coli|||P1&OE^F1&LAB"
    converted = convert(
        converter,
        "ORU^R01",
        "ORC|RE|P1^OE|F1^LAB",
        OBR,
        "OBX|1|CE|600-7^Bacteria^LN|1|ECO^E. coli^L||||||F",
        "OBX|2|CE|600-7^Bacteria^LN|2|SAU^S. aureus^L||||||F",
        "ORC|RE|P2|F2",
        child,
        "OBX|1|ST|18864-9^Ampicillin^LN||R||||||F",
        "OBX|2|ST|18906-8^Ciprofloxacin^LN||S||||||F",
    )
    coli, aureus, ampicillin, ciprofloxacin = of_type(converted, "Observation")
    assert [target(converted, each) for each in coli["hasMember"]] == [ampicillin, ciprofloxacin]
    assert "hasMember" not in aureus
    assert target(converted, ampicillin["derivedFrom"][0]) == coli
    _, order = of_type(converted, "ServiceRequest")
    assert order["basedOn"][0]["identifier"]["value"] == "P1"


def test_an_order_without_orc_is_met_by_its_number_and_only_filled(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", OBR, "OBX|1|NM|1^A^L||5||||||F")
    order = next(made for made in converted.made if made.type == "ServiceRequest")
    assert order.key == FILLED
    assert [(each["type"]["coding"][0]["code"], each["value"]) for each in order.resource["identifier"]] == [("PLAC", "P1"), ("FILL", "F1")]
    assert target(converted, only(converted, "DiagnosticReport")["basedOn"][0]) == order.resource


def test_a_visit_is_only_met_by_its_number(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", f"PV1|1|I|W1{'|' * 16}V9^^^ADT", OBR, "OBX|1|NM|1^A^L||5||||||F")
    visit = next(made for made in converted.made if made.type == "Encounter")
    assert visit.key == KNOWN
    assert target(converted, only(converted, "DiagnosticReport")["encounter"]) == visit.resource
    without = convert(converter, "ORU^R01", "PV1|1|I|W1", OBR, "OBX|1|NM|1^A^L||5||||||F")
    assert not of_type(without, "Encounter")
    assert [segment.name for segment in without.unhandled] == ["PV1"]


def test_a_point_of_care_result_is_a_result(converter: Converter) -> None:
    converted = convert(converter, "ORU^R30^ORU_R30", "ORC|NW", OBR, "OBX|1|NM|2339-0^Glucose^LN||5.4|mmol/L|||||F")
    assert only(converted, "DiagnosticReport")["status"] == "final"
    assert only(converted, "Observation")["valueQuantity"]["unit"] == "mmol/L"


def test_results_sent_by_specimen_name_it(converter: Converter) -> None:
    converted = convert(
        converter,
        "OUL^R22^OUL_R22",
        "SPM|1|S1||BLD",
        OBR,
        "ORC|RE|P1|F1||CM",
        "OBX|1|NM|1^A^L||5||||||F",
        "OBX|2|NM|2^B^L||6||||||F",
        "SPM|2|S2||UR",
        OBR.replace("F1", "F2"),
        "OBX|1|NM|1^A^L||7||||||F",
    )
    blood, urine = of_type(converted, "Specimen")
    assert [target(converted, each["specimen"]) for each in of_type(converted, "Observation")] == [blood, blood, urine]
    first, second = of_type(converted, "DiagnosticReport")
    assert (len(first["result"]), len(second["result"])) == (2, 1)
    assert not converted.unhandled


def test_a_field_that_repeats_without_end_is_refused(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", OBR, f"OBX|1|NM|1^A^L||{'1~' * 5000}1||||||F")
    assert [(fault.code, fault.severity, fault.field) for fault in converted.faults] == [("104", "E", 5)]


def test_reports_that_all_name_a_parent_take_time_by_their_number(converter: Converter) -> None:
    child = f"OBR|1|P|F|S^S^L{'|' * 21}F|600-7"
    segments = [OBR, "OBX|1|ST|600-7^Bacteria^LN||x||||||F"] + [child, "OBX|1|ST|600-7^B^LN||R||||||F"] * 800
    converted = convert(converter, "ORU^R01", *segments)
    assert sum("derivedFrom" in each for each in of_type(converted, "Observation")) == 800


@pytest.mark.parametrize(("limits", "expected"), [("70-110", (70, 110)), ("70. - 110.", (70, 110)), (".5–1.5", (0.5, 1.5)), ("1..2", (1, 2))])
def test_a_range_is_two_numbers(converter: Converter, limits: str, expected: tuple[float, float]) -> None:
    found = convert(converter, "ORU^R01^ORU_R01", "OBR|1||F1|GLU^x^L", f"OBX|1|NM|1^G^LN||90|mg/dL|{limits}||||F")
    (told,) = only(found, "Observation")["referenceRange"]
    assert tuple(float(str(told[side]["value"])) for side in ("low", "high")) == expected


def test_a_result_that_was_called_off_keeps_the_value_that_it_has_all_the_same(converter: Converter) -> None:
    with_value, without = of_type(
        convert(converter, "ORU^R01^ORU_R01", "OBR|1||F1|GLU^x^L", "OBX|1|NM|1^G^LN||90|mg|||||X", "OBX|2|NM|2^G^LN||||||||X"), "Observation"
    )
    assert (with_value["status"], without["status"]) == ("cancelled", "cancelled")
    assert "dataAbsentReason" not in with_value
    assert without["dataAbsentReason"]["coding"][0]["code"] == "not-performed"


def test_when_a_result_was_analysed_is_told(converter: Converter) -> None:
    found = convert(converter, "ORU^R01^ORU_R01", "OBR|1||F1|GLU^x^L", "OBX|1|NM|1^G^LN||90||||||F|||20260102|||||20260103101500+0100")
    (told,) = only(found, "Observation")["extension"]
    assert told == {"url": "http://hl7.org/fhir/StructureDefinition/observation-analysis-date-time", "valueDateTime": "2026-01-03T10:15:00+01:00"}


def test_blanks_stand_for_characters_that_no_text_may_have(converter: Converter) -> None:
    found = convert(converter, "ORU^R01^ORU_R01", "OBR|1||F1|GLU^x^L", "OBX|1|ST|1^G^LN||no\x0cgrowth\x00 \x01||||||F")
    assert only(found, "Observation")["valueString"] == "no growth"


def test_an_authority_whose_oid_is_none_goes_by_its_name(converter: Converter) -> None:
    order = only(convert(converter, "ORM^O01^ORM_O01", "ORC|NW|P1^LAB1^1.2. x^ISO", "OBR|1|P1^LAB1^1.2. x^ISO||GLU^x^L"), "ServiceRequest")
    assert [each["system"] for each in order["identifier"]] == [f"{CANON}/sid/authority/LAB1"]


def test_a_unit_that_is_at_fault_is_reported_each_time_that_it_comes(converter: Converter) -> None:
    line = "OBX|1|NM|1^A^L||5|&x^y^UCUM|1-9||||F"
    first, second = (convert(converter, "ORU^R01", OBR, line).faults for _ in range(2))
    assert [(fault.code, fault.field) for fault in first] == [("103", 6)]
    assert second == first


def test_the_same_bytes_of_a_code_mean_what_the_character_set_of_their_message_says(converter: Converter) -> None:
    def name(charset: str) -> object:
        head = f"MSH|^~\\&|APP|LAB1|CLINIC|C1|20260102101500+0100||ORU^R01|M1|P|2.5.1||||||{charset}"
        raw = f"{head}\r{PID}\r{OBR}\rOBX|1|NM|1^\\XE4\\^L||5|||||||F".encode()
        return only(converter.convert(read(raw), ZONE), "Observation")["code"]["coding"][0]["display"]

    assert (name("8859/1"), name("8859/5")) == ("\u00e4", "\u0444")


def test_each_of_several_sections_is_one_category_whose_code_and_system_stand_together(converter: Converter) -> None:
    converted = convert(converter, "ORU^R01", OBR.replace("|LAB|F", "|LAB~LAB|F"), "OBX|1|NM|1^A^L||5|||||F")
    codings = [category["coding"] for category in only(converted, "Observation")["category"]]
    assert codings == [[{"code": "laboratory", "system": "http://terminology.hl7.org/CodeSystem/observation-category"}]] * 2


LABORATORY = "OBX|{0}|NM|{0}^A^L||5||||||F" + "|" * 12 + "{1}|{2}"


def test_the_address_of_a_laboratory_is_that_of_the_organization_that_performed(converter: Converter) -> None:
    name, address = "Lab One^L^^^^CLIA&2.16.840.1.113883.4.7&ISO^XX^^^05D0", "1 Lab Street^^Town^CA^90210^USA"
    converted = convert(converter, "ORU^R01", OBR, LABORATORY.format(1, name, address), LABORATORY.format(2, name, address))
    first, second = of_type(converted, "Observation")
    laboratory = target(converted, first["performer"][0])
    assert (first["performer"], first["performer"][0]["display"]) == (second["performer"], "Lab One"), "one for all results of a message"
    assert (laboratory["identifier"][0]["value"], laboratory["address"][0]["line"]) == ("05D0", ["1 Lab Street"])
    (made,) = (each for each in converted.made if each.resource is laboratory)
    assert made.key == FILLED, "what is known of it already is not changed"


@pytest.mark.parametrize(("name", "performer"), [("Lab One", "Lab One"), ("", "1 Lab Street Town CA 90210")])
def test_a_laboratory_without_number_or_without_name_keeps_its_address_too(converter: Converter, name: str, performer: str) -> None:
    converted = convert(converter, "ORU^R01", OBR, LABORATORY.format(1, name, "1 Lab Street^^Town^CA^90210"))
    (said,) = only(converted, "Observation")["performer"]
    assert said["display"] == performer
    assert [each["address"][0]["city"] for each in of_type(converted, "Organization")] == (["Town"] if name else [])


def test_a_text_that_was_cut_by_the_end_of_a_line_is_told_and_not_with_its_words(converter: Converter) -> None:
    lines = ("OBX|1|TX|A^a^L||first line", "Jane Doe was seen", "and left||||||F", "obx|2|NM|B^b^L||5||||||F")
    converted = convert(converter, "ORU^R01", OBR, *lines)
    assert [(fault.code, fault.severity, fault.segment, fault.text[:7]) for fault in converted.faults] == [
        ("100", "W", "", f"Line {n} ") for n in (5, 6, 7)
    ]
    assert "Jane" not in repr(converted.faults)
