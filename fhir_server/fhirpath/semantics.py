"""What can be known wrong with an expression before it runs: elements that no type has, types that never meet.

https://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .ast import Binary, Call, Index, Kept, Literal, Member, Node, TypeOp, Unary, Variable
from .errors import FhirPathError
from .functions import FUNCTIONS, Lambda
from .model import Model
from .operators import type_name

Types = frozenset[str] | None
"""The types an expression may result in: FHIR names, or System names behind `System.`; None where that is open."""

_BOOLEAN: Final = frozenset({"System.Boolean"})
_CONDITIONS: Final = frozenset({"boolean", "System.Boolean"})
_ABSTRACT: Final = frozenset({"Resource", "DomainResource", "Element", "BackboneElement"})
_SAME: Final = frozenset({"where", "trace", "first", "last", "tail", "skip", "take", "single", "distinct", "exclude", "intersect", "sort"})
_ORDERED: Final = frozenset({"first", "last", "tail", "skip", "take"})
_UNORDERED: Final = frozenset({"children", "descendants"})
_CONDITION_CALLS: Final = frozenset({
    "empty", "exists", "all", "allTrue", "anyTrue", "allFalse", "anyFalse", "subsetOf", "supersetOf", "isDistinct", "not", "hasValue",
    "startsWith", "endsWith", "contains", "matches",
})  # fmt: skip
_COMPARING: Final = frozenset({"and", "or", "xor", "implies", "=", "!=", "~", "!~", "<", "<=", ">", ">=", "in", "contains"})


def verify(node: Node, model: Model, context: str) -> None:
    """Raises FhirPathError for what cannot be meant on a focus of this type."""
    _Checker(model).types(node, frozenset({context}))


class _Checker:
    def __init__(self, model: Model) -> None:
        self.model = model

    def types(self, node: Node, focus: Types) -> Types:  # noqa: C901, PLR0911 - one for each kind of node
        """The types of a node's result on a focus."""
        match node:
            case Literal(value=None):
                return frozenset()
            case Literal(value=value):
                return frozenset({f"System.{type_name(value)}"})
            case Variable(name="$this"):
                return focus
            case Variable():
                return None
            case Member():
                return self.member(node, focus)
            case Call():
                return self.call(node, focus)
            case Index(target=target, index=index):
                self.types(index, focus)
                return self.types(target, focus)
            case TypeOp():
                return self.type_op(node, focus)
            case Unary(operand=operand):
                return self.types(operand, focus)
            case Binary():
                return self.binary(node, focus)
            case Kept(part=part):
                return self.types(part, focus)

    def member(self, node: Member, focus: Types) -> Types:
        name = node.name
        if node.target is None and name[:1].isupper() and name in self.model.spec.types:
            if focus is not None and not self.meet(focus, name):
                raise FhirPathError(f"the focus is {_listed(focus)}, never {name}", node.position)
            return frozenset({name})
        owners = focus if node.target is None else self.types(node.target, focus)
        if owners is None or owners & _ABSTRACT or not owners:
            return None
        found = {entry.type for owner in owners for entry in self.model.fields(owner).get(name, ())}
        if not found:
            raise FhirPathError(f"{_listed(owners)} has no element {name}", node.position)
        return frozenset(found)

    def call(self, node: Call, focus: Types) -> Types:
        target = focus if node.target is None else self.types(node.target, focus)
        function = FUNCTIONS.get(node.name)
        inner = target if isinstance(function, Lambda) and node.name != "trace" else focus
        args = [self.types(arg, inner) for arg in node.args]
        if node.name in _ORDERED and isinstance(node.target, Call) and node.target.name in _UNORDERED:
            raise FhirPathError(f"{node.name}() needs an order, which {node.target.name}() does not have", node.position)
        if node.name == "iif":
            if args and args[0] and not args[0] & _CONDITIONS:
                raise FhirPathError(f"the condition of iif() is {_listed(args[0])}", node.position)
            return _together(args[1:])
        if node.name in _SAME:
            return target
        if node.name == "select" and args:
            return args[0]
        if node.name in {"union", "combine"} and args:
            return _together([target, args[0]])
        if node.name == "extension":
            return frozenset({"Extension"})
        return _BOOLEAN if node.name in _CONDITION_CALLS else None

    def type_op(self, node: TypeOp, focus: Types) -> Types:
        operand = focus if node.operand is None else self.types(node.operand, focus)
        if node.op == "is":
            return _BOOLEAN
        name = node.type.removeprefix("FHIR.")
        if name not in self.model.spec.types:
            return None
        if operand and not self.meet(operand, name):
            raise FhirPathError(f"{_listed(operand)} is never {name}", node.position)
        return frozenset({name})

    def binary(self, node: Binary, focus: Types) -> Types:
        left, right = self.types(node.left, focus), self.types(node.right, focus)
        if node.op in _COMPARING:
            return _BOOLEAN
        return _together([left, right]) if node.op == "|" else None

    def meet(self, types: frozenset[str], name: str) -> bool:
        """Whether one of the types may turn out to be the named one."""
        return any(self.model.is_a(one, name) or self.model.is_a(name, one) for one in types)


def _together(parts: Iterable[Types]) -> Types:
    found: frozenset[str] = frozenset()
    for part in parts:
        if part is None:
            return None
        found |= part
    return found


def _listed(types: frozenset[str]) -> str:
    names = sorted(name.removeprefix("System.") for name in types)
    return " or ".join(names[:3]) + (" …" if names[3:] else "")
