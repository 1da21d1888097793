from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message as Parsed
from hl7apy.parser import parse_segments
from hl7apy.validation import Validator
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.hl7v2.text.acknowledge import Code, acknowledgement, enhanced, wanted
from fhir_server.hl7v2.text.faults import CONDITIONS, Fault
from fhir_server.hl7v2.text.message import Message, read
from fhir_server.hl7v2.text.versions import VERSIONS, nearest
from tests.hl7v2.samples import ADMIT, MESSAGES

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
FAULTS = [
    Fault("103", "A code | that ^ is ~ not \\ known & more", "PID", 1, 8, severity="W"),
    Fault("101", "PID-3 is missing", "PID", 1, 3, 2, 4, diagnostic="second repetition", application="no-identifier"),
]
CODES: list[Code] = ["AA", "AE", "AR", "CA", "CE", "CR"]


def asked(version: str = "2.5.1", kind: str = "ADT^A01", acks: str = "|", charset: str = "", mark: str = "^~\\&") -> Message:
    return read(f"MSH|{mark}|SA|SF^1.2^ISO|RA|RF|20240101||{kind}|C-1|T|{version}|||{acks}||{charset}\rPID|1||7\r".encode())


def answer(message: Message | None, code: Code, faults: list[Fault] | None = None, raw: bytes = b"") -> list[list[str]]:
    text = acknowledgement(message, raw, code, faults or [], control_id="OURS1", now=NOW).decode()
    assert text.endswith("\r")
    return [line.split("|") for line in text[:-1].split("\r")]


def test_sender_and_receiver_are_swapped_and_what_has_to_be_repeated_is() -> None:
    msh, msa = answer(asked(), "AA")
    assert msh == ["MSH", "^~\\&", "RA", "RF", "SA", "SF^1.2^ISO", "20240506070809+0200", "", "ACK^A01^ACK", "OURS1", "T", "2.5.1"]
    assert msa == ["MSA", "AA", "C-1"]


@pytest.mark.parametrize(
    ("version", "kind"),
    [("2.1", "ACK^A01"), ("2.3", "ACK^A01"), ("2.3.1", "ACK^A01^ACK"), ("2.8", "ACK^A01^ACK"), ("2.9", "ACK^A01^ACK"), ("", "ACK^A01^ACK")],
)
def test_the_type_has_the_parts_that_its_version_knows(version: str, kind: str) -> None:
    assert answer(asked(version), "AA")[0][8] == kind


def test_a_message_without_an_event_is_answered_without_one() -> None:
    assert answer(asked(kind="ORU"), "AA")[0][8] == "ACK"


def test_a_version_that_is_missing_is_given_and_one_that_is_new_repeated() -> None:
    assert [answer(asked(version), "AA")[0][11] for version in ("", "2.9", "2.5^ITA")] == ["2.5.1", "2.9", "2.5^ITA"]


def test_from_2_5_on_each_fault_is_a_segment_errors_first() -> None:
    _, msa, *errors = answer(asked(), "AE", FAULTS)
    assert msa == ["MSA", "AE", "C-1"]
    assert errors == [
        ["ERR", "", "PID^1^3^2^4", "101^Required field missing^HL70357", "E", "no-identifier", "", "second repetition", "PID-3 is missing"],
        ["ERR", "", "PID^1^8", "103^Table value not found^HL70357", "W", "", "", "", "A code \\F\\ that \\S\\ is \\R\\ not \\E\\ known \\T\\ more"],
    ]


def test_before_2_5_all_faults_are_in_one_segment_and_the_first_is_told() -> None:
    _, msa, error = answer(asked("2.3"), "AE", FAULTS)
    assert msa == ["MSA", "AE", "C-1", "PID-3 is missing"]
    assert error == ["ERR", "PID^1^3^101&Required field missing&HL70357~PID^1^8^103&Table value not found&HL70357"]
    assert answer(asked("2.1"), "AE", FAULTS)[2] == ["ERR", "101~103"]
    assert answer(asked("2.3"), "AE", [Fault("207", "Busy")])[2] == ["ERR", "^^^207&Application error&HL70357"]


def test_the_separators_and_the_character_set_are_those_of_the_message() -> None:
    message = read("MSH$*+?!$Müller$SF$RA$RF$2024$$ADT*A01$C?F?1$P$2.5$$$$$$8859/1\rPID$1\r".encode("latin-1"))
    lines = acknowledgement(message, b"", "AE", FAULTS, control_id="O$1", now=NOW).decode("latin-1").split("\r")
    assert lines[0] == "MSH$*+?!$RA$RF$Müller$SF$20240506070809?R?0200$$ACK*A01*ACK$O?F?1$P$2.5$$$$$$8859/1"
    assert lines[1] == "MSA$AE$C?F?1"
    assert lines[2].startswith("ERR$$PID*1*3*2*4$101*Required field missing*HL70357$E$")


def test_wide_messages_are_answered_wide() -> None:
    message = read("MSH|^~\\&|山|B|C|D|2024||ADT^A01|1|P|2.5\rPID|1\r".encode("utf-16-le"))
    assert "|山|" in acknowledgement(message, b"", "AA", control_id="1", now=NOW).decode("utf-16-le")


def test_a_message_with_very_many_faults_is_answered_with_the_gravest() -> None:
    faults = [Fault("102", "x" * 1000, "OBX", number, 5, severity="W") for number in range(1, 500)] + [Fault("101", "grave")]
    errors = answer(asked(), "AE", faults)[2:]
    assert (len(errors), errors[0][8], len(errors[1][8])) == (20, "grave", 250)


def test_an_acknowledgement_is_never_acknowledged() -> None:
    message = read(b"MSH|^~\\&|A|B|C|D|2024||ACK^A01^ACK|1|P|2.5|||AL|AL\rMSA|AA|1\r")
    assert not any(wanted(message, code) for code in CODES)
    assert acknowledgement(message, b"", "AA", control_id="1", now=NOW) == b""
    assert acknowledgement(None, b"MSH|^~\\&|A|B|C|D|2024||ACK|1\xff|P|2.5\r", "AR", control_id="1", now=NOW) == b""


@pytest.mark.parametrize(
    ("conditions", "codes"),
    [
        ("|", "AA AE AR"),
        ("AL|AL", "AA AE AR CA CE CR"),
        ("AL|NE", "CA CE CR"),
        ("NE|NE", ""),
        ("ER|AL", "AA AE AR CE CR"),
        ("SU|ER", "AE AR CA"),
        ("AL|", "CA CE CR"),
        ("|AL", "AA AE AR"),
        ("al|ne", "CA CE CR"),
        ("XX|Y", "AA AE AR"),
    ],
)
def test_answers_are_wanted_as_msh_15_and_16_say(conditions: str, codes: str) -> None:
    message = asked(acks=conditions)
    assert enhanced(message) == (conditions not in {"|", "XX|Y"})
    assert [code for code in CODES if wanted(message, code)] == codes.split()


def test_an_answer_to_an_order_is_taken_as_stored_and_no_more() -> None:
    message = read(b"MSH|^~\\&|A|B|C|D|2024||ORR^O02|1|P|2.5|||AL|AL\rMSA|AA|1\r")
    assert [code for code in CODES if wanted(message, code)] == ["CA", "CE", "CR"]


def test_bytes_that_are_no_message_are_answered_with_what_can_be_told() -> None:
    raw = b"noise MSH|^~\\&|S\xe9nder|SF|RA|RF|2024||ORU^R01|C-9|P|2.3||||||KLINGON\rPID|1"
    msh, msa = (line.split(b"|") for line in acknowledgement(None, raw, "AR", control_id="1", now=NOW).split(b"\r")[:2])
    assert msh[2:6] == [b"RA", b"RF", b"S\xe9nder", b"SF"]
    assert (msh[8], msh[11], msh[17], msa) == (b"ACK^R01", b"2.3", b"KLINGON", [b"MSA", b"AR", b"C-9"])
    assert answer(None, "AR", [Fault("199", "Nothing")], b"\xff\0GET /")[1:] == [
        ["MSA", "AR", ""],
        ["ERR", "", "", "199^Other HL7 Error^HL70357", "E", "", "", "", "Nothing"],
    ]
    assert answer(None, "AR", [], b"MSHabc")[0][:6] == ["MSH", "^~\\&", "", "", "", ""]


def validated(raw: bytes, version: str) -> Parsed:
    """What hl7apy reads; it raises where the grammar of its version is broken."""
    # Made as its parser does, which looks for a structure ACK_A01 where versions before 2.3.1 have no third part in MSH-9.
    found = Parsed("ACK", version=version, validation_level=VALIDATION_LEVEL.TOLERANT)
    found.children = parse_segments(raw.decode(), version, validation_level=VALIDATION_LEVEL.TOLERANT)
    Validator.validate(found)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("code", CODES)
def test_answers_hold_against_the_grammar_of_each_version(version: str, code: Code) -> None:
    faults = [Fault(condition, "Why", "OBX", 2, 5, 1, 1) for condition in CONDITIONS] if code[1] != "A" else []
    for kind in ("ADT^A01", "ORU^R01^ORU_R01"):
        raw = acknowledgement(asked(version, kind), b"", code, faults, control_id="OURS1", now=NOW)
        # The facility has no parts before 2.3. In 2.1 hl7apy wants a second component of each time, which the standard has not.
        raw = raw.replace(b"SF^1.2^ISO", b"SF").replace(b"|20240506070809|", b"||")
        found = validated(raw, version)
        assert (found.msa.msa_1.value, found.msa.msa_2.value) == (code, "C-1")


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_sample_is_answered_by_the_grammar(name: str) -> None:
    message = read(MESSAGES[name])
    raw = acknowledgement(message, b"", "AE", FAULTS, control_id="OURS1", now=NOW)
    assert validated(raw, nearest(message.header.version)).msa.msa_2.value == message.segments[0].fields[10]


@given(st.binary(max_size=300), st.text(max_size=100), st.sampled_from([b"", b"MSH", b"MSH|^~\\&|", b"\xff\xfeM\0S\0H\0|\0", ADMIT[:90]]))
def test_any_bytes_are_answered(raw: bytes, text: str, start: bytes) -> None:
    assert isinstance(acknowledgement(None, start + raw, "AR", [Fault("199", text)], control_id="1", now=NOW), bytes)
