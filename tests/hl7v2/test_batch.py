from __future__ import annotations

import codecs
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.hl7v2.text import batch
from fhir_server.hl7v2.text.message import read
from tests.hl7v2.samples import ADMIT, FILES, MESSAGES

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
ONE = b"MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\rPID|1||7\r"
TWO = b"MSH|^~\\&|A|B|C|D|2024||ADT^A01|2|P|2.5\rPID|1||8\r"


def whole(found: batch.Batch) -> bytes:
    return b"".join(piece.raw for piece in found.pieces)


def told(raw: bytes) -> list[tuple[str, tuple[str, ...]]]:
    return [(fault.text, fault.place) for fault in batch.split(raw).faults]


def test_one_message_is_itself() -> None:
    found = batch.split(ONE)
    assert (found.messages, found.enveloped, found.faults) == ([ONE], False, ())


def test_several_messages_in_one_text_are_several() -> None:
    assert batch.split(ONE + TWO).messages == [ONE, TWO]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\r", b"\r\n\r\n"])
def test_line_ends_of_every_kind_part_messages(end: bytes) -> None:
    raw = (ONE + TWO).replace(b"\r", end)
    found = batch.split(raw)
    assert [read(each).header.control_id for each in found.messages] == ["1", "2"]
    assert whole(found) == raw


def test_a_batch_is_parted_from_its_envelope() -> None:
    found = batch.split(FILES["p43_batch_bhs_two_adt"])
    assert [read(each).header.control_id for each in found.messages] == ["12334456778890", "12334456778891"]
    assert (found.enveloped, found.faults, [piece.kind for piece in found.pieces]) == (True, (), ["envelope", "message", "message", "envelope"])


def test_a_file_of_batches_is_known_with_its_sets() -> None:
    raw = b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + ONE + b"BTS|1\rBHS|^~\\&|A\r" + TWO + ONE + b"BTS|2\rFTS|2\r"
    found = batch.split(raw)
    assert ([each.members for each in found.sets], found.faults) == ([[0], [1, 2]], ())
    assert whole(found) == raw


def test_counts_that_do_not_fit_are_told() -> None:
    assert told(b"BHS|^~\\&\r" + ONE + b"BTS|3\r") == [("BTS-1 says 3, but 1 messages came", ("BTS", "1", "1"))]
    assert told(b"FHS|^~\\&\rBHS|^~\\&\r" + ONE + b"BTS|1\rFTS|4\r") == [("FTS-1 says 4, but 1 batches came", ("FTS", "1", "1"))]
    assert told(b"BHS|^~\\&\r" + ONE + b"BTS|many\r") == [("BTS-1 is not a number", ("BTS", "1", "1"))]
    assert told(b"BHS|^~\\&\r" + ONE + b"BTS\r") == []


def test_an_envelope_that_is_cut_off_is_told() -> None:
    assert told(b"BHS|^~\\&\r" + ONE) == [("There is no BTS to a BHS", ("BHS", "1"))]
    assert told(ONE + b"BTS|1\r") == [("There is no BHS to a BTS", ("BTS", "1"))]
    assert told(b"FHS|^~\\&\r" + ONE) == [("There is no FTS to a FHS", ("FHS", "1"))]


def test_text_between_messages_is_told_and_kept() -> None:
    raw = b"HELLO\r" + b"BHS|^~\\&\rNOISE|1\r" + ONE + b"BTS|1\rMORE"
    found = batch.split(raw)
    assert found.messages == [ONE]
    assert [piece.raw for piece in found.pieces if piece.kind == "stray"] == [b"HELLO\r", b"NOISE|1\r", b"MORE"]
    assert [fault.text for fault in found.faults] == [f"{count} bytes belong to no message" for count in (6, 8, 4)]


def test_a_message_after_other_text_on_its_line_is_found() -> None:
    assert batch.split(b"2024-01-01 received: " + ONE + TWO).messages == [ONE, TWO]


def test_blanks_marks_and_frames_around_messages_are_no_fault() -> None:
    for raw in (
        codecs.BOM_UTF8 + ONE,
        b"\r\n\r\n" + ONE + b"\r\n\r\n",
        b"\x0b" + ONE + b"\x1c\r\x0b" + TWO + b"\x1c\r",
        b"  " + ONE + b"\0\0",
        ONE + codecs.BOM_UTF8 + TWO,
    ):
        found = batch.split(raw)
        assert found.messages[0] == ONE
        assert (found.faults, whole(found)) == ((), raw)


def test_blanks_at_a_last_fields_end_stay_with_it() -> None:
    assert batch.split(b"MSH|^~\\&|A\rNTE|1||text  ").messages == [b"MSH|^~\\&|A\rNTE|1||text  "]


def test_text_without_a_header_is_one_message_that_cannot_be_read() -> None:
    assert batch.split(b"GET / HTTP/1.1\r\n").messages == [b"GET / HTTP/1.1\r\n"]
    assert batch.split(b"").messages == []
    assert batch.split(b" \r\n").messages == []


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_wide_batches_are_parted_too(order: str, mark: str) -> None:
    raw = (mark + "BHS|^~\\&\r" + ONE.decode() + "MSH|^~\\&|山\r" + "BTS|2\r").encode(order) + b"\r"
    found = batch.split(raw)
    assert [read(each).header.sending_application for each in found.messages] == ["A", "山"]
    assert whole(found) == raw
    assert batch.reply(found, found.messages, control_id="9", now=NOW).decode(order).startswith("BHS|^~\\&|")


def test_a_batch_is_answered_by_a_batch() -> None:
    raw = b"BHS|^~\\&|SA|SF|RA|RF|2024||||batch-7\r" + ONE + TWO + b"BTS|3\r"
    answer = batch.reply(batch.split(raw), [b"MSH|1\r", b"MSH|2\r"], control_id="77", now=NOW)
    assert answer.split(b"\r") == [
        b"BHS|^~\\&|RA|RF|SA|SF|20240506070809+0000||||77-1|batch-7",
        b"MSH|1",
        b"MSH|2",
        b"BTS|2|BTS-1 says 3, but 2 messages came",
        b"",
    ]


def test_a_file_is_answered_by_a_file_in_its_own_separators() -> None:
    raw = b"FHS$*+?.$SA$SF$RA$RF$2024$$$$file\rBHS$*+?.$SA\r" + ONE + b"BTS$1\rBHS$*+?.$SA\r" + TWO + b"BTS$1\rFTS$2\r"
    lines = batch.reply(batch.split(raw), [b"X\r", b""], control_id="7", now=NOW).split(b"\r")
    assert [line[:11] for line in lines] == [b"FHS$*+?.$RA", b"BHS$*+?.$$$", b"X", b"BTS$1", b"BHS$*+?.$$$", b"BTS$0", b"FTS$2", b""]
    assert lines[0].endswith(b"$7$file")


def test_messages_without_an_envelope_are_answered_one_after_the_other() -> None:
    assert batch.reply(batch.split(ONE + TWO), [b"X\r", b"Y\r"], control_id="7", now=NOW) == b"X\rY\r"
    assert batch.reply(batch.split(FILES["p43_batch_bhs_two_adt"]), [b"", b""], control_id="7", now=NOW) == b""


def test_an_envelope_with_very_many_faults_is_answered_briefly() -> None:
    found = batch.split(b"BHS|^~\\&\r" + ONE + b"BTS|9\r" * 5_000)
    assert len(found.faults) == 50
    assert len(batch.reply(found, [b"X\r"], control_id="1", now=NOW)) < 5_000 * 400


@given(st.binary(max_size=400))
def test_any_bytes_are_given_back_whole(raw: bytes) -> None:
    assert whole(batch.split(raw)) == raw


_SNIPPETS = [
    b"MSH|^~\\&|A\r",
    b"PID|1\r",
    b"BHS|^~\\&\r",
    b"BTS|1\r",
    b"FHS|\r",
    b"FTS\n",
    b"\r\n",
    b"\x0b",
    b"\x1c\r",
    b"xx",
    b"\xff\xfe",
    b"\0",
    codecs.BOM_UTF8,
    b" ",
]


@given(st.lists(st.one_of(st.sampled_from(_SNIPPETS), st.binary(max_size=3)), max_size=20))
def test_any_mixture_of_parts_is_given_back_whole_and_answered(parts: list[bytes]) -> None:
    raw = b"".join(parts)
    found = batch.split(raw)
    assert whole(found) == raw
    assert found.messages == [piece.raw for piece in found.pieces if piece.kind == "message"]
    assert sorted(place for each in found.sets for place in each.members) == list(range(len(found.messages)))
    batch.reply(found, [b"X\r"] * len(found.messages), control_id="1", now=NOW)


def test_every_sample_is_one_message_but_for_the_batch() -> None:
    assert len(FILES) == 44
    assert len(MESSAGES) == 45
    assert all(batch.split(raw).messages == [raw] for raw in MESSAGES.values())


def test_large_text_and_very_many_blanks_are_split() -> None:
    # Each is over in a second; a search that began anew at each blank would take hours.
    large = ADMIT.replace(b"EVERYMAN", b"E" * 5_000_000)
    found = batch.split(large)
    assert found.messages == [large]
    assert batch.split(b"\r" * 2_000_000 + ONE).messages == [ONE]
    assert batch.split(b"\r \t" * 500_000 + b" " * 1_000_000 + ONE).messages == [ONE]
