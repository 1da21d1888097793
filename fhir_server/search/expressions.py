"""Search-parameter expressions, read off their syntax tree as steps from the root of a resource.

https://hl7.org/fhir/R4/searchparameter.html, https://hl7.org/fhir/R4/fhirpath.html

Nearly all expressions of R4 are paths with a few well-known turns: `as`, `where(resolve() is X)`, `where(key = 'value')`, `extension('url')` and
`[0]`. The others are conditions, which the FHIRPath engine evaluates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fhir_server.fhirpath import parse
from fhir_server.fhirpath.ast import Binary, Call, Index, Literal, Member, Node, TypeOp
from fhir_server.spec import Spec


@dataclass(frozen=True, slots=True)
class Key:
    """An element by name."""

    name: str


@dataclass(frozen=True, slots=True)
class As:
    """Only values of a type."""

    type: str


@dataclass(frozen=True, slots=True)
class When:
    """Only objects whose property is this text."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class First:
    """Only the first of several."""


@dataclass(frozen=True, slots=True)
class PointsTo:
    """Only references to a type."""

    type: str


@dataclass(frozen=True, slots=True)
class Truth:
    """Whether an expression that is no path is true: `Patient.deceased.exists() and Patient.deceased != false`."""

    expression: str


Step = Key | As | When | First | PointsTo | Truth


def paths(expression: str, resource_type: str, spec: Spec) -> Iterator[list[Step]]:
    """The alternatives of an expression that concern a resource type, each as steps from its root.

    Raises ValueError for one that is neither a path as above nor a condition.
    """
    for node in _alternatives(parse(expression)):
        head = _head(node)
        if head is not None and (not _is_type(head, spec) or spec.is_a(resource_type, head)):
            yield [Truth(expression)] if _is_condition(node) else _to_the_end(node, spec)


def _alternatives(node: Node) -> Iterator[Node]:
    if isinstance(node, Binary) and node.op == "|":
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    else:
        yield node


def _head(node: Node | None) -> str | None:
    """What a path starts from: a type, or an element where the type goes without saying, as in `name | alias`."""
    match node:
        case Member(None, name):
            return name
        case Member(target) | Call(target) | Index(target):
            return _head(target)
        case TypeOp(operand=operand):
            return _head(operand)
        case Binary(left=left):
            return _head(left)
        case _:
            return None


def _is_type(name: str, spec: Spec) -> bool:
    """Whether a path may start from the type: `code` is an element wherever it stands, although there is a primitive of that name."""
    return name[0].isupper() and name in spec.types


def _is_condition(node: Node) -> bool:
    return isinstance(node, Binary) and node.op in {"and", "or", "=", "!="}


def _to_the_end(node: Node, spec: Spec) -> list[Step]:
    """The steps; R4 leaves the value unsaid where an extension is the last, as in `Observation.extension('…/observation-geneticsGene')`."""
    steps = _steps(node, spec)
    return [*steps, Key("value")] if isinstance(node, Call) and node.name == "extension" else steps


def _steps(node: Node | None, spec: Spec) -> list[Step]:  # noqa: PLR0911 - one per kind of node
    match node:
        case Member(None, name):
            return [] if _is_type(name, spec) else [Key(name)]
        case Member(target, name):
            return [*_steps(target, spec), Key(name)]
        case TypeOp("as" | "ofType", operand, type_name):
            return [*_steps(operand, spec), As(type_name)]
        case Index(target, Literal(0)):
            return [*_steps(target, spec), First()]
        case Call(target, "where", (TypeOp("is", Call(None, "resolve"), type_name),)):
            return [*_steps(target, spec), PointsTo(type_name)]
        case Call(target, "where", (Binary("=", Member(None, key), Literal(str(value))),)):
            return [*_steps(target, spec), When(key, value)]
        case Call(target, "extension", (Literal(str(url)),)):
            return [*_steps(target, spec), Key("extension"), When("url", url)]
        case _:
            raise ValueError(f"no path: {node}")
