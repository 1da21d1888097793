"""Tokens to a syntax tree, by precedence.

https://hl7.org/fhirpath/N1/#operator-precedence
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, cast

from .ast import Binary, Call, Index, Literal, Member, Node, Operator, TypeOp, Unary, Variable
from .errors import FhirPathError
from .lexer import Token, tokens
from .quantity import CALENDAR, Quantity
from .temporal import Temporal

MAX_DEPTH: Final = 120
"""Levels of the tree. R4 needs 45; each level may take five frames of Python's stack when it runs."""

_BINARY: Final = {
    "implies": 1,
    "or": 2,
    "xor": 2,
    "and": 3,
    "in": 4,
    "contains": 4,
    "=": 5,
    "~": 5,
    "!=": 5,
    "!~": 5,
    "<": 6,
    "<=": 6,
    ">": 6,
    ">=": 6,
    "|": 7,
    "is": 8,
    "as": 8,
    "+": 9,
    "-": 9,
    "&": 9,
    "*": 10,
    "/": 10,
    "div": 10,
    "mod": 10,
}
_UNARY: Final = 11
_TYPE_FUNCTIONS: Final = {"is", "as", "ofType"}
_WORDS_THAT_NAME: Final = {"as", "contains", "in", "is"}
_INTEGER_DIGITS: Final = 19
_NUMBER_DIGITS: Final = 64


def parse(text: str) -> Node:
    """The syntax tree of an expression. Raises FhirPathError with the place of the first fault. Costs about 2 µs a token."""
    parser = _Parser(tokens(text))
    node = parser.expression(0)
    parser.expect_end()
    return node


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.at = 0
        self.depth = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, symbol: str) -> bool:
        token = self.tokens[self.at]
        if token.kind == "symbol" and token.text == symbol:
            self.at += 1
            return True
        return False

    def expect(self, symbol: str) -> None:
        if not self.accept(symbol):
            raise FhirPathError(f"expected '{symbol}' but found {_shown(self.next)}", self.next.position)

    def expect_end(self) -> None:
        if self.next.kind != "end":
            raise FhirPathError(f"unexpected {_shown(self.next)}", self.next.position)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FhirPathError(f"the expression is nested more than {MAX_DEPTH} levels deep", self.next.position)

    def expression(self, least: int) -> Node:
        """An expression of operators that bind tighter than `least`. A chain counts as deep as it is long: its tree leans to the left."""
        before = self.depth
        self.deeper()
        left = self.operand()
        while True:
            token = self.next
            power = _BINARY.get(token.text, 0) if token.kind in {"symbol", "word"} else 0
            if power <= least:
                self.depth = before
                return left
            self.take()
            self.deeper()
            if token.text == "is":
                left = TypeOp("is", left, self.type_name(), token.position)
            elif token.text == "as":
                left = TypeOp("as", left, self.type_name(), token.position)
            else:
                left = Binary(cast("Operator", token.text), left, self.expression(power), token.position)

    def operand(self) -> Node:
        if self.accept("-"):
            return Unary("-", self.expression(_UNARY - 1))
        if self.accept("+"):
            return Unary("+", self.expression(_UNARY - 1))
        node = self.term()
        while True:
            if self.accept("."):
                node = self.invocation(node)
            elif self.accept("["):
                node = Index(node, self.expression(0))
                self.expect("]")
            else:
                return node
            self.deeper()

    def term(self) -> Node:  # noqa: PLR0911 - one for each kind of token
        token = self.next
        match token.kind:
            case "string":
                return Literal(self.take().text)
            case "number":
                return self.number()
            case "temporal":
                return self.temporal()
            case "variable":
                self.take()
                return Variable(token.text, token.position)
            case "quoted":
                return self.invocation(None)
            case "word":
                return self.word(token)
        if self.accept("("):
            node = self.expression(0)
            self.expect(")")
            return node
        if self.accept("{"):
            self.expect("}")
            return Literal(None)
        raise FhirPathError(f"expected an expression but found {_shown(token)}", token.position)

    def word(self, token: Token) -> Node:
        if token.text in {"true", "false"}:
            self.take()
            return Literal(token.text == "true")
        if token.text in _BINARY and token.text not in _WORDS_THAT_NAME:
            raise FhirPathError(f"expected an expression but found {_shown(token)}", token.position)
        return self.invocation(None)

    def number(self) -> Node:
        token = self.take()
        if len(token.text) > _NUMBER_DIGITS or ("." not in token.text and len(token.text) > _INTEGER_DIGITS):
            raise FhirPathError("the number has too many digits", token.position)
        unit = self.next
        if unit.kind == "string" or (unit.kind == "word" and unit.text in CALENDAR):
            self.take()
            return Literal(Quantity(Decimal(token.text), CALENDAR.get(unit.text, unit.text)))
        return Literal(Decimal(token.text) if "." in token.text else int(token.text))

    def temporal(self) -> Node:
        token = self.take()
        value = Temporal.literal(token.text)
        if value is None:
            raise FhirPathError(f"{token.text} is not in the calendar", token.position)
        return Literal(value)

    def invocation(self, target: Node | None) -> Node:
        token = self.take()
        if token.kind == "variable" and token.text.startswith("$") and target is not None:
            raise FhirPathError(f"{token.text} cannot follow a dot", token.position)
        if token.kind not in {"word", "quoted"}:
            raise FhirPathError(f"expected a name but found {_shown(token)}", token.position)
        if not self.accept("("):
            return Member(target, token.text, token.position)
        if token.text in _TYPE_FUNCTIONS:
            name = self.type_name()
            self.expect(")")
            return TypeOp("is" if token.text == "is" else "as" if token.text == "as" else "ofType", target, name, token.position)
        args: list[Node] = []
        if not self.accept(")"):
            args.append(self.expression(0))
            while self.accept(","):
                args.append(self.expression(0))
            self.expect(")")
        return Call(target, token.text, tuple(args), token.position)

    def type_name(self) -> str:
        parts = [self.name()]
        # A dot belongs to the type only after a namespace: in `x is Patient.name` nobody means a type.
        while parts[-1] in {"FHIR", "System"} and self.accept("."):
            parts.append(self.name())
        return ".".join(parts)

    def name(self) -> str:
        token = self.take()
        if token.kind not in {"word", "quoted"}:
            raise FhirPathError(f"expected the name of a type but found {_shown(token)}", token.position)
        return token.text


def _shown(token: Token) -> str:
    return "the end" if token.kind == "end" else f"'{token.text}'"
