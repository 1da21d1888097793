"""The files of `mappings/`: what a fault in them is answered with, and how a site puts rows of its own in the place of ours."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fhir_server.hl7v2.mapping import Converter, MappingFault
from fhir_server.hl7v2.mapping.convert import FOLDER
from fhir_server.hl7v2.text.message import read
from fhir_server.spec import r4

HEADS = {
    "message": "row,at,if,resource,map,link,key",
    "segment": "row,from,if,to,map,table,value",
    "datatype": "row,from,if,to,map,table,value",
    "table": "row,code,to,system,display",
}
MESSAGE = (
    b"MSH|^~\\&|LAB|LAB1|||20260102||ORU^R01|1|P|2.5\r"
    b"PID|1||7^^^HOSP^MR||Doe^Jane||19800101|X\r"
    b"OBR|1|P|F|GLU^Glucose^L|||20260102|||||||||||||||20260102101500|||F\r"
    b"OBX|1|NM|2345-7^Glucose^LN||95|mg/dL||H~QQ|||F\r"
    b"ZLB|1|anything\r"
)


def site(folder: Path, kind: str, name: str, *rows: str) -> Path:
    (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / kind / f"{name}.csv").write_text("\n".join([HEADS[kind], *rows]) + "\n")
    return folder


@pytest.mark.parametrize(
    ("kind", "name", "row", "said"),
    [
        ("segment", "PID-Patient", "x,PID-5,,names,XPN[HumanName],,", "segment/PID-Patient.csv:2: Patient has no element 'names'"),
        ("segment", "PID-Patient", "x,PID-5,,name,XPM[HumanName],,", "there is no map 'XPM[HumanName]'"),
        ("segment", "PID-Patient", "x,PID-5,,name,XAD[Address],,", "makes a Address"),
        ("segment", "PID-Patient", "x,PID-8,,gender,code,0078,", "table 0078 makes '<' of '<', which gender does not allow"),
        ("segment", "PID-Patient", "x,PID-8,,gender,code,9999,", "there is no table '9999'"),
        ("segment", "PID-Patient", "x,,,gender,,,woman", "'woman' is no code that gender allows"),
        ("segment", "PID-Patient", "x,PID-5,if PID-5,name,XPN[HumanName],,", "is no condition"),
        ("segment", "PID-Patient", "x,PID5,,name,XPN[HumanName],,", "'PID5' is no field"),
        ("segment", "PID-Patient", "x,CX.1,,identifier.value,string,,", "'CX.1' is no field"),
        ("datatype", "CWE-CodeableConcept", "x,OBX-5,,text,string,,", "'OBX-5' is no component"),
        ("datatype", "CWE-CodeableConcept", "x,CWE.2,SPM present,text,string,,", "there are no segments in a data type"),
        ("segment", "PID-Patient", "x,,,gender,,,", "a row needs a field or a value"),
        ("segment", "PID-Patient", "x,PID-5,,name,XPN[HumanName],,,more", "8 cells"),
        ("segment", "PID-Somebody", "x,PID-5,,name,XPN[HumanName],,", "a type of FHIR"),
        ("message", "ORU_R01", "x,PATIENT.Z,,Patient,PID[Patient],,", "is no place of a segment"),
        ("message", "ORU_R01", "x,PATIENT.PID,,Patient,PID[Person],,", "there is no map"),
        ("message", "ORU_R01", "x,PATIENT.PID,,Patient,PID[Patient],subjects=Patient,", "no element 'subjects'"),
        ("message", "ORU_R01", "x,PATIENT_RESULT.PATIENT.NK1*,,report,left out,,", "to report needs a code of table 0357"),
        ("segment", "OBX-Observation", "x,,,status,,,?woman", "'woman' is no code that status allows"),
        ("table", "0001", "x,,male,,", "a code of its own"),
        ("table", "message-structure", "x,ORU^R99,ORU_R99,,", "there is no such file"),
    ],
)
def test_a_fault_is_named_with_its_file(tmp_path: Path, kind: str, name: str, row: str, said: str) -> None:
    with pytest.raises(MappingFault, match=re.escape(said)) as raised:
        Converter(r4(), site(tmp_path, kind, name, row))
    assert f"{kind}" in str(raised.value)


def test_a_wrong_head_and_a_double_name_are_faults_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "0001.csv").write_text("code,to\nF,female\n")
    with pytest.raises(MappingFault, match=r"table/0001.csv:1: the first line has to be row,code,to,system,display"):
        Converter(r4(), tmp_path)
    site(tmp_path, "table", "0001", "x,X,other,,", "# a remark", "", "x,Y,other,,")
    with pytest.raises(MappingFault, match=r"table/0001.csv:5: the row 'x' is there twice"):
        Converter(r4(), tmp_path)


def test_a_site_replaces_one_row_adds_another_and_takes_one_away(tmp_path: Path) -> None:
    site(tmp_path, "table", "0001", "clinic:x,X,other,http://hl7.org/fhir/administrative-gender,Other")
    site(tmp_path, "segment", "PID-Patient", "PID[Patient]:10,,,,,,", "PID[Patient]:7,PID-5.1,,name[only].text,string,,")
    before, after = (Converter(r4(), folder).convert(read(MESSAGE), ZoneInfo("UTC")) for folder in (None, tmp_path))
    patient, other = before.made[0].resource, after.made[0].resource
    assert (patient["name"], patient["birthDate"], "gender" in patient) == ([{"family": "Doe", "given": ["Jane"]}], "1980-01-01", False)
    assert (other["name"], "birthDate" in other, other["gender"]) == ([{"text": "Doe"}], False, "other")


def test_what_no_table_has_is_kept_and_reported_and_what_no_map_takes_is_named() -> None:
    converted = Converter(r4()).convert(read(MESSAGE), ZoneInfo("UTC"))
    observation = next(made.resource for made in converted.made if made.type == "Observation")
    first, second = (each["coding"][0] for each in observation["interpretation"])
    assert (first["code"], first["system"]) == ("H", "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation")
    assert second == {"code": "QQ", "system": "http://terminology.hl7.org/CodeSystem/v2-0078"}
    assert [(fault.segment, fault.field, fault.severity) for fault in converted.faults] == [("PID", 8, "W"), ("OBX", 8, "W")]
    assert [segment.name for segment in converted.unhandled] == ["ZLB"]


def test_fields_that_no_row_is_about_are_named(tmp_path: Path) -> None:
    """Race and a probability are read by no map, IN2-5 neither; a row of a site takes one off the list."""
    raw = MESSAGE.replace(b"|X\rOBR", b'|X||2106-3^White|||||||||||||||""|||N^No|\rNK1|1\rOBR').replace(b"H~QQ|||F", b"H~QQ|0.9||F||||||||||||")
    assert Converter(r4()).unread(read(raw)) == ["PID-10", "OBX-9"]
    admitted = raw.replace(b"ORU^R01", b"ADT^A01") + b"IN1|1|GOLD\rIN2|||||PAYER|M7\rZIN|1|x\r"
    assert Converter(r4()).unread(read(admitted)) == ["PID-10", "OBX-9", "IN2-5"]
    with_race = site(tmp_path, "segment", "PID-Patient", "site:race,PID-10.2,,extension[race](https://a.example/race).valueString,string,,")
    assert Converter(r4(), with_race).unread(read(raw)) == ["OBX-9"]
    assert Converter(r4()).unread(read(raw.replace(b"ORU^R01", b"ORU^R99"))) == []


def test_every_row_says_where_it_is_from() -> None:
    for path in FOLDER.glob("*/*.csv"):
        with path.open() as lines:
            for row in csv.reader(lines):
                assert row[0] == "row" or re.fullmatch(r"[A-Za-z0-9_]+(\[[A-Za-z0-9.\- ]+\])?:[0-9]+[a-z]?|clinic:\S+", row[0]), (
                    f"{path.name}: {row[0]}"
                )
