"""Messages as damaged senders and lines send them: whatever comes, it is read whole or refused, and every byte is accounted for."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.hl7v2.text import batch, grammar
from fhir_server.hl7v2.text.acknowledge import acknowledgement
from fhir_server.hl7v2.text.message import Message, read
from fhir_server.hl7v2.text.unreadable import Unreadable
from tests.hl7v2.samples import FILES, FOLDER, MESSAGES

_VOID = re.compile(r"[\s\0\ufeff]")
NOW = datetime(2024, 1, 1, tzinfo=UTC)
CODECS = ["utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-16", "gb18030", "cp932", "iso2022_jp", "ascii"]


def test_the_index_names_each_file_with_its_licence() -> None:
    with (FOLDER / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {f"{name}.hl7" for name in FILES}
    assert all(row["license"] and row["source"] for row in rows)


def test_every_sample_is_read_whole() -> None:
    for raw in MESSAGES.values():
        message = read(raw)
        assert "\r".join(segment.raw for segment in message.segments) + "\r" == message.text
        assert message.text.encode(message.codec) == raw


def received(raw: bytes) -> None:
    """All that reading does with what comes; holds that nothing is lost on the way."""
    found = batch.split(raw)
    assert b"".join(piece.raw for piece in found.pieces) == raw
    answers = []
    for each in found.messages:
        message: Message | None
        try:
            message = read(each)
        except Unreadable as unreadable:
            message, faults = None, [unreadable.fault]
        else:
            faults = grammar.check(message)
            assert _VOID.sub("", message.text) == _VOID.sub("", "".join(segment.raw for segment in message.segments))
        answers.append(acknowledgement(message, each, "AE", faults, control_id="1", now=NOW))
    batch.reply(found, answers, control_id="1", now=NOW)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    raw = draw(st.sampled_from(sorted(FILES.values())))
    for _ in range(draw(st.integers(0, 3))):
        raw = draw(st.sampled_from([_cut, _doubled, _flipped, _inserted, _separated, _recoded, _joined]))(draw, raw)
    return raw


def _cut(draw: st.DrawFn, raw: bytes) -> bytes:
    start, end = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
    return draw(st.sampled_from([raw[:start], raw[start:], raw[:start] + raw[end:]]))


def _doubled(draw: st.DrawFn, raw: bytes) -> bytes:
    place = draw(st.integers(0, len(raw)))
    return raw[:place] + raw


def _flipped(draw: st.DrawFn, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, max(len(raw) - 1, 0)), st.integers(0, 255)), max_size=8)):
        if place < len(changed):
            changed[place] = byte
    return bytes(changed)


def _inserted(draw: st.DrawFn, raw: bytes) -> bytes:
    place = draw(st.integers(0, len(raw)))
    noise = draw(
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"\x0b", b"\x1c\r", b"\0", b"\xff", b"\x1b$B", b"MSH|^~\\&|", b"MSH", b"BTS|9\r", b"\\X", b"\\", b"\xef\xbb\xbf"]
        )
    )
    return raw[:place] + noise + raw[place:]


def _separated(draw: st.DrawFn, raw: bytes) -> bytes:
    old = draw(st.sampled_from(b"|^~\\&\r"))
    return raw.replace(bytes([old]), bytes([draw(st.integers(0, 255))]))


def _recoded(draw: st.DrawFn, raw: bytes) -> bytes:
    return raw.decode("latin-1").encode(draw(st.sampled_from(CODECS)), "ignore")


def _joined(draw: st.DrawFn, raw: bytes) -> bytes:
    return raw + draw(st.sampled_from(sorted(FILES.values())))


@given(damaged())
def test_a_damaged_message_is_read_or_refused_and_no_byte_of_it_lost(raw: bytes) -> None:
    received(raw)


@given(st.binary(max_size=500))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    received(raw)
    received(b"MSH|^~\\&|" + raw)
