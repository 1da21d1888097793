from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hl7apy.parser import parse_message

from fhir_server.hl7v2.mapping import MappingFault
from fhir_server.hl7v2.outbound.compose import Composer, Unsendable
from fhir_server.hl7v2.outbound.maps import FOLDER, Maps
from fhir_server.hl7v2.outbound.peers import VERSIONS
from fhir_server.hl7v2.outbound.writer import segment
from fhir_server.hl7v2.text.message import Message
from fhir_server.hl7v2.text.message import read as read_message
from tests.hl7v2.outbound.world import APPOINTMENT, NOW, OBSERVATIONS, ORDER, PATIENT, REPORT, Json, peer, read

MERGED: Json = {**PATIENT, "id": "p2", "active": False, "link": [{"type": "replaced-by", "other": {"reference": "Patient/p1"}}]}
CASES = {
    "S12": APPOINTMENT,
    "A28": PATIENT,
    "A40": {**MERGED, "identifier": [{"system": "urn:oid:1.2", "value": "old"}]},
    "O21": ORDER,
    "R01": REPORT,
}

# What hl7apy holds against messages that are in order: fields that a version has withdrawn, fields that are required under conditions, and groups of
# which one is to be chosen. Some structures it does not have, or has broken: TQ1 of 2.7.
UNKNOWN = {("2.3", "A28"), ("2.3.1", "A28"), ("2.3", "A40"), ("2.7", "O21"), ("2.7", "S12")}
MISTAKEN = re.compile(r"\[None\]|OBX_4|ORM_O01_CHOICE|ORDER_DOCUMENT|COMMON_ORDER")


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(ZoneInfo("Europe/Berlin"))


def composed(composer: Composer, event: str, resource: Json, before: Json | None = None, **fields: Any) -> Message:
    made = composer.compose(peer(**fields), event, resource, before, read, "CTRL1", NOW)
    return read_message(made.message)


def fields_of(message: Message, name: str) -> list[list[str]]:
    return [segment.fields for segment in message.segments if segment.name == name]


@pytest.mark.parametrize(("version", "event"), [(version, event) for version in VERSIONS for event in CASES if (version, event) not in UNKNOWN])
def test_messages_of_every_version_keep_to_its_grammar(composer: Composer, version: str, event: str, tmp_path: Path) -> None:
    made = composer.compose(peer(version=version), event, CASES[event], None, read, "CTRL1", NOW)
    text = made.message.decode()
    parsed = parse_message(text, find_groups=True)
    assert len(parsed.to_er7().strip("\r").split("\r")) == len(text.strip("\r").split("\r"))
    try:
        parsed.validate(report_file=str(tmp_path / "report"))
    except Exception:  # noqa: BLE001 - what it is stands in the report
        told = (tmp_path / "report").read_text().splitlines()
        assert [line for line in told if line.startswith("Error") and not MISTAKEN.search(line)] == []


def test_the_header_names_both_sides_and_the_character_set(composer: Composer) -> None:
    message = composed(composer, "S12", APPOINTMENT, charset="8859/1", own_application="US", own_facility="HERE")
    header = message.header
    assert (header.sending_application, header.sending_facility) == ("US", "HERE")
    assert (header.receiving_application, header.receiving_facility) == ("LAB", "HILL")
    assert (header.type, header.event, header.structure) == ("SIU", "S12", "SIU_S12")
    assert (header.control_id, header.version, header.charset) == ("CTRL1", "2.5.1", "8859/1")
    assert header.time == "20260301103000+0100"


def test_texts_come_out_as_they_went_in_whatever_characters_they_have(composer: Composer) -> None:
    patient = {**PATIENT, "name": [{"family": "a|b^c&d~e\\f", "given": ["\x0b\x1c\r\n\t\u2028Æ ツ"]}]}
    (fields,) = [segment for segment in composed(composer, "A28", patient).segments if segment.name == "PID"]
    (name,) = fields.repetitions(5)
    assert name.component(1) == "a|b^c&d~e\\f"
    assert name.component(2) == "\nÆ ツ"
    made = composer.compose(peer(charset="8859/1"), "A28", patient, None, read, "CTRL1", NOW)
    assert "Æ ?".encode("latin-1") in made.message


def test_a_patient_has_their_identifiers_with_who_gave_them(composer: Composer) -> None:
    (pid,) = fields_of(composed(composer, "A28", PATIENT), "PID")
    assert pid[3] == "12345^^^&1.2.36.146.595.217.0.1&ISO^MR~A\\F\\7^^^&https://hillside.example.org/patients&URI"
    assert pid[7:9] == ["19900517", "F"]
    assert pid[11] == "12 Hill \\T\\ Dale^2nd floor^Berlin^^10115^DE^H"
    assert pid[13] == "+49 30 1234^PRN^PH~+49 170 99^PRN^CP"
    assert pid[14] == "^NET^Internet^c@example.org"
    bare = {"resourceType": "Patient", "id": "bare"}
    (pid,) = fields_of(composed(composer, "A28", bare), "PID")
    assert (pid[3], pid[5]) == ("bare^^^FHIR-SERVER^PI", "^^^^^^U")


def test_a_merge_names_who_stays_and_who_is_merged(composer: Composer) -> None:
    message = composed(composer, "A40", CASES["A40"])
    assert message.header.structure == "ADT_A39"
    assert fields_of(message, "PID")[0][3].startswith("12345^")
    assert fields_of(message, "MRG")[0][1] == "old^^^&1.2&ISO"
    with pytest.raises(Unsendable):
        composed(composer, "A40", {**MERGED, "link": [{"type": "replaced-by", "other": {"reference": "Patient/gone"}}]})


@pytest.mark.parametrize(("status", "told"), [("pending", "Pending"), ("arrived", "Started"), ("cancelled", "Cancelled"), ("noshow", "Noshow")])
def test_an_appointment_has_its_time_in_the_clinics_zone_and_its_status(composer: Composer, status: str, told: str) -> None:
    message = composed(composer, "S14", {**APPOINTMENT, "status": status})
    (sch,) = fields_of(message, "SCH")
    assert sch[2] == "a1^FHIR-SERVER"
    assert sch[6] == "MODIFIED"
    assert sch[9:12] == ["20", "min", "^^M20^20260302090000+0100^20260302092000+0100"]
    assert sch[25] == f"{told}^^HL70278"
    assert [segment.name for segment in message.segments] == ["MSH", "SCH", "NTE", "NTE", "PID", "RGS", "AIS", "AIL", "AIP"]
    assert fields_of(message, "AIP")[0][3] == "9941339108^Lindqvist^Maja^^^^^^NPI"


@pytest.mark.parametrize(
    ("version", "name", "control", "now", "before"),
    [
        ("2.5.1", "OML^O21", "NW", ORDER, None),
        ("2.4", "ORM^O01", "NW", ORDER, {**ORDER, "status": "draft"}),
        ("2.5.1", "OML^O21", "CA", {**ORDER, "status": "revoked"}, ORDER),
        ("2.5.1", "OML^O21", "CA", None, ORDER),
        ("2.5.1", "OML^O21", "HD", {**ORDER, "status": "on-hold"}, ORDER),
        ("2.5.1", "OML^O21", "RL", ORDER, {**ORDER, "status": "on-hold"}),
        ("2.5.1", "OML^O21", "XO", {**ORDER, "priority": "routine"}, ORDER),
    ],
)
def test_an_order_says_what_becomes_of_it(composer: Composer, version: str, name: str, control: str, now: Json | None, before: Json | None) -> None:
    made = composer.compose(peer(version=version), "O21", now, before, read, "CTRL1", NOW)
    message = read_message(made.message)
    assert made.event == name == f"{message.header.type}^{message.header.event}"
    assert fields_of(message, "ORC")[0][1:3] == [control, "ORD-1^^1.2.3^ISO"]
    assert fields_of(message, "OBR")[0][4] == "58410-2^CBC panel^LN"


def test_results_have_the_type_and_value_that_they_had(composer: Composer) -> None:
    message = composed(composer, "R01", REPORT)
    (obr,) = fields_of(message, "OBR")
    assert obr[2:5] == ["ORD-1^^1.2.3^ISO", "LAB-9", "58410-2^CBC panel^LN"]
    assert (obr[22], obr[24], obr[25]) == ("20260301110000.500+0100", "HM", "F")
    results = [(fields[2], fields[5], fields[6]) for fields in fields_of(message, "OBX")]
    assert results == [
        ("NM", "13.50", "g/dL^g/dL^UCUM"),
        ("SN", "<^5", "mg/L^mg/L^UCUM"),
        ("CWE", "260385009^Negative^SCT^^^^^^negative", ""),
        ("ST", "one \\F\\ two \\S\\ three \\T\\ four \\R\\ five \\E\\ six", ""),
        ("FT", "first line\\.br\\second line", ""),
        ("CWE", "Y^^HL70136", ""),
        ("DT", "20260228", ""),
        ("SN", "^2^-^5", "mm"),
        ("SN", "^1^:^128", ""),
        ("NM", "120", "mmHg"),
        ("NM", "80", "mmHg"),
        ("NM", "7", ""),
        ("TM", "103000", ""),
        ("ED", "FHIR-SERVER^application^pdf^Base64^JVBERi0xLjQK", ""),
    ]
    first, fifth = fields_of(message, "OBX")[0], fields_of(message, "OBX")[4]
    assert (first[7], first[8], first[11], first[14]) == ("12-16", "N", "F", "20260301095000+0100")
    assert fifth[11] == "C"
    assert [fields[4] for fields in fields_of(message, "OBX")][9:12] == ["10.1", "10.2", "11.1"]


@pytest.mark.parametrize(("status", "told"), [("final", "F"), ("corrected", "C"), ("amended", "C"), ("appended", "C"), ("entered-in-error", "X")])
def test_a_report_says_whether_it_was_corrected_or_taken_back(composer: Composer, status: str, told: str) -> None:
    (obr,) = fields_of(composed(composer, "R01", {**REPORT, "status": status}), "OBR")
    assert obr[25] == told


def test_a_coded_result_is_a_ce_for_versions_that_know_no_other(composer: Composer) -> None:
    only_text = {**OBSERVATIONS[2], "valueCodeableConcept": {"text": "negative"}}

    def changed(references: Any) -> Any:
        found = read(references)
        return (
            found if references[0][1] != "o3" else [type(found[0])("Observation", "o3", 1, NOW, "PUT", __import__("json").dumps(only_text).encode())]
        )

    made = composer.compose(peer(version="2.4"), "R01", REPORT, None, changed, "CTRL1", NOW)
    third = fields_of(read_message(made.message), "OBX")[2]
    assert (third[2], third[5]) == ("CE", "^negative")


def test_what_is_about_nobody_cannot_be_sent(composer: Composer) -> None:
    with pytest.raises(Unsendable):
        composed(composer, "S12", {**APPOINTMENT, "participant": APPOINTMENT["participant"][1:]})
    with pytest.raises(Unsendable):
        composed(composer, "R01", {**REPORT, "subject": {"reference": "Patient/gone"}})


def test_members_that_lead_in_a_circle_come_once(composer: Composer) -> None:
    circle = {**OBSERVATIONS[10], "hasMember": [{"reference": "Observation/o11"}, {"reference": "Observation/o12"}]}

    def turning(references: Any) -> Any:
        found = read(references)
        return (
            found if references[0][1] != "o11" else [type(found[0])("Observation", "o11", 1, NOW, "PUT", __import__("json").dumps(circle).encode())]
        )

    report = {**REPORT, "result": [{"reference": "Observation/o11"}], "presentedForm": []}
    made = composer.compose(peer(), "R01", report, None, turning, "CTRL1", NOW)
    assert [fields[5] for fields in fields_of(read_message(made.message), "OBX")] == ["7"]


def test_a_segment_has_no_more_than_its_version_knows() -> None:
    assert segment("2.3", "PID", {3: [["1", "", "", ["A", "1.2", "ISO"], "MR", "x", "20200101"]]}) == "PID|||1^^^A&1.2&ISO^MR^x"
    assert segment("2.3", "OBX", {20: [["site"]]}) == "OBX"
    assert segment("2.5.1", "OBX", {3: [["", "", "", "", "", "", "", "", "only words"]]}) == "OBX|||^only words"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x:1,PID,,id,ST,,", "'PID' is no field of PID"),
        ("x:1,PV1-2,,id,ST,,", "'PV1-2' is no field of PID"),
        ("x:1,PID-3,,id,ST,,both", "either a source or a value"),
        ("x:1,PID-3,,id,QQ,,", "there is no 'QQ'"),
        ("x:1,PID-3,,gender,code,9999,", "there is no table 9999"),
        ("x:1,PID-3,,id(,ST,,", "PID-Patient.csv:2"),
    ],
)
def test_a_fault_in_a_file_is_told_with_its_place(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "outbound").mkdir()
    (tmp_path / "outbound" / "PID-Patient.csv").write_text(f"row,field,if,from,as,table,value\n{line}\n")
    with pytest.raises(MappingFault, match=re.escape(told)) as caught:
        Maps(FOLDER, tmp_path)
    assert "outbound/PID-Patient.csv:2" in str(caught.value)


def test_a_site_puts_rows_of_its_own_in_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "outbound").mkdir()
    (tmp_path / "outbound" / "PID-Patient.csv").write_text("row,field,if,from,as,table,value\nPID[Patient]:13,PID-8,,,,,X\nsite:9,PID-18,,id,ST,,\n")
    maps = Maps(FOLDER, tmp_path)
    from fhir_server.hl7v2.outbound.values import Scene

    text = maps.write("PID-Patient", PATIENT, Scene(peer(), ZoneInfo("UTC"), maps.codes, lambda _: None))
    assert (text.split("|")[8], text.split("|")[18]) == ("X", "p1")
