"""The syntax tree: small frozen values, equal when they say the same.

https://hl7.org/fhirpath/N1/#syntax

`target` and `operand` are None where the expression starts at the focus: `name.given` is Member(Member(None, "name"), "given").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal as OneOf

from .quantity import Quantity
from .temporal import Temporal

Operator = OneOf[
    "implies", "or", "xor", "and", "in", "contains", "=", "!=", "~", "!~", "<", "<=", ">", ">=", "|", "+", "-", "&", "*", "/", "div", "mod"
]


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; None is the empty collection `{}`."""

    value: str | bool | int | Decimal | Temporal | Quantity | None


@dataclass(frozen=True, slots=True)
class Variable:
    """`$this`, `$index`, `$total` with their dollar sign, or an external constant with its percent sign: `%resource`, `%ext-birthTime`."""

    name: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Member:
    """An element by name, or at the head of a path also a type by name: `Patient`."""

    target: Node | None
    name: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function; those that test types are TypeOp."""

    target: Node | None
    name: str
    args: tuple[Node, ...] = ()
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    """`target[index]`."""

    target: Node
    index: Node


@dataclass(frozen=True, slots=True)
class TypeOp:
    """`operand is type`, `operand.is(type)`, and the same with `as` and `ofType`. `type` is as written, without backticks: `FHIR.Patient`."""

    op: OneOf["is", "as", "ofType"]
    operand: Node | None
    type: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """A sign before an operand."""

    op: OneOf["+", "-"]
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands; a union is one with `|`."""

    op: Operator
    left: Node
    right: Node
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """A part that is evaluated once, since nothing it depends on changes; made by `hoisting`, never by the parser."""

    part: Node


Node = Literal | Variable | Member | Call | Index | TypeOp | Unary | Binary | Kept


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below one, in the order they are written."""
    match node:
        case Member(target=target) if target is not None:
            yield target
        case Call(target=target, args=args):
            if target is not None:
                yield target
            yield from args
        case Index(target=target, index=index):
            yield target
            yield index
        case TypeOp(operand=operand) if operand is not None:
            yield operand
        case Unary(operand=operand):
            yield operand
        case Binary(left=left, right=right):
            yield left
            yield right
        case Kept(part=part):
            yield part
        case _:
            return
