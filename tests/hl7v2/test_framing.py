from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.hl7v2.listener.framing import KEPT, Framer, Piece, block

MESSAGE = b"MSH|^~\\&|A|B\rPID|1\r"
OTHER = b"MSH|^~\\&|C|D\r"


def pieces(*reads: bytes, limit: int = 1000, close: bool = True) -> list[tuple[str, bytes]]:
    framer = Framer(limit)
    found: list[Piece] = []
    for read in reads:
        framer.feed(read)
        while (piece := framer.take()) is not None:
            found.append(piece)
    if close and (piece := framer.close()) is not None:
        found.append(piece)
    return [(piece.kind, piece.raw) for piece in found]


@pytest.mark.parametrize("end", [b"\x1c\r", b"\x1c\n", b"\x1c\r\n"])
def test_blocks_in_one_read_and_a_byte_at_a_time(end: bytes) -> None:
    stream = b"\x0b" + MESSAGE + end + b"\r\n\x0b" + OTHER + end
    expected = [("block", MESSAGE), ("block", OTHER)]
    assert pieces(stream) == expected
    assert pieces(*[stream[n : n + 1] for n in range(len(stream))]) == expected


@pytest.mark.parametrize("cut", range(len(block(MESSAGE)) + 1))
def test_a_block_in_two_reads(cut: int) -> None:
    stream = block(MESSAGE)
    assert pieces(stream[:cut], stream[cut:]) == [("block", MESSAGE)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"\r\n \0" + block(MESSAGE), [("block", MESSAGE)]),
        (b"hello" + block(MESSAGE), [("stray", b"hello"), ("block", MESSAGE)]),
        (MESSAGE + b"\x1c\r", [("block", MESSAGE)]),
        (MESSAGE + block(OTHER), [("cut", MESSAGE), ("block", OTHER)]),
        (b"\x0b" + MESSAGE + b"\x1c\x0b" + OTHER + b"\x1c\r", [("block", MESSAGE), ("block", OTHER)]),
        (b"\x0b" + MESSAGE[:9] + block(MESSAGE), [("cut", MESSAGE[:9]), ("block", MESSAGE)]),
        (b"\x0b\x0b" + MESSAGE + b"\x1c\r", [("block", MESSAGE)]),
        (b"\x0bMSH|^~\\&|a\x0bb\r\x1c\r", [("block", b"MSH|^~\\&|a\x0bb\r")]),
        (b"\x0bMSH|^~\\&|a\x1cb\r\x1c\r", [("block", b"MSH|^~\\&|a\x1cb\r")]),
        (b"\x0b\x1c\r" + block(MESSAGE), [("block", b""), ("block", MESSAGE)]),
        (b"\x0b" + MESSAGE, [("cut", MESSAGE)]),
        (MESSAGE, [("cut", MESSAGE)]),
        (b"GET / HTTP/1.1\r\n\r\n", [("stray", b"GET / HTTP/1.1\r\n\r\n")]),
        (b"\x1c\r" + block(MESSAGE), [("block", MESSAGE)]),
        (b"\r\r\r", []),
        (b"", []),
    ],
)
def test_what_is_framed_badly(stream: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert pieces(stream) == expected
    assert pieces(*[stream[n : n + 1] for n in range(len(stream))]) == expected


def test_an_end_without_cr_waits_for_what_follows_or_for_nothing() -> None:
    framer = Framer(1000)
    framer.feed(b"\x0b" + MESSAGE + b"\x1c")
    assert framer.take() is None
    assert framer.ends
    framer.conclude()
    assert framer.take() == Piece("block", MESSAGE)
    assert not framer.inside


def test_a_block_that_is_too_long_is_told_once_and_passed_over() -> None:
    long = MESSAGE + b"x" * 200_000
    found = pieces(*[block(long)[n : n + 7_000] for n in range(0, len(long) + 3, 7_000)], block(OTHER), limit=100_000)
    assert found == [("long", long[: KEPT - 1]), ("block", OTHER)]


def test_a_stream_without_end_is_not_kept() -> None:
    framer = Framer(100_000)
    found = []
    for _ in range(1_000):
        framer.feed(b"y" * 65_536)
        found.append(framer.take())
        assert framer.held < 300_000
    assert [piece.kind for piece in found if piece is not None] == ["long"]


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(1, 9))
def test_messages_come_whole_whatever_stands_around_them(noise: list[bytes], width: int) -> None:
    """Junk between blocks, without the two marks, changes nothing of the blocks; and no byte of it is lost, but blanks."""
    stream = b"".join(each.replace(b"\x0b", b"").replace(b"\x1c", b"").replace(b"MSH", b"") + block(MESSAGE) for each in noise)
    found = pieces(*[stream[n : n + width] for n in range(0, len(stream), width)], limit=10_000)
    assert [raw for kind, raw in found if kind == "block"] == [MESSAGE] * len(noise)


@given(st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\n", MESSAGE, OTHER, b"MSH", b"x", b"\xff\x00"]), max_size=30), st.integers(1, 40))
def test_no_byte_is_lost_whatever_comes(parts: list[bytes], width: int) -> None:
    stream = b"".join(parts)
    found = pieces(*[stream[n : n + width] for n in range(0, len(stream), width)], limit=100_000)
    kept = b"".join(raw for _, raw in found)
    marks = bytes.maketrans(b"", b"")
    assert kept.translate(marks, b"\x0b\x1c\r\n\0") == stream.translate(marks, b"\x0b\x1c\r\n\0")
    assert pieces(stream, limit=100_000) == found


@pytest.mark.parametrize("flood", [b"\x0b" * 1_000_000, b"\x0b    " * 200_000, b"\x0bMSH" * 200_000], ids=["marks", "marks and blanks", "beginnings"])
def test_a_flood_of_beginnings_costs_no_more_than_its_bytes(flood: bytes) -> None:
    framer = Framer(16 * 1024 * 1024)
    framer.feed(flood + block(b"MSH|1"))
    pieces = list(iter(framer.take, None))
    assert pieces[-1] == Piece("block", b"MSH|1")
