from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.hl7v2.text.charset import belied, decode, encode
from fhir_server.hl7v2.text.message import read
from fhir_server.hl7v2.text.unreadable import Unreadable


def message(name: str, patient: str, facility: str = "HOSP") -> str:
    return f"MSH|^~\\&|LAB|{facility}|CLINIC|A|20240101||ADT^A01|1|P|2.5||||||{name}\rPID|1||7||{patient}^X||19800101\r"


@pytest.mark.parametrize(
    ("name", "codec", "patient"),
    [
        ("ASCII", "ascii", "Muller"),
        ("8859/1", "iso8859_1", "Müller"),
        ("8859/2", "iso8859_2", "Dvořák"),
        ("8859/3", "iso8859_3", "Ġorġ"),
        ("8859/4", "iso8859_4", "Žemaitė"),
        ("8859/5", "iso8859_5", "Иванов"),
        ("8859/6", "iso8859_6", "محمد"),
        ("8859/7", "iso8859_7", "Παπαδόπουλος"),
        ("8859/8", "iso8859_8", "כהן"),
        ("8859/9", "iso8859_9", "Gülşen"),
        ("8859/15", "iso8859_15", "Œuvré €"),
        ("UNICODE UTF-8", "utf-8", "Müller 山田"),
        ("GB 18030-2000", "gb18030", "王小明"),
        ("KS X 1001", "cp949", "김철수"),
        ("BIG-5", "cp950", "王小明功許"),
    ],
)
def test_each_name_of_table_0211_is_read_and_written_back(name: str, codec: str, patient: str) -> None:
    raw = message(name, patient).encode(codec)
    read_back = read(raw)
    assert (read_back.codec, read_back.segments[1].get(5)) == (codec, patient)
    assert encode(read_back.text, read_back.codec) == raw


@pytest.mark.parametrize("name", ["UTF-8", "utf8", "UNICODE UTF8", "UNICODE-UTF-8", "unicode utf-8", "Unicode_UTF-8", "UNICODE", " UNICODE UTF-8 "])
def test_names_of_utf_8_that_senders_write_are_known(name: str) -> None:
    assert read(message(name, "Ørsted").encode()).segments[1].get(5) == "Ørsted"


@pytest.mark.parametrize(
    ("name", "codec"), [("ISO-8859-1", "iso8859_1"), ("ISO IR 100", "iso8859_1"), ("8859-15", "iso8859_15"), ("WINDOWS-1252", "cp1252")]
)
def test_names_from_elsewhere_are_known(name: str, codec: str) -> None:
    assert read(message(name, "Ørsted").encode(codec)).codec == codec


def test_without_a_name_text_is_utf_8_where_the_bytes_are_and_iso_8859_1_elsewhere() -> None:
    assert decode(message("", "Müller").encode()) == (message("", "Müller"), "utf-8")
    assert decode(message("", "Müller").encode("latin-1")) == (message("", "Müller"), "iso8859_1")


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_wide_text_is_known_before_msh_can_be_read(order: str, mark: str) -> None:
    text = message("UNICODE UTF-16", "Müller 山田")
    found = read((mark + text).encode(order))
    assert found.text == text
    assert found.segments[1].get(5) == "Müller 山田"
    assert encode(found.text, found.codec).decode(found.codec) == text


def test_the_byte_order_mark_of_utf_8_is_dropped() -> None:
    assert decode(codecs.BOM_UTF8 + message("", "Müller").encode())[0] == message("", "Müller")


def test_japanese_switches_by_escape_sequences_even_before_msh_18() -> None:
    raw = message("~ISO IR87", "山田", facility="病院ー|".replace("|", "")).encode("iso2022_jp")
    found = read(raw)
    assert (found.header.sending_facility, found.segments[1].get(5)) == ("病院ー", "山田")
    assert encode(found.text, found.codec) == raw


def test_japanese_syllables_of_one_byte_are_read() -> None:
    raw = message("ISO IR14~ISO IR87", "PATIENT").encode("ascii").replace(b"PATIENT", "ﾔﾏﾀﾞ".encode("shift_jis"))
    assert read(raw).segments[1].get(5) == "ﾔﾏﾀﾞ"


def test_the_rare_letters_of_jis_x_0212_are_read() -> None:
    raw = message("~ISO IR87~ISO IR159", "PATIENT").encode("ascii").replace(b"PATIENT", "丂".encode("iso2022_jp_1"))
    assert b"\x1b$(D" in raw
    assert read(raw).segments[1].get(5) == "丂"


def test_two_parts_of_8859_switch_and_each_segment_begins_in_the_first() -> None:
    head = message("8859/1~8859/5", "PATIENT").encode("ascii")
    raw = head.replace(b"PATIENT", b"\x1b-L" + "Иванов".encode("iso8859_5")) + b"NTE|1||" + "Müller".encode("latin-1") + b"\r"
    found = read(raw)
    assert (found.segments[1].get(5), found.segments[2].get(3)) == ("Иванов", "Müller")


def test_korean_by_escape_sequence_is_read() -> None:
    raw = message("ASCII~KS X 1001", "PATIENT").encode("ascii").replace(b"PATIENT", b"\x1b$)C" + "김철수".encode("euc_kr"))
    assert read(raw).segments[1].get(5) == "김철수"


@pytest.mark.parametrize(("codec", "name"), [("gb18030", "GB 18030-2000"), ("cp950", "BIG-5")])
def test_a_letter_that_ends_like_a_separator_shifts_no_field_of_msh(codec: str, name: str) -> None:
    letters = [bytes([first, 0x7C]) for first in range(0xA4, 0xF0)]
    letter = next(each.decode(codec) for each in letters if _known(each, codec))
    found = read(message(name, letter, facility=letter).encode(codec))
    assert (found.codec, found.header.sending_facility, found.segments[1].get(5)) == (codec, letter, letter)


def _known(raw: bytes, codec: str) -> bool:
    try:
        return len(raw.decode(codec)) == 1
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize(
    ("name", "code"), [("KLINGON", "103"), ("8859/12", "103"), ("~KLINGON", "103"), ("CNS 11643-1992", "103"), ("UNICODE UTF-16", "103")]
)
def test_a_set_that_is_not_known_is_refused_with_its_place(name: str, code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(message(name, "Ørsted").encode())
    assert (caught.value.fault.code, caught.value.fault.place) == (code, ("MSH", "1", "18"))
    assert name.strip("~") not in str(caught.value)


@pytest.mark.parametrize("name", ["ASCII", "us-ascii", "ISO IR6", "ISO 2022 IR 6"])
def test_what_is_said_to_be_ascii_and_is_not_is_read_as_if_nothing_was_said(name: str) -> None:
    """Analysers that cannot be set otherwise name ASCII and send what their screen shows."""
    for codec in ("utf-8", "iso8859_1"):
        assert decode(message(name, "Müller").encode(codec)) == (message(name, "Müller"), codec)
        assert belied(name, codec)
    assert decode(message(name, "Muller").encode()) == (message(name, "Muller"), "ascii")
    assert not belied(name, "ascii")


@pytest.mark.parametrize("name", ["UTF-8", "8859/8", "~ISO IR87", "GB 18030-2000"])
def test_bytes_that_are_not_of_the_set_are_refused_and_never_replaced(name: str) -> None:
    with pytest.raises(Unreadable, match="character set") as caught:
        decode(message(name, "PATIENT").encode().replace(b"PATIENT", b"\xff\xff"))
    assert caught.value.fault.code == "102"


def test_a_set_that_cannot_be_read_does_no_harm_to_ascii() -> None:
    assert decode(message("CNS 11643-1992", "Wang").encode()) == (message("CNS 11643-1992", "Wang"), "ascii")


def test_an_answer_is_written_even_where_its_set_has_no_letter_for_it() -> None:
    assert encode("山", "ascii") == b"?"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_unreadable(raw: bytes) -> None:
    for start in (
        b"",
        b"MSH|^~\\&|",
        b"MSH|^~\\&|||||||||||||||||~ISO IR87\r",
        b"MSH|^~\\&||||||||||||||||8859/1~8859/5\r\x1b",
        b"\xff\xfeM\0S\0H\0",
    ):
        try:
            text, codec = decode(start + raw)
        except Unreadable:
            continue
        assert isinstance(text, str)
        codecs.lookup(codec)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\ufeff")))
def test_text_comes_back_from_the_bytes_that_it_is_written_in(text: str) -> None:
    for codec in ("utf-8", "utf-16-le", "gb18030"):
        raw = (message({"utf-8": "UTF-8", "gb18030": "GB18030"}.get(codec, ""), "X") + text).encode(codec)
        assert decode(raw)[0].endswith(text)
