"""Reading a message: what it costs whoever reads one that was made to do harm."""

from __future__ import annotations

import pytest

from fhir_server.hl7v2.mapping import Converter
from fhir_server.hl7v2.text.message import read
from fhir_server.hl7v2.text.unreadable import Unreadable

from .mapping.samples import convert, only

HEADER = b"MSH|^~\\&|LAB|LAB1|||20260102||ORU^R01|1|P|2.5.1\r"


@pytest.mark.parametrize("bomb", [b"Z\r" * 100_001, b"PID|1|" + b"1~" * 100_001], ids=["segments", "repetitions"])
def test_a_message_of_more_parts_than_anybody_means_is_not_taken_apart(bomb: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        read(HEADER + bomb)
    assert caught.value.fault.code == "104"


def test_faults_are_told_up_to_a_thousand_and_those_for_which_it_is_refused_beyond(converter: Converter) -> None:
    faulty = [f"OBX|{number}|NM|{number}^G^LN||9x5|mg|||||QQ" for number in range(2_000)]
    found = convert(
        converter, "ORU^R01^ORU_R01", "OBR|1||F1|GLU^x^L|||20260102|||||||||||||||||F", *faulty, f"OBX|1|CWE|1^G^LN||{'~'.join('a' * 1_001)}||||||F"
    )
    assert 1_000 <= len(found.faults) < 1_100
    assert [fault.code for fault in found.faults if fault.severity == "E"] == ["104"]


@pytest.mark.parametrize(
    ("value", "limits"),
    [("1" * 100_000 + "x", ""), ("1", "1.." * 50_000 + "-"), ("1", "1" * 100_000 + "x"), ("1", "<" + "1" * 100_000 + "x")],
    ids=["digits", "dots", "digits of a range", "digits of a bound"],
)
def test_numbers_without_end_are_read_once(converter: Converter, value: str, limits: str) -> None:
    found = convert(converter, "ORU^R01^ORU_R01", "OBR|1||F1|GLU^x^L", f"OBX|1|NM|1^G^LN||{value}||{limits}||||F")
    result = only(found, "Observation")
    assert result.get("valueString", "1") == value
    assert [each["text"] for each in result.get("referenceRange", ())] == [limits] * bool(limits)
