from __future__ import annotations

import pytest

from fhir_server.hl7v2.text import formats
from fhir_server.hl7v2.text.grammar import check, structure_of
from fhir_server.hl7v2.text.message import read
from fhir_server.hl7v2.text.versions import VERSIONS, nearest, since
from tests.hl7v2.samples import MESSAGES

REPORT = "MSH|^~\\&|L|F|R|F|20240101||ORU^R01^ORU_R01|1|P|{}\rPID|1||7^^^A||Doe^J\rOBR|1|||5^T^L\rOBX|1|NM|8^B^L||5|g|||||F\r"


def told(text: str) -> list[str]:
    return [f"{fault.severity}{fault.code} {'-'.join(fault.place)}: {fault.text}" for fault in check(read(text.encode()))]


def errors(text: str) -> list[str]:
    return [each for each in told(text) if each[0] == "E"]


def changed(old: str, new: str, version: str = "2.5.1") -> str:
    text = REPORT.format(version)
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_no_sample_is_refused_but_for_what_it_is_about(name: str) -> None:
    # One sample has an observation that does not say what was observed.
    expected = [("101", ("OBX", "3", "3"))] if name == "p32_oul_r22" else []
    assert [(fault.code, fault.place) for fault in check(read(MESSAGES[name])) if fault.severity == "E"] == expected


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_sample_has_a_structure(name: str) -> None:
    assert structure_of(read(MESSAGES[name]))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_good_report_is_good_in_every_version(version: str) -> None:
    assert not errors(REPORT.format(version))
    # Early versions want more of an order than results have.
    assert not [each for each in told(REPORT.format(version)) if not each.startswith("W101 OBR")]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_message_is_about_has_to_be_there_in_every_version(version: str) -> None:
    assert errors(changed("OBR|1|||5^T^L\r", "", version))[0].startswith("E100 OBR-1: ORU_R01 needs")
    assert errors(changed("8^B^L", "", version)) == ["E101 OBX-1-3: OBX-3 is missing"]
    assert errors(changed("5^T^L", "", version)) == ["E101 OBR-1-4: OBR-4 is missing"]
    assert "E100 PID-1: ADT_A01 needs a PID" in [
        each.replace("an PID", "a PID") for each in errors(f"MSH|^~\\&|L|F|R|F|2024||ADT^A01|1|P|{version}\rEVN|A01|2024\r")
    ]


@pytest.mark.parametrize(
    ("event", "version", "structure"),
    [
        ("ADT^A04", "2.5.1", "ADT_A01"),
        ("ADT^A08^ADT_A08", "2.8", "ADT_A01"),
        ("ADT^A13", "2.3", "ADT_A01"),
        ("ADT^A28", "2.5", "ADT_A05"),
        ("ADT^A28", "2.3.1", "ADT_A01"),
        ("ADT^A31^ADT_A31", "2.8", "ADT_A05"),
        ("ADT^A11", "2.4", "ADT_A09"),
        ("ADT^A11", "2.2", "ADT_A11"),
        ("ADT^A40", "2.3.1", "ADT_A39"),
        ("ADT^A40^ADT_A39", "2.9", "ADT_A39"),
        ("SIU^S14", "2.3", "SIU_S12"),
        ("SIU^S26", "2.8", "SIU_S26"),
        ("MDM^T04", "2.5", "MDM_T02"),
        ("ORU", "2.1", "ORU_R01"),
        ("ORU^R32", "2.6", "ORU_R30"),
        ("ZZZ^Z01^ADT_A01", "2.5", "ADT_A01"),
        ("ZZZ^Z01", "2.5", ""),
        ("", "2.5", ""),
        ("ADT^A01", "", "ADT_A01"),
    ],
)
def test_the_structure_is_that_of_type_and_event(event: str, version: str, structure: str) -> None:
    message = read(f"MSH|^~\\&|L|F|R|F|2024||{event}|1|P|{version}\rPID|1\r".encode())
    assert structure_of(message) == structure
    check(message)


def test_segments_out_of_their_order_are_told() -> None:
    text = changed("OBR|1|||5^T^L\rOBX|1|NM|8^B^L||5|g|||||F\r", "OBX|1|NM|8^B^L||5|g|||||F\rOBR|1|||5^T^L\r")
    assert "W100 OBX-1: an OBR has to stand before OBX" in told(text)
    assert "E100 MRG-1: ADT_A39 needs an MRG" in errors("MSH|^~\\&|L|F|R|F|2024||ADT^A40|1|P|2.5\rEVN||2024\rPID|1||7||D\r")


def test_a_group_without_its_head_is_told() -> None:
    text = "MSH|^~\\&|L|F|R|F|2024||ORM^O01|1|P|2.5\rPID|1||7||D\rORC|NW\rOBX|1|ST|8||x||||||F\r"
    assert "E100 OBX-1: an OBR has to stand before OBX" not in told(text)
    assert told("MSH|^~\\&|L|F|R|F|2024||ORU^R01|1|P|2.5\rPID|1||7||D\rPV2|||x\rOBR|1|||5\r")[0] == "W100 PV2-1: a PV1 has to stand before PV2"


def test_segments_that_a_structure_has_not_are_told_but_for_those_of_a_site() -> None:
    assert told(REPORT.format("2.5.1") + "ZLB|1|x\r") == told(REPORT.format("2.5.1"))
    assert "W100 SCH-1: ORU_R01 has no SCH" in told(REPORT.format("2.5.1") + "SCH|1\r")


def test_a_line_that_is_no_segment_is_told_without_its_text() -> None:
    found = told(REPORT.format("2.5.1") + "Doe has a secret|x\r")
    assert [each for each in found if each.startswith("W100")] == ["W100 : Line 5 is no segment"]
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("20240101", "Jan 1", "MSH-1-7-1"),
        ("PID|1|", "PID|one|", "PID-1-1-1"),
        ("Doe^J\r", "Doe^J||Aug 15, 1942\r", "PID-1-7-1"),
        ("Doe^J\r", "Doe^J||20230230\r", "PID-1-7-1"),
        ("7^^^A", "7^^^A^MR^^2024~8^^^B^MR^^soon", "PID-1-3-2-7"),
        ("||5|g", "||>10|g", "OBX-1-5-1"),
        ("||5|g", "||5~1,2|g", "OBX-1-5-2"),
        ("NM|8^B^L||5", "SN|8^B^L||>^x", "OBX-1-5-1"),
        ("NM|8^B^L||5", "DT|8^B^L||2023050110", "OBX-1-5-1"),
        ("NM|8^B^L||5", "TM|8^B^L||2561", "OBX-1-5-1"),
    ],
)
def test_values_that_are_not_written_as_their_type_are_told_with_their_place(old: str, new: str, place: str) -> None:
    found = [each for each in told(changed(old, new)) if each.startswith("W102")]
    assert [each.split(":")[0] for each in found] == [f"W102 {place}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("||5|g", '||""|g'), ("||5|g", "||\\X35\\|g"), ("||5|g", "|| -.5 |g"), ("Doe^J\r", 'Doe^J||""\r'), ("NM|8^B^L||5", "SN|8^B^L||^1^:^2")],
)
def test_values_that_are_written_as_their_type_or_deleted_are_not_told(old: str, new: str) -> None:
    assert not [each for each in told(changed(old, new)) if each.startswith("W102")]


def test_the_type_of_a_value_has_to_be_given_and_known() -> None:
    assert "W101 OBX-1-2: OBX-2 is missing, though there is a value" in told(changed("|NM|", "||"))
    assert "W103 OBX-1-2: OBX-2 is no data type of this version" in told(changed("|NM|", "|QQ|"))


def test_no_more_than_fifty_repetitions_of_a_field_are_looked_at() -> None:
    assert len(told(changed("||5|g", "||" + "~".join(["5"] * 50 + ["x"] * 90_000) + "|g"))) == len(told(REPORT.format("2.5.1")))


def test_no_more_than_fifty_faults_are_told() -> None:
    assert len(told(REPORT.format("2.5.1") + "OBX|x|NM|||y\r" * 500)) == 50


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("2.5.1", "2.5.1"),
        (" 2.3 ", "2.3"),
        ("", "2.5.1"),
        ("2.9", "2.8.2"),
        ("2.7.1", "2.7"),
        ("2.5.2", "2.5.1"),
        ("v2.4", "2.4"),
        ("2", "2.1"),
        ("1.0", "2.1"),
        ("3", "2.8.2"),
        ("D", "2.5.1"),
    ],
)
def test_a_version_that_is_not_known_is_read_as_the_last_before_it(written: str, version: str) -> None:
    assert nearest(written) == version


def test_versions_are_compared_as_numbers() -> None:
    assert since("2.5.1", "2.5")
    assert not since("2.3.1", "2.4")


@pytest.mark.parametrize(
    "text", ["2024", "202402", "20240229", "2024022912", "202402291230", "20240229123059.1234+0130", "2024+0100", "20240229-0500"]
)
def test_moments_of_any_precision_are_good(text: str) -> None:
    assert formats.moment(text)


@pytest.mark.parametrize(
    "text", ["", "24", "202413", "20230229", "2024022924", "20240229126", "00000230", "2024-02-29", "20240229123059.12345", "20240229+9900"]
)
def test_moments_that_never_were_are_not(text: str) -> None:
    assert not formats.moment(text)
