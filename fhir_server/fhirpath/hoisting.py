"""What an expression asks again for every item although the answer stays the same is marked, to be evaluated once.

sdf-8 compares each element's path with `%resource.snapshot.element.first().path`: asked anew for each, a thousand elements take a million steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from .ast import Binary, Call, Index, Kept, Literal, Member, Node, TypeOp, Unary, Variable, children
from .functions import FUNCTIONS, Lambda

_FOCUSED: Final = frozenset({"iif", "aggregate", "trace"})
"""Functions of expressions whose arguments may see what the call itself stands on."""


def hoist(node: Node) -> Node:
    """The same expression with Kept around the largest parts that do not depend on the focus, `$index` or `$total`."""
    return _marked(node)[0]


def _marked(node: Node) -> tuple[Node, bool]:  # noqa: PLR0911 - one for each kind of node
    """The node with Kept inside it where it is due, and whether it is itself the same for every focus."""
    match node:
        case Literal():
            return node, True
        case Variable(name=name):
            return node, name.startswith("%")
        case Member(target=target):
            return _around(node, target=target)
        case TypeOp(operand=operand):
            return _around(node, operand=operand)
        case Unary(operand=operand):
            return _around(node, operand=operand)
        case Index(target=target, index=index):
            return _around(node, target=target, index=index)
        case Binary(left=left, right=right):
            return _around(node, left=left, right=right)
        case Call():
            return _call(node)
        case Kept():
            return node, True


def _around(node: Node, **parts: Node | None) -> tuple[Node, bool]:
    marked = {name: (part, False) if part is None else _marked(part) for name, part in parts.items()}
    same = all(fixed for _, fixed in marked.values())
    changed: dict[str, Any] = {name: part if same or part is None else _kept(part, fixed=fixed) for name, (part, fixed) in marked.items()}
    return replace(node, **changed), same


def _call(node: Call) -> tuple[Node, bool]:
    target, on_same = (None, False) if node.target is None else _marked(node.target)
    args = [_marked(arg) for arg in node.args]
    if isinstance(FUNCTIONS.get(node.name), Lambda):
        same = on_same and node.name not in _FOCUSED and not any(map(_counts, node.args))
    else:
        same = on_same and all(fixed for _, fixed in args)
    if not same and target is not None:
        target = _kept(target, fixed=on_same)
    return replace(node, target=target, args=tuple(_kept(arg, fixed=fixed) for arg, fixed in args)), same


def _kept(node: Node, *, fixed: bool) -> Node:
    return Kept(node) if fixed and not isinstance(node, Literal | Variable) else node


def _counts(node: Node) -> bool:
    """Whether `$index` or `$total` occur, which may be those of a call around this one."""
    return (isinstance(node, Variable) and node.name in {"$index", "$total"}) or any(map(_counts, children(node)))
