from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath import FhirPathError
from fhir_server.fhirpath.regex import compile_pattern

PARTS = st.sampled_from(
    [
        "a",
        "b",
        "ab",
        ".",
        "[a-c]",
        "[^a]",
        r"\d",
        r"\w",
        r"\S",
        "(a|b)",
        "(ab|a)(c)?",
        "(?:b|c)",
        "^",
        r"\b",
        "x{2}",
        "a{1,3}",
        "b*",
        "c+?",
        "(a+)(b*)",
    ]
)
PATTERNS = st.lists(PARTS, min_size=1, max_size=5).map("".join)


@given(PATTERNS, st.text(alphabet="abcx1- \n", max_size=15))
def test_finds_what_a_backtracking_matcher_finds(pattern: str, text: str) -> None:
    ours, theirs = compile_pattern(pattern), re.compile(pattern, re.DOTALL)
    found, wanted = ours.search(text), theirs.search(text)
    assert (found and (found.start, found.end)) == (wanted and wanted.span())
    assert (ours.fullmatch(text) is None) == (theirs.fullmatch(text) is None)


@given(PATTERNS, st.text(alphabet="abcx1- ", max_size=15))
def test_groups_are_those_of_a_backtracking_matcher(pattern: str, text: str) -> None:
    found, wanted = compile_pattern(pattern).search(text), re.compile(pattern, re.DOTALL).search(text)
    if found is not None and wanted is not None:
        assert [found.spans[2 * n] for n in range(len(wanted.regs))] == [None if start < 0 else start for start, _ in wanted.regs]


@pytest.mark.parametrize(
    ("pattern", "text", "new", "result"),
    [
        (r"(\d+)-(\d+)", "10-20 30-40", "$2-$1", "20-10 40-30"),
        ("b*", "abc", "-", "-a--c-"),
        ("x", "abc", "$0", "abc"),
        ("a", "aaa", "$9$", "$9$$9$$9$"),
        ("(a)|b", "ab", "[$1]", "[a][]"),
        (r"\..*", "Patient.name.given", "", "Patient"),
    ],
)
def test_replace(pattern: str, text: str, new: str, result: str) -> None:
    assert compile_pattern(pattern).replace(text, new, 1000) == result


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "(a|aa)+$", "(.*)(.*)(.*)(.*)(.*)b", "(a+)+b"])
def test_hostile_patterns_end(pattern: str) -> None:
    assert compile_pattern(pattern).search("a" * 3000) is None or pattern.endswith("$")


def test_work_beyond_the_budget_is_refused() -> None:
    with pytest.raises(FhirPathError) as caught:
        compile_pattern("(a?){500}b").search("a" * 100_000)
    assert caught.value.issues[0].code == "too-costly"


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "[a",
        "a**",
        "*a",
        "(?=a)",
        "(?i)a",
        r"\1",
        r"\p{L}",
        r"\u12",
        "[z-a]",
        "a{3,2}",
        "((a{90}){90}){90}",
        "(" * 60 + ")" * 60,
        "a" * 3000,
        "\\",
    ],
)
def test_faulty_and_unsupported_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(FhirPathError):
        compile_pattern(pattern)


def test_a_replacement_that_grows_too_long_is_given_up() -> None:
    assert compile_pattern("a").replace("a" * 100, "b" * 100, 1000) is None
