from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.hl7v2.text.escapes import do, undo
from fhir_server.hl7v2.text.message import read
from fhir_server.hl7v2.text.separators import Separators

USUAL = Separators("|", "^", "~", "\\", "&")
ODD = Separators("$", "*", "+", "?", ".")
SHORT = Separators("|", "^", "\1", "\2", "\3")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("\\E\\F\\E\\", "\\F\\"),
        ("5 \\P\\ 6", "5 # 6"),
        ("one\\.br\\two\\.BR\\three", "one\ntwo\nthree"),
        ("one\\.sp\\two\\.sp2\\three\\.sp+3\\four", "one\ntwo\n\nthree\n\n\nfour"),
        ("a\\.sk4\\b\\.ti+2\\c", "a    b  c"),
        ("\\.in+4\\\\.nf\\text\\.fi\\", "text"),
        ("title\\.ce\\middle", "title\nmiddle"),
        ("\\H\\high\\N\\ low", "high low"),
        ("a\\X0D\\\\X0A\\b", "a\r\nb"),
        ("a\\X0d0a\\b", "a\r\nb"),
        ("M\\XC3BC\\ller", "Müller"),
        ("M\\XC3\\\\XBC\\ller", "Müller"),
        ("C:\\temp\\file", "C:\\temp\\file"),
        ("a\\b\\F\\c", "a\\b|c"),
        ("\\Zlocal\\", "\\Zlocal\\"),
        ("\\X0\\ \\XZZ\\ \\X\\", "\\X0\\ \\XZZ\\ \\X\\"),
        ("\\XFF\\", "\\XFF\\"),
        ("\\X00\\", "\\X00\\"),
        ("\\", "\\"),
        ("\\\\", "\\\\"),
        ("plain", "plain"),
        ("\\.sp999999\\", "\n" * 80),
    ],
)
def test_escapes_are_undone_and_what_is_none_stays(written: str, meant: str) -> None:
    assert undo(written, USUAL, "utf-8") == meant


def test_bytes_are_of_the_character_set_of_the_message() -> None:
    assert undo("M\\XFC\\ller", USUAL, "iso8859_1") == "Müller"
    assert undo("\\XB8D0\\", USUAL, "iso8859_5") == "Иа"
    assert undo("a\\X0D\\\\X0A\\\\X00FC\\", USUAL, "utf-16-le") == "a\r\nü"


def test_other_character_sets_are_switched_to_and_back() -> None:
    letters = "山田".encode("iso2022_jp")[3:-3].decode("ascii")
    assert undo(f"Yamada \\M2442\\{letters}\\C2842\\ T.", USUAL, "ascii") == "Yamada 山田 T."
    assert undo("\\C2D4C\\" + "Иван".encode("iso8859_5").decode("latin-1") + "\\C2D41\\ü", USUAL, "iso8859_1") == "Иванü"
    assert undo("\\M7E7E\\abc", USUAL, "ascii") == "\\M7E7E\\abc"


def test_escapes_are_those_of_the_separators_of_the_message() -> None:
    assert undo("a?F?b?S?c\\F\\", ODD, "ascii") == "a$b*c\\F\\"


def test_a_component_as_a_field_keeps_what_its_escapes_mean() -> None:
    message = read(b"MSH|^~\\&|A\rPID|1||7^^^A\\S\\B\\T\\C&1.2&ISO\r")
    part = message.segments[1].repetitions(3)[0].part(4)
    assert [part.component(number) for number in (1, 2, 3, 4)] == ["A^B&C", "1.2", "ISO", ""]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.sampled_from([USUAL, ODD]))
def test_what_is_escaped_comes_back_and_holds_no_separator(text: str, separators: Separators) -> None:
    written = do(text, separators)
    assert not {separators.field, separators.component, separators.repetition, separators.subcomponent, "\r", "\n", "\x0b", "\x1c"} & set(
        written.replace(".br", "") if separators is ODD else written
    )
    assert written != '""'
    for codec in ("utf-8", "utf-16-le"):
        assert undo(written, separators, codec) == text


@given(
    st.text(alphabet="\\FSTREXCMHN.brspk0123456789ABCDEF\r\n|^~&é", max_size=60),
    st.sampled_from(["ascii", "utf-8", "iso8859_1", "utf-16-le", "iso2022_jp_ext"]),
)
def test_any_text_is_undone_without_failing(text: str, codec: str) -> None:
    for separators in (USUAL, ODD, SHORT):
        assert isinstance(undo(text, separators, codec), str)


def test_long_text_of_escape_characters_alone_is_undone() -> None:
    # Each is over in a second; a search that began anew at each of them would take hours.
    for text in ("\\" * 1_000_000, "\\X" * 500_000, "\\.b" * 300_000, "\\C284" * 100_000):
        assert undo(text, USUAL, "utf-8") == text
    assert undo("\\X00\\" * 200_000, USUAL, "utf-8") == "\\X00\\" * 200_000
    assert undo("\\C2842\\" * 100_000, USUAL, "utf-8") == ""
