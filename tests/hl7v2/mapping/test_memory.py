"""What the maps remember of codes changes nothing of what comes out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import fhirjson
from fhir_server.hl7v2.mapping import Converter, rules
from fhir_server.hl7v2.text.message import read
from fhir_server.spec import r4
from tests.hl7v2.samples import MESSAGES

from .samples import ZONE, convert, message, of_type

_TYPES = st.sampled_from(["NM", "ST", "SN", "CE", "CWE", "TX", "NA", "ED", "", "ZZ"])
_TEXTS = st.sampled_from(["", '""', "7.2", ">9", "a^b^LN", "x~y", '1^2^3~""', "H", "F", "C", "X", "zz", "70-110", "<5", "mg/dL^^UCUM", " "])
_FIELDS = st.lists(_TEXTS, min_size=15, max_size=30)


@pytest.fixture(scope="module")
def forgetful() -> Converter:
    """One that is only used where nothing can be remembered."""
    return Converter(r4())


def outcome(converter: Converter, raw: bytes) -> tuple[object, ...]:
    """All that comes of a message, to the byte."""
    found = converter.convert(read(raw), ZONE)
    made = [(each.number, each.label, each.key, sorted(each.nulls), fhirjson.dumps(each.resource)) for each in found.made]
    return (found.structure, made, found.faults, [segment.raw for segment in found.unhandled])


def test_real_messages_come_out_the_same_however_often_and_in_whatever_order_they_are_seen(converter: Converter) -> None:
    known = [raw for raw in MESSAGES.values() if converter.structure_of(read(raw)) is not None]
    first = [outcome(converter, raw) for raw in known]
    assert [[outcome(converter, raw) for raw in known] for _ in range(2)] == [first] * 2
    other = Converter(r4())
    assert [[outcome(other, raw) for raw in reversed(known)] for _ in range(3)] == [first[::-1]] * 3


@given(st.lists(st.tuples(_TYPES, _FIELDS, _FIELDS), min_size=1, max_size=4))
@settings(max_examples=150)
def test_results_of_any_codes_come_out_as_when_nothing_is_remembered(
    converter: Converter, forgetful: Converter, results: Sequence[tuple[str, list[str], list[str]]]
) -> None:
    segments = []
    for kind, order, result in results:
        order[3], result[1], result[2] = "24323-8^CMP^LN", kind, result[2] or "2345-7^Glucose^LN"
        segments += [f"OBR|{'|'.join(order)}", f"OBX|{'|'.join(result)}"]
    raw = message("ORU^R01", *segments)
    before = outcome(converter, raw)
    # What is seen once is learned the second time, and known the third.
    assert [outcome(converter, raw) for _ in range(2)] == [before] * 2
    with pytest.MonkeyPatch.context() as patch:
        # Nothing that has a text is short enough to be remembered.
        patch.setattr(rules, "_LONGEST", -1)
        assert outcome(forgetful, raw) == before


def test_a_code_that_no_table_has_is_reported_each_time(converter: Converter) -> None:
    for _ in range(4):
        converted = convert(converter, "ORU^R01", "OBR|1||7|24323-8^CMP^LN", "OBX|1|NM|2345-7^Glucose^LN||7|mmol/L||QQ|||F")
        assert [(fault.segment, fault.field, fault.code) for fault in converted.faults if fault.field == 8] == [("OBX", 8, "103")]


def test_what_is_remembered_is_never_changed_by_a_message_that_got_a_copy_of_it(converter: Converter) -> None:
    segments = ("OBR|1||7|24323-8^CMP^LN", "OBX|1|NM|2345-7^Glucose^LN||7|mmol/L|70-110|H|||F")
    before, *_ = (fhirjson.dumps(of_type(convert(converter, "ORU^R01", *segments), "Observation")) for _ in range(3))
    for observation in of_type(convert(converter, "ORU^R01", *segments), "Observation"):
        for element in (observation["code"]["coding"][0], observation["interpretation"][0], observation["referenceRange"][0]["low"]):
            element.clear()
    assert fhirjson.dumps(of_type(convert(converter, "ORU^R01", *segments), "Observation")) == before


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_MOST", 50)
    memory = rules.Memory()
    for number in range(200):
        memory.keep((number,), ())
        assert len(memory.known) <= 50
    assert (199,) in memory.known
