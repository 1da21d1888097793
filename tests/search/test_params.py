"""Values and rows of the parameter types other than dates."""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from fhir_server.fhirjson import Number
from fhir_server.search import Registry
from fhir_server.search.params import KINDS, Context, number, reference, string, token, uri
from fhir_server.search.params.kind import capped, split, unescape
from fhir_server.spec import r4

CONTEXT = Context(r4(), {"Patient": 1, "Device": 2}, ZoneInfo("UTC"), ("http://localhost/fhir/",))


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("100", "99.5", "100.5"),
        ("100.00", "99.995", "100.005"),
        ("1e2", "95", "105"),
        ("0", "-0.5", "0.5"),
        ("-1.5", "-1.55", "-1.45"),
        ("+5", "4.5", "5.5"),
    ],
)
def test_digits_say_the_precision(text: str, lo: str, hi: str) -> None:
    assert number.bounds(text)[1:3] == (Decimal(lo), Decimal(hi))


@pytest.mark.parametrize("text", ["", "x", "1_0", "NaN", "Infinity", "--1", "1e", "1.", ".5", "1e999", "9" * 100, "٣"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        number.bounds(text)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("99", "99"), {"ne", "lt", "le", "eb", "ap"}),
        (("99.5", "99.5"), {"eq", "lt", "le", "eb", "ap"}),
        (("100", "100"), {"eq", "ge", "le", "ap"}),
        (("100.4", "100.4"), {"eq", "gt", "ge", "sa", "ap"}),
        (("100.5", "100.5"), {"ne", "gt", "ge", "sa", "ap"}),
        (("110", "110"), {"ne", "gt", "ge", "sa", "ap"}),
        (("110.1", "110.1"), {"ne", "gt", "ge", "sa"}),
        (("-Infinity", "100"), {"ne", "lt", "le", "ge", "ap"}),
        (("90", "Infinity"), {"ne", "lt", "le", "gt", "ge", "ap"}),
        (("99.9", "100.1"), {"eq", "lt", "le", "gt", "ge", "ap"}),
    ],
)
def test_number_prefixes(row: tuple[str, str], expected: set[str]) -> None:
    found = {prefix for prefix in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap") if number.matches(number.bounds(prefix + "100"), row)}
    assert found == expected


def test_equal_numbers_make_equal_rows() -> None:
    assert number.canonical(Number("1.10")) == number.canonical(Number("1.1")) == "1.1"
    assert number.canonical(Number("-0.0")) == number.canonical(0) == "0"
    assert number.canonical(Number("12345678901234567890.12345678901234567890")) == "12345678901234567890.1234567890123456789"


@pytest.mark.parametrize(
    ("query", "matched"),
    [
        ("abc", True),
        ("ABC", True),
        ("http://s|abc", True),
        ("http://s|ABC", True),
        ("http://S|abc", False),
        ("http://s|", True),
        ("http://t|", False),
        ("|abc", False),
        ("ab", False),
    ],
)
def test_tokens(query: str, matched: bool) -> None:  # noqa: FBT001 - a table's column
    assert token.matches(token.parse(query, None, (), CONTEXT), ("abc", "http://s")) is matched


def test_a_token_without_system() -> None:
    assert token.matches(token.parse("|abc", None, (), CONTEXT), ("abc", ""))
    assert token.matches(token.parse("abc", None, (), CONTEXT), ("abc", ""))
    with pytest.raises(ValueError, match="neither"):
        token.parse("|", None, (), CONTEXT)
    with pytest.raises(ValueError, match="more than one"):
        token.parse("a|b|c", None, (), CONTEXT)
    assert token.parse(r"a\|b", None, (), CONTEXT) == token.Token("a|b", None)


@pytest.mark.parametrize(
    ("how", "query", "value", "matched"),
    [
        (None, "mul", "Müller", True),
        (None, "MÜL", "muller", True),
        (None, "ller", "Müller", False),
        (None, "STRASSE", "Straße 1", True),
        (None, "a,b", "A,B c", True),
        (None, "%", "100%", False),
        ("exact", "Müller", "Müller", True),
        ("exact", "müller", "Müller", False),
        ("exact", "Müll", "Müller", False),
        ("contains", "LLE", "Müller", True),
        ("contains", "%", "100%", True),
        ("contains", "%", "100", False),
        ("contains", "_", "ab", False),
    ],
)
def test_strings(how: str | None, query: str, value: str, matched: bool) -> None:  # noqa: FBT001 - a table's column
    maker = string.maker("string", None, CONTEXT)
    assert maker is not None
    (row,) = maker(value)
    assert string.matches(string.parse(query.replace(",", "\\,"), how, (), CONTEXT), row) is matched


def test_every_part_of_a_name_and_an_address_counts() -> None:
    name, address = string.maker("HumanName", None, CONTEXT), string.maker("Address", None, CONTEXT)
    assert name is not None
    assert address is not None
    found = {row[1] for row in name({"text": "T", "family": "F", "given": ["G1", None, "G2"], "prefix": ["P"], "suffix": ["S"], "use": "official"})}
    assert found == {"T", "F", "G1", "G2", "P", "S"}
    found = {
        row[1]
        for row in address({"line": ["L"], "city": "C", "district": "D", "state": "S", "postalCode": "1", "country": "X", "text": "T", "use": "home"})
    }
    assert found == {"L", "C", "D", "S", "1", "X", "T"}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Patient/1", [("1", 1)]),
        ("Patient/1/_history/2", [("1", 1), ("Patient/1/_history/2", 0)]),
        ("http://localhost/fhir/Patient/1", [("1", 1)]),
        ("http://localhost/fhir/Patient/1/_history/2", [("1", 1), ("Patient/1/_history/2", 0)]),
        ("http://else.example/fhir/Patient/1", [("http://else.example/fhir/Patient/1", 0)]),
        (
            "http://else.example/fhir/Patient/1/_history/2",
            [("http://else.example/fhir/Patient/1", 0), ("http://else.example/fhir/Patient/1/_history/2", 0)],
        ),
        ("urn:uuid:9", [("urn:uuid:9", 0)]),
        ("#inside", [("#inside", 0)]),
        ("#in:side", [("#in:side", 0)]),
        ("#", []),
        ("Patient?identifier=1", []),
        ("Nothing/1", []),
        ("", []),
    ],
)
def test_references_become_rows(text: str, rows: list[tuple[str, int]]) -> None:
    maker = reference.maker("Reference", None, CONTEXT)
    assert maker is not None
    assert list(maker({"reference": text} if text else {"display": "x"})) == rows


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Patient/1", {"Patient/1/_history/2", "Patient/1/_history/3", "Patient/1"}),
        ("Patient/1/_history/2", {"Patient/1/_history/2"}),
        ("http://localhost/fhir/Patient/1/_history/2", {"Patient/1/_history/2"}),
        ("Patient/1/_history/4", set()),
        ("Device/1/_history/2", set()),
    ],
)
def test_a_version_counts_where_it_is_asked_for(text: str, found: set[str]) -> None:
    maker = reference.maker("Reference", None, CONTEXT)
    assert maker is not None
    value = reference.parse(text, None, (), CONTEXT)
    there = {"Patient/1", "Patient/1/_history/2", "Patient/1/_history/3"}
    assert {each for each in there if any(reference.matches(value, row) for row in maker({"reference": each}))} == found


@pytest.mark.parametrize(
    ("text", "modifier", "found"),
    [
        ("http://x.example/q", None, {"q", "q|1", "q|1.2", "q|12"}),
        ("http://x.example/q|1", None, {"q|1"}),
        ("http://x.example/q|1", "below", {"q|1", "q|1.2"}),
        ("http://x.example/q|1.2", "above", {"q|1", "q|1.2"}),
        ("http://x.example/q", "below", {"q", "q|1", "q|1.2", "q|12", "q/r"}),
        ("http://x.example", "below", {"q", "q|1", "q|1.2", "q|12", "q/r", "qr"}),
        ("http://x.example/q/r/s", "above", {"q", "q|1", "q|1.2", "q|12", "q/r"}),
    ],
)
def test_canonical_references(text: str, modifier: str | None, found: set[str]) -> None:
    maker = reference.maker("canonical", None, CONTEXT)
    assert maker is not None
    value = reference.parse(text, modifier, (), CONTEXT)
    there = {"q", "q|1", "q|1.2", "q|12", "q/r", "qr"}
    assert {each for each in there if any(reference.matches(value, row) for row in maker(f"http://x.example/{each}"))} == found


@pytest.mark.parametrize(
    ("text", "modifier", "found"),
    [
        ("http://x.example/a", None, {"/a"}),
        ("http://x.example/a", "below", {"/a", "/a/", "/a/b", "/a/b/c"}),
        ("http://x.example/a/", "below", {"/a", "/a/", "/a/b", "/a/b/c"}),
        ("http://x.example", "below", {"", "/a", "/a/", "/a/b", "/a/b/c", "/ab"}),
        ("http://x.example/a/b", "above", {"", "/a", "/a/", "/a/b"}),
        ("http://x.example/a/", "above", {"", "/a", "/a/"}),
    ],
)
def test_uris_above_and_below(text: str, modifier: str | None, found: set[str]) -> None:
    value = uri.parse(text, modifier, (), CONTEXT)
    assert {each for each in ("", "/a", "/a/", "/a/b", "/a/b/c", "/ab") if uri.matches(value, (f"http://x.example{each}",))} == found


@pytest.mark.parametrize(
    ("text", "modifier", "reason"),
    [
        ("urn:oid:1.2.3", "below", "is no URL"),
        ("urn:oid:1.2.3", "above", "is no URL"),
        ("x", "below", "is no URL"),
        ("http://x.example/" + "a/" * 60, "above", "segments"),
        ("http://x.example/" + "a" * 150, "below", "longer"),
    ],
)
def test_what_has_nothing_above_or_below(text: str, modifier: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        uri.parse(text, modifier, (), CONTEXT)
    with pytest.raises(ValueError, match=reason):
        reference.parse(text, modifier, (), CONTEXT)


@pytest.mark.parametrize(
    ("text", "modifier", "targets", "matched"),
    [
        ("1", None, (), True),
        ("1", None, ("Patient",), True),
        ("1", None, ("Device",), False),
        ("1", "Patient", (), True),
        ("1", "Device", (), False),
        ("Patient/1", None, (), True),
        ("Patient/1", "Patient", (), True),
        ("Patient/1", "Device", (), False),
        ("Device/1", None, (), False),
        ("http://localhost/fhir/Patient/1", None, (), True),
        ("http://else.example/fhir/Patient/1", None, (), False),
        ("2", None, (), False),
    ],
)
def test_references(text: str, modifier: str | None, targets: tuple[str, ...], matched: bool) -> None:  # noqa: FBT001 - a table's column
    assert reference.matches(reference.parse(text, modifier, targets, CONTEXT), ("1", 1)) is matched


@pytest.mark.parametrize("text", ["Nothing/1", "Patient/1/2/3", "a/b"])
def test_no_references(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        reference.parse(text, None, (), CONTEXT)


def test_canonical_urls_match_with_and_without_version() -> None:
    maker = reference.maker("canonical", None, CONTEXT)
    assert maker is not None
    assert list(maker("http://x.example/q|2#part")) == [("http://x.example/q|2", 0), ("http://x.example/q", 0)]
    assert list(maker("#only")) == []


def test_uris_are_compared_as_they_are() -> None:
    assert uri.matches(uri.parse("http://x.example/A", None, (), CONTEXT), ("http://x.example/A",))
    assert not uri.matches(uri.parse("http://x.example/a", None, (), CONTEXT), ("http://x.example/A",))


def test_long_values_stay_distinct_and_short() -> None:
    one, two = "é" * 500 + "1", "é" * 500 + "2"
    assert capped(one) != capped(two)
    assert len(capped(one).encode()) <= 224
    assert capped("é" * 100) == "é" * 100


@pytest.mark.parametrize(
    ("text", "parts"), [("a,b", ["a", "b"]), (r"a\,b,c", [r"a\,b", "c"]), (r"a\\,b", [r"a\\", "b"]), ("", [""]), ("a\\", ["a\\"])]
)
def test_split(text: str, parts: list[str]) -> None:
    assert split(text, ",") == parts


@pytest.mark.parametrize(("text", "plain"), [(r"a\,b\|c\$d\\e", r"a,b|c$d\e"), (r"a\nb", r"a\nb"), ("a\\", "a\\")])
def test_unescape(text: str, plain: str) -> None:
    assert unescape(text) == plain


def test_least_and_greatest_are_marked_once(registry: Registry) -> None:
    resource = {"resourceType": "Patient", "name": [{"family": "B", "given": ["a", "C"]}, {"family": "B"}]}
    pid = registry.supported_params("Patient")["name"].pid
    rows = {row[2]: row[3:] for row in registry.rows(resource)["sp_string"] if row[0] == pid}
    assert rows == {"a": (True, False), "B": (False, False), "C": (False, True)}


def test_every_kind_answers_for_an_unknown_type() -> None:
    assert {name: kind.maker("Narrative", None, CONTEXT) for name, kind in KINDS.items()} == dict.fromkeys(KINDS)
