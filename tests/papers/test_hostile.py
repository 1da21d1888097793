"""What patients and others write is text on paper: never markup, never another look, and nothing that keeps a paper from being printed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fhir_server.papers.reading import plain
from tests.papers.conftest import PATIENT, SUBJECT, invoice, line, pdf_of, record, text_of

MARKUP = [
    "#strong[x]",
    '#panic("x")',
    '#import "frame.typ"',
    '#read("/etc/passwd")',
    "$x^2$ *bold* _it_ `raw` @ref <label>",
    "= Title",
    "- item",
    "\\ # [ ] { } ~ -- --- ... // /* */",
    "quote \" and ' quote",
    "https://x.example/?a=b&c=d",
    "<script>alert(1)</script>",
    "a -> b => c != d 3x4",
    "fi fl ffi",
    "%s %d {0} {{x}}",
]
# What the fonts have: Latin with its accents, Greek and Cyrillic as they are written today.
LETTERS = st.sampled_from([chr(n) for n in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x180), *range(0x3B1, 0x3CA), *range(0x400, 0x460))])
WORDS = st.text(LETTERS, min_size=1, max_size=18)


@pytest.mark.parametrize("text", MARKUP)
def test_markup_stands_as_it_was_written(text: str) -> None:
    name = PATIENT | {"name": [{"text": text}]}
    found = text_of(pdf_of("invoice", record(invoice(line(text, "1.00")), patient=name)))
    assert found.count(text) >= 2


@settings(max_examples=30)
@given(words=st.lists(WORDS, min_size=1, max_size=4))
@example(words=["Ωμέγα", "Жуков", "Łódź", "Ñandú"])
def test_names_come_back_unharmed(words: list[str]) -> None:
    text = " ".join(words)
    named = PATIENT | {"name": [{"text": text}]}
    request = {"resourceType": "MedicationRequest", "id": "m", "status": "active", "medicationCodeableConcept": {"text": text}, **SUBJECT}
    found = text_of(pdf_of("prescription", record(request, patient=named)))
    expected = "".join(plain(text).split())
    assert "".join(found.split()).count(expected) >= 2


@settings(max_examples=30)
@given(text=st.text(max_size=300), note=st.text(st.characters(codec=None), max_size=300))
@example(text="名前 نام שם नाम ชื่อ 😀", note="\ud800\x00\u202e\u200b\u0301")
@example(text="W" * 300, note="i" * 300)
def test_any_text_is_printed(text: str, note: str) -> None:
    named = PATIENT | {"name": [{"text": text}], "address": [{"line": [text], "city": note}]}
    made = invoice(line(text, "1.00"), note=[{"text": note}], paymentTerms=note)
    assert pdf_of("invoice", record(made, patient=named), link=f"https://x.example/{'y' * 40}").startswith(b"%PDF")


@given(text=st.text(st.characters(codec=None), max_size=100))
def test_what_cannot_be_seen_is_taken_out(text: str) -> None:
    for character in plain(text):
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff"


def test_a_text_that_does_not_end_is_cut() -> None:
    assert len(plain("x " * 1_000_000)) == 4_000
    assert plain("x " * 1_000_000).endswith("…")
