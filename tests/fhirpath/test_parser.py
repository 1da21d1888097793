from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath import FhirPathError, Quantity, Temporal, parse
from fhir_server.fhirpath.ast import Binary, Call, Index, Literal, Member, TypeOp, Unary, Variable, children
from fhir_server.fhirpath.parser import MAX_DEPTH


def name(text: str) -> Member:
    return Member(None, text)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("name.given", Member(name("name"), "given")),
        ("a or b and c", Binary("or", name("a"), Binary("and", name("b"), name("c")))),
        ("a and b or c", Binary("or", Binary("and", name("a"), name("b")), name("c"))),
        ("a implies b implies c", Binary("implies", Binary("implies", name("a"), name("b")), name("c"))),
        ("1 + 2 * 3", Binary("+", Literal(1), Binary("*", Literal(2), Literal(3)))),
        ("-a.b", Unary("-", Member(name("a"), "b"))),
        ("-1 + 2", Binary("+", Unary("-", Literal(1)), Literal(2))),
        ("a | b is string", Binary("|", name("a"), TypeOp("is", name("b"), "string"))),
        ("a = b | c", Binary("=", name("a"), Binary("|", name("b"), name("c")))),
        ("a < b in c", Binary("in", Binary("<", name("a"), name("b")), name("c"))),
        ("value as Quantity", TypeOp("as", name("value"), "Quantity")),
        ("value.ofType(FHIR.`Patient`)", TypeOp("ofType", name("value"), "FHIR.Patient")),
        ("as(canonical)", TypeOp("as", None, "canonical")),
        ("a[0].b", Member(Index(name("a"), Literal(0)), "b")),
        ("where(use = 'home')", Call(None, "where", (Binary("=", name("use"), Literal("home")),))),
        ("expansion.contains", Member(name("expansion"), "contains")),
        ("contains('x')", Call(None, "contains", (Literal("x"),))),
        ("$this.is", Member(Variable("$this"), "is")),
        ("%`ext-birth Time`", Variable("%ext-birth Time")),
        ("%'us-core'", Variable("%us-core")),
        ("text.`div`", Member(name("text"), "div")),
        ("{}", Literal(None)),
        ("1.50", Literal(Decimal("1.50"))),
        ("4 days", Literal(Quantity(Decimal(4), "day"))),
        ("10 'mg'", Literal(Quantity(Decimal(10), "mg"))),
        (r"'it\'s \u00e9\n'", Literal("it's é\n")),
        (r"'\ud83d\ude00'", Literal("\U0001f600")),
        ("@T12:30", Literal(Temporal.literal("@T12:30"))),
        ("a // rest\n.b /* more */", Member(name("a"), "b")),
    ],
)
def test_tree(text: str, tree: object) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected an expression but found the end"),
        ("a +", 3, "found the end"),
        ("a b", 2, "unexpected 'b'"),
        ("a.", 2, "expected a name"),
        ("a..b", 2, "expected a name"),
        ("(a", 2, "expected ')'"),
        ("a]", 1, "unexpected ']'"),
        ("f(a,)", 4, "expected an expression"),
        ("'open", 0, "the quotation does not end"),
        ("a /* open", 2, "the comment does not end"),
        ("a # b", 2, "unexpected character '#'"),
        ("@2020-02-30", 0, "not in the calendar"),
        ("@2020-13", 0, "not in the calendar"),
        ("@T25:00", 0, "not in the calendar"),
        ("1" * 20, 0, "too many digits"),
        ("a is", 4, "expected the name of a type"),
        ("a.$this", 2, "cannot follow a dot"),
        ("and", 0, "expected an expression"),
        (r"'a\ud83d'", 0, "half a character"),
        (r"'\u12'", 0, "four hexadecimal digits"),
        ("(" * 500 + "a" + ")" * 500, MAX_DEPTH, "nested more than"),
        (".".join(["a"] * 5000), 2 * MAX_DEPTH + 1, "nested more than"),
        ("a" * 30_000, None, "is the most"),
    ],
)
def test_faults_are_placed(text: str, position: int | None, message: str) -> None:
    with pytest.raises(FhirPathError) as caught:
        parse(text)
    assert message in caught.value.message
    assert caught.value.position == position
    assert caught.value.status == 422


@given(st.text(alphabet="ab.()[]'`$%@{}|&<>=!~+-*/, 019\\\n\"is", max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        node = parse(text)
    except FhirPathError:
        return
    assert isinstance(list(children(node)), list)


def test_nodes_with_the_same_meaning_are_equal_wherever_they_stand() -> None:
    assert parse("  a . b") == parse("a.b")
    assert hash(parse("a.f( 1 )")) == hash(parse("a.f(1)"))


def test_children_are_in_written_order() -> None:
    assert list(children(parse("a.f(b, c)"))) == [name("a"), name("b"), name("c")]
    assert list(children(parse("a[b]"))) == [name("a"), name("b")]
    assert list(children(parse("a is b"))) == [name("a")]
    assert list(children(parse("-a"))) == [name("a")]
    assert list(children(parse("a"))) == []
