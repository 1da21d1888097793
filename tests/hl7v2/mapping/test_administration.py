"""Patients, visits, kin, allergies, diagnoses, procedures and insurance: what messages of patient administration become."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.hl7v2.mapping import Converted, Converter
from fhir_server.hl7v2.text import batch
from fhir_server.hl7v2.text.message import read
from fhir_server.spec import r4
from fhir_server.validation import Validator

from .samples import ZONE, only, target
from .samples import message as small
from .test_golden import DATA

Json = dict[str, Any]


def adt(converter: Converter, event: str, *segments: str, evn: str = "EVN|{}|20260102101500+0100") -> Converted:
    """What a message of patient administration becomes; its resources are valid."""
    head, *rest = small(f"ADT^{event}", *segments).decode().split("\r")
    raw = "\r".join([head, evn.format(event), *rest]) if evn else "\r".join([head, *rest])
    converted = converter.convert(read(raw.encode()), ZONE)
    validator = Validator(r4())
    for made in converted.made:
        validator.require(made.resource)
    return converted


def pv1(**fields: str) -> str:
    """PV1 with some fields, `f44` for PV1-44."""
    numbers = {int(name[1:]): value for name, value in fields.items()}
    return "|".join(["PV1", *(numbers.get(number, "") for number in range(1, max(numbers) + 1))])


@pytest.mark.parametrize(
    ("event", "end", "status"),
    [
        ("A01", "", "in-progress"),
        ("A02", "", "in-progress"),
        ("A03", "", "finished"),
        ("A04", "", "in-progress"),
        ("A05", "", "planned"),
        ("A08", "", "unknown"),
        ("A11", "", "cancelled"),
        ("A13", "", "in-progress"),
        ("A31", "", "unknown"),
        ("A01", "20260103", "finished"),
        ("A08", "20260103", "finished"),
        ("A03", "20260103", "finished"),
        ("A05", "20260103", "planned"),
        ("A11", "20260103", "cancelled"),
        ("A13", "20260103", "in-progress"),
    ],
)
def test_the_event_says_what_a_visit_has_come_to(converter: Converter, event: str, end: str, status: str) -> None:
    visit = only(adt(converter, event, pv1(f2="I", f19="V1", f44="20260102", f45=end)), "Encounter")
    assert visit["status"] == status
    assert visit["period"] == {"start": "2026-01-02"} | ({"end": end[:4] + "-01-03"} if end and event != "A13" else {})


@pytest.mark.parametrize(
    ("code", "expected"),
    [("E", "EMER"), ("I", "IMP"), ("O", "AMB"), ("P", "PRENC"), ("R", "R"), ("B", "B"), ("C", "C"), ("N", "N"), ("U", "U"), ("X", "X"), ("", "UNK")],
)
def test_the_class_of_a_visit(converter: Converter, code: str, expected: str) -> None:
    converted = adt(converter, "A01", pv1(f2=code, f19="V1"))
    assert only(converted, "Encounter")["class"]["code"] == expected
    assert [fault.field for fault in converted.faults] == ([2] if code == "X" else [])


def test_where_somebody_is_was_and_will_be(converter: Converter) -> None:
    converted = adt(converter, "A02", pv1(f2="I", f3="W1^R2^B3^HOSP", f6="W0^R1", f11="XR", f19="V1", f42="W9"), "PV2|W8")
    places = {target(converted, each["location"])["name"]: each["status"] for each in only(converted, "Encounter")["location"]}
    assert places == {"W1 R2 B3": "active", "W0 R1": "completed", "XR": "active", "W9": "reserved", "W8": "planned"}
    assert only(adt(converter, "A05", pv1(f2="P", f3="W1", f19="V1")), "Encounter")["location"][0]["status"] == "planned"
    assert only(adt(converter, "A03", pv1(f2="I", f3="W1", f19="V1")), "Encounter")["location"][0]["status"] == "completed"


def test_who_takes_part_in_a_visit(converter: Converter) -> None:
    doctors = {f"f{number}": f"D{number}^Doc{number}^Ann" for number in (7, 8, 9, 17, 52)}
    converted = adt(
        converter, "A01", pv1(f2="I", f19="V1", **doctors), "ROL|1|AD|AT^Attending^HL70443|D99^Last^Bo", "PRT|1|AD||RP^Refers^HL70912|D98^More^Bo"
    )
    found = [
        (each["type"][0]["coding"][0]["code"], target(converted, each["individual"])["identifier"][0]["value"])
        for each in only(converted, "Encounter")["participant"]
    ]
    assert found == [("ATND", "D7"), ("REF", "D8"), ("CON", "D9"), ("ADM", "D17"), ("PART", "D52"), ("ATND", "D99"), ("RP", "D98")]


def test_what_else_is_said_of_a_visit(converter: Converter) -> None:
    segment = pv1(
        f2="I", f4="E", f5="P7^^^HOSP", f10="SUR", f13="R", f14="7", f15="A2", f16="VIP", f19="V1", f36="home", f37="22&Rest home", f38="vegan"
    )
    converted = adt(
        converter, "A03", segment, "PV2|||R10^Cough^L|||||20260101|20260109||4|Check-up|D3^Ref||||||||||||2|||||||||||||A^Ambulance^HL70430"
    )
    visit = only(converted, "Encounter")
    stay = visit["hospitalization"]
    assert (visit["type"][0]["coding"][0]["code"], visit["serviceType"]["coding"][0]["code"], visit["priority"]["coding"][0]["code"]) == (
        "E",
        "SUR",
        "UR",
    )
    assert (stay["preAdmissionIdentifier"]["value"], stay["reAdmission"]["coding"][0]["code"], stay["admitSource"]["coding"][0]["code"]) == (
        "P7",
        "R",
        "7",
    )
    assert (stay["specialArrangement"][0]["coding"][0]["code"], stay["specialCourtesy"][0]["coding"][0]["code"]) == ("wheel", "VIP")
    assert (stay["dischargeDisposition"]["coding"][0]["code"], stay["destination"]["display"], stay["dietPreference"][0]["coding"][0]["code"]) == (
        "home",
        "Rest home",
        "vegan",
    )
    assert [each.get("text") for each in visit["reasonCode"]] == ["Cough", "Check-up"]
    assert (visit["length"]["value"], visit["length"]["code"]) == (4, "d")
    assert [each.get("valueDateTime") or each["valueCoding"]["code"] for each in visit["extension"]] == ["2026-01-01", "2026-01-09", "A"]
    assert visit["participant"][-1]["type"][0]["coding"][0]["code"] == "REF"


@pytest.mark.parametrize(
    ("event", "fields", "account", "numbers"),
    [
        ("A08", {"f19": "V1^^^HOSP^VN"}, "", ["V1"]),
        ("A08", {"f50": "X9^^^HOSP"}, "", ["X9"]),
        ("A08", {}, "K5^^^HOSP^AN", ["K5"]),
        ("A01", {"f44": "202601021015"}, "", None),
        ("A08", {"f44": "202601021015"}, "", []),
        ("A31", {"f2": "N"}, "K5^^^HOSP^AN", []),
    ],
)
def test_a_visit_is_told_by_a_number_or_left_out(
    converter: Converter, event: str, fields: dict[str, str], account: str, numbers: list[str] | None
) -> None:
    segments = small(f"ADT^{event}", pv1(**{"f2": "I", **fields}), "PV2|||R10^Cough^L", "DG1|1||J20^Bronchitis^I10").decode().split("\r")
    segments[1] = "|".join([*segments[1].split("|"), *[""] * 9, account])
    converted = converter.convert(read("\r".join(segments).encode()), ZONE)
    visits = [made for made in converted.made if made.type == "Encounter"]
    if numbers == []:
        assert visits == []
        assert [(fault.segment, fault.severity) for fault in converted.faults] == [("PV1", "I")]
        assert [segment.name for segment in converted.unhandled] == ["PV1", "PV2"]
    elif numbers is None:
        assert visits[0].key == ("202601021015",)
    else:
        assert (visits[0].key, [each["value"] for each in visits[0].resource["identifier"]]) == ("identifier", numbers)
    assert "encounter" in only(converted, "Condition") or not visits


def test_a_discharge_that_is_taken_back_empties_what_it_said(converter: Converter) -> None:
    visit = next(made for made in adt(converter, "A13", pv1(f2="I", f19="V1", f36="home", f45="20260103")).made if made.type == "Encounter")
    assert visit.nulls == {("period", "end"), ("hospitalization", "dischargeDisposition"), ("hospitalization", "destination")}
    assert "period" not in visit.resource


def test_two_quotes_name_the_element_that_is_emptied(converter: Converter) -> None:
    converted = adt(converter, "A08", pv1(f2="I", f19="V1", f36='""', f45='""', f10='""'))
    visit = next(made for made in converted.made if made.type == "Encounter")
    assert visit.nulls == {("period", "end"), ("hospitalization", "dischargeDisposition"), ("serviceType",)}


def test_kin_become_related_persons_and_employers_contacts(converter: Converter) -> None:
    converted = adt(
        converter,
        "A01",
        "PD1|||Clinic^L^77|D1^House^Greg",
        "NK1|1|Doe^John|SPO^Spouse^HL70063|1 Way^^Town|^PRN^PH^^^555^1234|555 9999|N|20200101||||E5^^^HOSP||M|M|19790101||||de",
        "NK1|2|Roe^Ann|EMR^Employer^HL70063||||||||||Works Inc^L^88",
        "NK1|3||E||||||||||Works Ltd|||||||||||||||||Boss^Bo|555 1",
        "NK1|4||OTH||||||||||Kindergarten|||||||||||||||||Teach^Er|555 2",
        "NK1|5||SPO",
    )
    kin, other = (made.resource for made in converted.made if made.label == "Kin")
    assert (kin["name"][0]["family"], kin["gender"], kin["birthDate"], kin["communication"][0]["language"]["coding"][0]["code"]) == (
        "Doe",
        "male",
        "1979-01-01",
        "de",
    )
    assert [each["coding"][0]["code"] for each in kin["relationship"]] == ["SPS", "N"]
    assert [each.get("use") for each in kin["telecom"]] == ["home", "work"]
    assert (other["name"], other["telecom"][0]["value"]) == ([{"text": "Kindergarten"}, {"family": "Teach", "given": ["Er"]}], "555 2")
    person = next(made.resource for made in converted.made if made.type == "Patient")
    assert [each["organization"]["display"] for each in person["contact"]] == ["Works Inc", "Works Ltd"]
    assert person["contact"][1]["name"] == {"family": "Boss", "given": ["Bo"]}
    assert [target(converted, each)["resourceType"] for each in person["generalPractitioner"]] == ["Organization", "Practitioner"]
    assert [segment.sequence for segment in converted.unhandled] == [5], "a kin of whom nothing is said but the relationship"


def test_the_practitioner_of_a_patient_comes_by_role_too(converter: Converter) -> None:
    converted = adt(
        converter,
        "A01",
        "ROL|1|AD|PP^Primary^HL70443|D1^House^Greg",
        "PRT|1|AD||PP^Primary^HL70912|D2^Wilson^J",
        "ROL|2|AD|AT|D3^Other^X",
        pv1(f2="I", f19="V1"),
    )
    person = next(made.resource for made in converted.made if made.type == "Patient")
    assert [target(converted, each)["identifier"][0]["value"] for each in person["generalPractitioner"]] == ["D1", "D2"]
    assert "participant" not in only(converted, "Encounter")


def test_a_mother_is_known_by_her_number(converter: Converter) -> None:
    raw = small("ADT^A01").decode() + "|" * 13 + "M9^^^HOSP^MR"
    mother = only(converter.convert(read(raw.encode()), ZONE), "RelatedPerson")
    assert (mother["identifier"][0]["value"], mother["relationship"][0]["coding"][0]["code"]) == ("M9", "MTH")


@pytest.mark.parametrize(
    ("kind", "severity", "category", "criticality"),
    [
        ("DA", "SV", "medication", "high"),
        ("FA", "MI", "food", "low"),
        ("EA", "U", "environment", None),
        ("AA", "", "biologic", None),
        ("MC", "MO", None, None),
    ],
)
def test_allergies(converter: Converter, kind: str, severity: str, category: str | None, criticality: str | None) -> None:
    allergy = only(adt(converter, "A01", f"AL1|1|{kind}|PEN^Penicillin^L|{severity}|Rash~Cough|20200101"), "AllergyIntolerance")
    assert allergy.get("category") == ([category] if category else None)
    assert allergy.get("criticality") == criticality
    assert [each["manifestation"][0]["text"] for each in allergy["reaction"]] == ["Rash", "Cough"]
    assert allergy["reaction"][0].get("severity") == ("moderate" if severity == "MO" else None)
    assert (allergy["onsetDateTime"], allergy["clinicalStatus"]["coding"][0]["code"]) == ("2020-01-01", "active")


@pytest.mark.parametrize(
    ("action", "status", "clinical", "verification"),
    [
        ("A", "C", "active", "confirmed"),
        ("A", "", "active", None),
        ("U", "I", "inactive", "confirmed"),
        ("A", "U", "active", "unconfirmed"),
        ("D", "C", None, "entered-in-error"),
        ("U", "E", None, "entered-in-error"),
    ],
)
def test_allergies_with_an_action(converter: Converter, action: str, status: str, clinical: str | None, verification: str | None) -> None:
    segment = f"IAM|1|DA|PEN^Penicillin^L|SV|RASH^Rash^L|{action}|A7^HOSP|||||since May|20200101|Doe^John|||{status}"
    made = next(made for made in adt(converter, "A01", segment).made if made.type == "AllergyIntolerance")
    allergy = made.resource
    assert allergy.get("clinicalStatus", {}).get("coding", [{}])[0].get("code") == clinical
    assert allergy.get("verificationStatus", {}).get("coding", [{}])[0].get("code") == verification
    assert (("clinicalStatus",) in made.nulls) is (clinical is None)
    assert (allergy["onsetString"], allergy["recordedDate"], allergy["recorder"]["display"]) == ("since May", "2020-01-01", "John Doe")
    assert made.key == ("A7",)


def test_diagnoses_are_of_the_visit(converter: Converter) -> None:
    converted = adt(
        converter,
        "A01",
        pv1(f2="I", f19="V1"),
        "DG1|1||J20^Bronchitis^I10||20260101|A|||||||||2|D1^House^G",
        "DG1|2|I9|71596^Arthrosis|knee||W",
        "DG1|3|||Only words||F",
        "DG1|4||Z1^Wrong^L|||||||||||||||||D4|D",
    )
    found = [made.resource for made in converted.made if made.type == "Condition"]
    assert [each["code"].get("text") for each in found] == ["Bronchitis", "knee", "Only words", "Wrong"]
    assert found[1]["code"]["coding"] == [{"code": "71596", "display": "Arthrosis", "system": "http://hl7.org/fhir/sid/icd-9-cm"}]
    assert found[3]["verificationStatus"]["coding"][0]["code"] == "entered-in-error"
    assert "clinicalStatus" not in found[3]
    diagnoses = only(converted, "Encounter")["diagnosis"]
    assert [(target(converted, each["condition"])["code"]["text"], each["use"]["coding"][0]["code"], each.get("rank")) for each in diagnoses] == [
        ("Bronchitis", "AD", 2),
        ("knee", "W", None),
        ("Only words", "F", None),
    ]


@pytest.mark.parametrize(("event", "when", "status"), [("A01", "20260102", "completed"), ("A01", "", "unknown"), ("A05", "20260102", "preparation")])
def test_procedures(converter: Converter, event: str, when: str, status: str) -> None:
    procedure = only(
        adt(
            converter,
            event,
            f"PR1|1||44950^Appendectomy^C4|Appendix|{when}|D||A1^Gas^Ann|||S1^Cut^Bo|P1^Help^Cy|||R10^Pain^L||||PR7^HOSP||||OT^2||PR6^HOSP",
        ),
        "Procedure",
    )
    assert procedure["status"] == status
    assert procedure["code"]["text"] == "Appendix"
    assert [each.get("function", {}).get("coding", [{}])[0].get("code") for each in procedure["performer"]] == ["88189002", "304292004", None]
    assert procedure["partOf"][0]["identifier"]["value"] == "PR6"
    timed = only(adt(converter, "A01", "PR1|1||44950^Appendectomy^C4||202601021015+0100||90"), "Procedure")
    assert timed["performedPeriod"] == {"start": "2026-01-02T10:15:00+01:00", "end": "2026-01-02T11:45:00+01:00"}


def test_insurance_becomes_coverage_with_payor_and_subscriber(converter: Converter) -> None:
    converted = adt(
        converter,
        "A01",
        "IN1|1|GOLD^Gold plan|77^^^HOSP|Big Insurer|1 Way^^Town||555 1|G1|Group One||Works Inc|20260101|20261231||HMO|Doe^John|SPO^Spouse|19790101"
        "|1 Way^^Town|||1||||||||||||||P-1|||||||M||||||S-1",
        "IN3|1||||N",
        "IN1|2|SILVER|||||||||||||||SEL||||||||||||||||||||||||||||||||",
        "IN1|3|X||||||||2^^^HOSP^SN|||||||SEL",
    )
    first, second, third = (made.resource for made in converted.made if made.type == "Coverage")
    assert target(converted, first["payor"][0])["name"] == "Big Insurer"
    assert target(converted, first["subscriber"])["name"][0]["family"] == "Doe"
    assert (first["subscriberId"], first["identifier"][0]["value"], first["order"], first["period"]["end"]) == ("S-1", "P-1", 1, "2026-12-31")
    assert [(each["type"]["coding"][0]["code"], each["value"]) for each in first["class"]] == [("plan", "GOLD"), ("group", "G1")]
    assert (second["payor"][0]["display"], target(converted, second["subscriber"])["resourceType"]) == ("SILVER", "Patient")
    assert third["subscriberId"] == "2"
    assert [segment.name for segment in converted.unhandled] == ["IN3"]


def segment(name: str, **fields: str) -> str:
    """A segment with some fields, `f44` for its 44th."""
    return pv1(**fields).replace("PV1", name, 1)


INSURED_BY_SPOUSE = segment("IN1", f2="GOLD^Gold plan", f3="77^^^HOSP", f4="Big Insurer", f16="Doe^John", f17="SPO^Spouse")


def test_more_of_insurance_is_of_the_coverage_the_insured_and_the_insurer(converter: Converter) -> None:
    more = {"f1": "E7^^^WORKS", "f2": "123-45-6789", "f6": "1EG4", "f8": "CASE 8", "f10": "MIL 10", "f25": "P25^^^NAIC", "f26": "S-26", "f34": "de"}
    more |= {"f58": "^WPN^PH^^^555^1234", "f61": "M-61^^^BIG^MB", "f63": "555-1", "f64": "555-2", "f70": "Works Inc^^77", "f72": "04"}
    converted = adt(converter, "A01", INSURED_BY_SPOUSE, segment("IN2", **more))
    coverage = only(converted, "Coverage")
    numbers = {each["type"]["coding"][0]["code"]: each["value"] for each in coverage["identifier"]}
    assert numbers == {"MB": "M-61", "MC": "1EG4", "MA": "CASE 8", "MI": "MIL 10"}
    assert (coverage["subscriberId"], coverage["policyHolder"]["display"]) == ("S-26", "Works Inc")
    assert coverage["relationship"]["coding"][0]["code"] == "SPS", "what IN1 says comes first"
    insured = target(converted, coverage["subscriber"])
    assert {each["type"]["coding"][0]["code"]: each["value"] for each in insured["identifier"]} == {"EI": "E7", "SS": "123-45-6789"}
    assert [(each["use"], each["value"]) for each in insured["telecom"]] == [("home", "555-1"), ("work", "555-2")]
    assert insured["communication"][0]["language"]["coding"][0]["code"] == "de"
    insurer = target(converted, coverage["payor"][0])
    assert ([each["value"] for each in insurer["identifier"]], insurer["contact"][0]["telecom"][0]["value"]) == (["77", "P25"], "555 1234")
    assert converted.unhandled == []


@pytest.mark.parametrize("self_", ["SEL", "18", "01"])
def test_who_is_insured_by_themselves_has_the_employee_number_on_the_coverage(converter: Converter, self_: str) -> None:
    """On the patient it would be a number that later messages know somebody by."""
    in1 = segment("IN1", f2="GOLD", f10="S-10^^^BIG^SN", f17=self_)
    converted = adt(converter, "A01", in1, segment("IN2", f1="E7", f3="9^Works Inc", f26="S-26"))
    coverage = only(converted, "Coverage")
    assert [(each["type"]["coding"][0]["code"], each["value"]) for each in coverage["identifier"]] == [("EI", "E7")]
    assert (coverage["subscriberId"], coverage["policyHolder"]) == ("S-10", {"display": "Works Inc"})
    assert target(converted, coverage["subscriber"])["resourceType"] == "Patient"
    assert [each["value"] for each in only(converted, "Patient")["identifier"]] == ["7"]


def test_how_patient_and_insured_are_related_is_told_by_in2_where_in1_does_not(converter: Converter) -> None:
    coverage = only(adt(converter, "A01", segment("IN1", f2="GOLD"), segment("IN2", f69="Guild^^5", f72="18")), "Coverage")
    assert [each["code"] for each in coverage["relationship"]["coding"]] == ["parent"]
    assert coverage["policyHolder"]["display"] == "Guild"


def test_an_authorisation_is_an_answer_of_the_insurer_to_no_claim(converter: Converter) -> None:
    refused = segment("IN3", f2="A-2", f6="20260102101500+0100", f12="NC^Not covered", f26="OP^Outpatient^L")
    converted = adt(converter, "A01", INSURED_BY_SPOUSE, segment("IN3", f2="A-1^^^BIG", f9="20260101", f10="20260331", f21="Mary Manager"), refused)
    first, second = (made.resource for made in converted.made if made.type == "ClaimResponse")
    assert (first["use"], first["preAuthRef"], first["created"]) == ("preauthorization", "A-1", "2026-01-01")
    assert first["preAuthPeriod"] == {"start": "2026-01-01", "end": "2026-03-31"}
    assert target(converted, first["insurance"][0]["coverage"])["resourceType"] == "Coverage"
    assert target(converted, first["insurer"])["name"] == "Big Insurer"
    assert "request" not in first
    assert (second["disposition"], second["type"]["text"], second["created"]) == ("Not covered", "Outpatient", "2026-01-02T10:15:00+01:00")
    (manager,) = only(converted, "CareTeam")["participant"]
    assert (manager["member"]["display"], manager["role"][0]["text"]) == ("Mary Manager", "case manager")


@pytest.mark.parametrize(("in1", "insurer"), [(segment("IN1", f2="GOLD^Gold plan"), "Gold plan"), (segment("IN1", f2="GOLD"), "GOLD"), ("", None)])
def test_an_authorisation_of_an_insurer_who_is_not_named_goes_by_the_plan(converter: Converter, in1: str, insurer: str | None) -> None:
    converted = adt(converter, "A01", *([in1] if in1 else []), segment("IN3", f2="A-1"))
    assert [each.resource["insurer"]["display"] for each in converted.made if each.type == "ClaimResponse"] == ([insurer] if insurer else [])
    assert [each.name for each in converted.unhandled] == ([] if insurer else ["IN3"])


def test_a_segment_that_is_taken_elsewhere_and_has_no_place_where_it_stands_is_a_warning(converter: Converter) -> None:
    converted = adt(converter, "A01", pv1(f2="I", f19="V1"), "PID|2||8^^^HOSP^MR||Roe^Rita", "ZZZ|1")
    assert [(fault.code, fault.place, fault.severity) for fault in converted.faults] == [("100", ("PID", "2"), "W")]
    assert [segment.name for segment in converted.unhandled] == ["PID", "ZZZ"]


def test_observations_and_what_has_no_place_in_the_record(converter: Converter) -> None:
    converted = adt(
        converter,
        "A01",
        pv1(f2="I", f19="V1"),
        "OBX|1|NM|8302-2^Height^LN||190|cm^cm^UCUM|||||F",
        "OBX|2|NM|8867-4^Rate^LN||60~70|/min^/min^UCUM|||||F",
        "GT1|1",
        "ACC|1",
        "ZPI|1",
    )
    first, second = (made.resource for made in converted.made if made.type == "Observation")
    assert target(converted, first["encounter"])["resourceType"] == "Encounter"
    assert [each["valueQuantity"]["value"] for each in second["component"]] == [60, 70]
    assert {segment.name for segment in converted.unhandled} == {"GT1", "ACC", "ZPI"}


def test_people_and_animals_of_other_countries(converter: Converter) -> None:
    raw = (
        small("ADT^A28").decode() + "|" * 18 + "DE^Germany^ISO3166_1~FR||AT^Austria^ISO3166_1|||||||125097000^Goat^SCT|4880003^Beagle^SCT|||7^Creek^L"
    )
    person = only(converter.convert(read(raw.encode()), ZONE), "Patient")
    Validator(r4()).require(person)
    said = [
        (each["url"].rpartition("-")[2], [inner["valueCodeableConcept"]["coding"][0]["code"] for inner in each["extension"]])
        for each in person["extension"]
    ]
    assert said == [
        ("citizenship", ["DE"]),
        ("citizenship", ["FR"]),
        ("nationality", ["AT"]),
        ("animal", ["125097000", "4880003"]),
        ("citizenship", ["7"]),
    ]


def test_an_event_that_only_evn_names_is_the_event(converter: Converter) -> None:
    head, *rest = small("ADT^A03", "EVN|A03|20260102", pv1(f2="I", f19="V1")).decode().replace("ADT^A03", "ADT").split("\r")
    found = read("\r".join([head, *rest]).encode())
    assert converter.structure_of(found) == "ADT_A03"
    assert only(converter.convert(found, ZONE), "Encounter")["status"] == "finished"


def test_a_batch_of_two_real_messages_becomes_two_visits_of_one_patient(converter: Converter) -> None:
    found = batch.split(next(DATA.glob("p43_*.hl7")).read_bytes())
    one, other = (converter.convert(read(raw), ZONE) for raw in found.messages)
    assert one.structure == "ADT_A01"
    for converted in (one, other):
        patient, visit = converted.made
        assert patient.resource["identifier"][0]["value"] == "0000112234"
        assert (visit.key, visit.resource["status"], visit.resource["class"]["code"]) == (("20060705000000",), "in-progress", "AMB")
        Validator(r4()).require(visit.resource)
