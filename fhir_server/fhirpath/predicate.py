"""The fast way: conditions over statically known types run on the JSON itself, without Nodes. `checks` has what they are made of.

Most invariants ask whether elements are there and what simple values they have. Compiled here, `name.exists() or telecom.exists()` takes 0.3 µs
where Nodes take 3. What this module does not know it leaves to the general closures: for one side of an `and` or `or`, or for all of it.
The two ways agree on every resource that is structurally valid; on others the fast way may raise AttributeError or TypeError, and the caller
takes the general one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

from . import checks
from .ast import Binary, Call, Literal, Member, TypeOp, Variable
from .ast import Node as Syntax
from .checks import Check, Values, Within
from .model import Model

_TEXTS: Final = frozenset({"string", "code", "id", "uri", "url", "canonical", "markdown", "oid", "uuid"})
_NUMBERS: Final = frozenset({"integer", "positiveInt", "unsignedInt", "decimal"})
_DATES: Final = frozenset({"date", "dateTime", "instant"})
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_EMPTY_FROM_EMPTY: Final = frozenset(
    {"where", "select", "trace", "first", "last", "tail", "skip", "take", "distinct", "resolve", "extension", "repeat"}
)


class _Path(NamedTuple):
    """A path of known type. `keys` are the JSON properties of its last step below `parent`, for asking only whether one is there."""

    values: Values
    type: str
    parent: _Path | None = None
    keys: frozenset[str] = frozenset()


class Predicates:
    """Compiles conditions for one expression, whose focus is of the type `context`."""

    def __init__(self, model: Model, context: str, general: Callable[[Syntax], Check]) -> None:
        """`general` compiles a part of the expression over Nodes."""
        self._model = model
        self._context = context
        self._general = general

    def check(self, node: Syntax) -> Check | None:
        """The condition on the focus, None where nothing would be gained over the general way."""
        return self._check(node, self._context, outermost=True)

    def _check(self, node: Syntax, focus: str, *, outermost: bool) -> Check | None:  # noqa: C901, PLR0911 - one for each kind of condition
        match node:
            case Literal(value=bool() as value):
                return lambda _value, _within: value
            case Binary(op="and" | "or" | "xor" | "implies"):
                return self._logic(node, focus, outermost=outermost)
            case Binary(op="=" | "!="):
                return self._equality(node, focus)
            case Binary(op="<" | "<=" | ">" | ">="):
                return self._order(node, focus, outermost=outermost)
            case Binary(op="in"):
                return self._among(node, focus)
            case Call(target=target, name="not", args=()) if target is not None:
                inner = self._check(target, focus, outermost=outermost)
                return inner and checks.negated(inner)
            case Call(name="trace", target=target) if target is not None:
                return self._check(target, focus, outermost=outermost)
            case Call(name="exists" | "empty" | "all"):
                return self._existence(node, focus, outermost=outermost)
            case Call(name="startsWith" | "endsWith" | "contains" | "matches", args=(Literal(value=str() as text),)):
                return self._text(node, text, focus)
            case Call(name="hasValue", args=()):
                return self._has_value(node, focus)
            case Call(name="isDistinct", args=()) if outermost:
                return self._guarded(node, focus, when_absent=True)
            case Member():
                return self._flag(node, focus)
        return None

    def _logic(self, node: Binary, focus: str, *, outermost: bool) -> Check | None:
        left, right = (self._check(side, focus, outermost=outermost) for side in (node.left, node.right))
        if left is None and right is None:
            return None
        if left is None or right is None:
            if not outermost:
                return None
            left, right = left or self._general(node.left), right or self._general(node.right)
        return {"and": checks.and_, "or": checks.or_, "xor": checks.xor, "implies": checks.implies}[node.op](left, right)

    def _equality(self, node: Binary, focus: str) -> Check | None:
        negate = node.op == "!="
        path, literal = self._path(node.left, focus), _constant(node.right)
        if path is not None and literal is not None and _fits(literal, path.type):
            return checks.equals(path.values, literal, negate=negate)
        if _is_condition(node.left) and (_is_condition(node.right) or isinstance(node.right, Binary)):
            left, right = self._check(node.left, focus, outermost=False), self._check(node.right, focus, outermost=False)
            if left is not None and right is not None:
                return checks.same(left, right, negate=negate)
        return None

    def _order(self, node: Binary, focus: str, *, outermost: bool) -> Check | None:  # noqa: PLR0911 - one for each pair of types
        compare = _ORDERS[node.op]
        left, literal = self._path(node.left, focus), _constant(node.right)
        if left is None:
            return None
        if literal is not None:
            if left.type not in _NUMBERS or isinstance(literal, str | bool):
                return None
            return checks.compares(left.values, lambda _value, _within: [literal], compare)
        right = self._path(node.right, focus)
        if right is None:
            return None
        if {left.type, right.type} <= _NUMBERS:
            return checks.compares(left.values, right.values, compare)
        if {left.type, right.type} <= _DATES and outermost:
            return checks.compares_dates(left.values, right.values, compare, self._general(node))
        return None

    def _among(self, node: Binary, focus: str) -> Check | None:
        path = self._path(node.left, focus)
        literals = _union(node.right)
        if path is None or literals is None or path.type not in _TEXTS:
            return None
        values = path.values

        def check(value: Any, within: Within) -> bool | None:
            found = values(value, within)
            if len(found) == 1:
                return found[0] in literals
            if found:
                raise TypeError
            return None

        return check

    def _existence(self, node: Call, focus: str, *, outermost: bool) -> Check | None:
        path = None if node.target is None else self._path(node.target, focus)
        if path is None:
            return self._guarded(node, focus, when_absent=node.name != "exists") if outermost else None
        if not node.args:
            present = checks.present(path.values, path.parent and path.parent.values, path.keys)
            return present if node.name == "exists" else checks.negated(present)
        criterion = self._check(node.args[0], path.type, outermost=False)
        if criterion is None:
            return self._guarded(node, focus, when_absent=node.name != "exists") if outermost else None
        values = checks.charged(path.values)
        if node.name == "all":
            return lambda value, within: all(criterion(one, within) for one in values(value, within))
        return lambda value, within: any(criterion(one, within) for one in values(value, within))

    def _guarded(self, node: Call, focus: str, *, when_absent: bool) -> Check | None:
        """Absent elements decide at once, as those of dom-3 on a resource without `contained`; the rest is left to the general way."""
        head: Syntax | None = node.target
        while head is not None and not (isinstance(head, Member) and head.target is None):
            if isinstance(head, Member) or (isinstance(head, Call) and head.name in _EMPTY_FROM_EMPTY):
                head = head.target
            elif isinstance(head, TypeOp) and head.op != "is":
                head = head.operand
            else:
                return None
        if not isinstance(head, Member) or (keys := self._keys(focus, head.name)) is None:
            return None
        general = self._general(node)
        return lambda value, within: when_absent if keys.isdisjoint(value) else general(value, within)

    def _text(self, node: Call, text: str, focus: str) -> Check | None:
        path = None if node.target is None else self._path(node.target, focus)
        if path is None or path.type not in _TEXTS:
            return None
        values = path.values
        test: Callable[[str], bool]
        match node.name:
            case "startsWith":
                test = lambda one: one.startswith(text)  # noqa: E731
            case "endsWith":
                test = lambda one: one.endswith(text)  # noqa: E731
            case "contains":
                test = lambda one: text in one  # noqa: E731
            case _:
                return checks.matches(values, text)

        def check(value: Any, within: Within) -> bool | None:
            found = values(value, within)
            if len(found) > 1:
                raise TypeError
            return test(found[0]) if found and found[0] is not None else None

        return check

    def _has_value(self, node: Call, focus: str) -> Check | None:
        path = None if node.target is None else self._path(node.target, focus)
        if path is None or path.type not in self._model.primitives:
            return None
        values = path.values

        def check(value: Any, within: Within) -> bool:
            found = values(value, within)
            return len(found) == 1 and found[0] is not None

        return check

    def _flag(self, node: Member, focus: str) -> Check | None:
        path = self._path(node, focus)
        if path is None or path.type != "boolean":
            return None
        values = path.values

        def check(value: Any, within: Within) -> bool | None:
            found = values(value, within)
            if len(found) > 1 or (found and found[0] is None):
                raise TypeError
            return found[0] if found else None

        return check

    def _keys(self, type_name: str, name: str) -> frozenset[str] | None:
        entries = self._model.fields(type_name).get(name)
        if entries is None or type_name in self._model.primitives:
            return None
        return frozenset(key for entry in entries for key in ((entry.key, entry.under) if entry.primitive else (entry.key,)))

    def _path(self, node: Syntax, focus: str) -> _Path | None:  # noqa: PLR0911 - one for each kind of step
        match node:
            case Variable(name="$this"):
                return _Path(checks.itself, focus)
            case Variable(name="%resource") if self._model.is_a(self._context, "Resource"):
                return _Path(lambda _value, within: [within[0]], self._context)
            case Call(name="trace", target=target) if target is not None:
                return self._path(target, focus)
            case Call(name="where", target=target, args=(criterion,)) if target is not None:
                path = self._path(target, focus)
                check = path and self._check(criterion, path.type, outermost=False)
                return _Path(checks.filtered(path.values, check), path.type) if path and check else None
            case Member(target=None, name=name) if name in self._model.spec.types and name[:1].isupper():
                return _Path(checks.itself, focus) if self._model.is_a(focus, name) else None
            case Member(target=None, name=name):
                return self._step(_Path(checks.itself, focus), name)
            case Member(target=target, name=name) if target is not None:
                parent = self._path(target, focus)
                return parent and self._step(parent, name)
        return None

    def _step(self, parent: _Path, name: str) -> _Path | None:
        keys = self._keys(parent.type, name)
        if keys is None:
            return None
        entries = self._model.fields(parent.type)[name]
        if len(entries) > 1:
            # Of a choice only the presence is known without looking at the type.
            return _Path(checks.unknown, "", parent, keys)
        entry = entries[0]
        if entry.type in {"Resource", "DomainResource"}:
            return _Path(checks.unknown, "", parent, keys)
        read = checks.primitives(entry.key, entry.under) if entry.primitive else checks.elements(entry.key)
        values = read if parent.values is checks.itself else checks.chained(parent.values, read)
        return _Path(checks.unknown if parent.values is checks.unknown else values, entry.type, parent, keys)


def _constant(node: Syntax) -> str | bool | int | Decimal | None:
    return node.value if isinstance(node, Literal) and isinstance(node.value, str | bool | int | Decimal) else None


def _fits(literal: Any, type_name: str) -> bool:
    if isinstance(literal, bool):
        return type_name == "boolean"
    return type_name in (_TEXTS if isinstance(literal, str) else _NUMBERS)


def _union(node: Syntax) -> frozenset[str] | None:
    if isinstance(node, Literal):
        return frozenset({node.value}) if isinstance(node.value, str) else None
    if isinstance(node, Binary) and node.op == "|":
        left, right = _union(node.left), _union(node.right)
        return left | right if left is not None and right is not None else None
    return None


def _is_condition(node: Syntax) -> bool:
    return isinstance(node, Call) and node.name in {"exists", "empty", "not", "all", "hasValue"}
