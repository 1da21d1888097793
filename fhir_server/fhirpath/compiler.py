"""Syntax tree to closures that run over Nodes. Complete and exact; `predicate` has the fast way for common conditions."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from .ast import Binary, Call, Index, Kept, Literal, Member, TypeOp, Unary, Variable
from .ast import Node as Syntax
from .errors import FhirPathError
from .functions import FUNCTIONS, Function, Lambda
from .functions.collections import contains, descending, integer, union
from .model import Env, Item, Model, Node, Run
from .operators import all_equal, all_equivalent, arithmetic, boolean, compare, in_range, single, text, type_name
from .quantity import Quantity

CONSTANTS: Final = {"%sct": "http://snomed.info/sct", "%loinc": "http://loinc.org", "%ucum": "http://unitsofmeasure.org"}
_SYSTEM_TYPES: Final = {"Any", "Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"}
_FHIR: Final = "http://hl7.org/fhir/"


def translate(node: Syntax, model: Model) -> Run:  # noqa: C901, PLR0911 - one for each kind of node
    """The closure of a syntax tree. Raises FhirPathError for unknown functions, wrong numbers of arguments and unknown types."""
    match node:
        case Literal(value=None):
            return _nothing
        case Literal(value=value):
            constant = [value]
            return lambda _this, _env: constant
        case Variable():
            return _variable(node)
        case Member():
            return _member(node, model)
        case Call():
            return _call(node, model)
        case Index():
            return _index(node, model)
        case TypeOp():
            return _type_op(node, model)
        case Unary():
            return _unary(node, model)
        case Binary():
            return _binary(node, model)
        case Kept(part=part):
            return _once(translate(part, model))


def _nothing(_this: list[Item], _env: Env) -> list[Item]:
    return []


def _this(this: list[Item], _env: Env) -> list[Item]:
    return this


def _once(run: Run) -> Run:
    mark = object()

    def kept(this: list[Item], env: Env) -> list[Item]:
        found = env.kept.get(mark)
        if found is None:
            found = env.kept[mark] = run(this, env)
            env.sets[id(found)] = None
        return found

    return kept


def _target(node: Syntax | None, model: Model) -> Run:
    return _this if node is None else translate(node, model)


def _variable(node: Variable) -> Run:  # noqa: C901 - one for each variable
    name = node.name
    if name == "$this":
        return _this
    if name == "$index":
        return lambda _this, env: [env.index]
    if name == "$total":
        return lambda _this, env: env.total
    constant = CONSTANTS.get(name)
    if name.startswith("%vs-"):
        constant = f"{_FHIR}ValueSet/{name[4:]}"
    elif name.startswith("%ext-"):
        constant = f"{_FHIR}StructureDefinition/{name[5:]}"
    if constant is not None:
        value = [constant]
        return lambda _this, _env: value

    def lookup(_this: list[Item], env: Env) -> list[Item]:
        if env.variables is not None and name[1:] in env.variables:
            return env.variables[name[1:]]
        if name == "%resource":
            return [env.resource] if env.resource else []
        if name == "%rootResource":
            return [env.root] if env.root else []
        if name == "%context":
            return [env.context]
        raise FhirPathError(f"the variable {name} is not defined", node.position)

    return lookup


def _member(node: Member, model: Model) -> Run:
    name = node.name
    if node.target is not None:
        if isinstance(node.target, Member) and node.target.target is None and node.target.name == "FHIR" and name in model.spec.types:
            return lambda this, env: _of_type(this, name, env.model)
        target = translate(node.target, model)

        def below(this: list[Item], env: Env) -> list[Item]:
            items = target(this, env)
            out = env.model.member(items, name)
            env.spend(1 + len(out) + (len(items) >> 3))
            return out

        return below
    if name[:1].isupper() and name in model.spec.types:
        return lambda this, env: _of_type(this, name, env.model)

    def head(this: list[Item], env: Env) -> list[Item]:
        out = env.model.member(this, name)
        env.spend(len(out) + 1)
        return out

    return head


def _of_type(items: list[Item], name: str, model: Model) -> list[Item]:
    return [item for item in items if item.__class__ is Node and model.is_a(item.type, name)]


def _call(node: Call, model: Model) -> Run:
    function = FUNCTIONS.get(node.name)
    if function is None:
        raise FhirPathError(f"there is no function {node.name}()", node.position)
    if not function.least <= len(node.args) <= function.most:
        expected = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
        raise FhirPathError(f"{node.name}() takes {expected} arguments, not {len(node.args)}", node.position)
    target = _target(node.target, model)
    if node.name == "sort":
        # Only here a minus sign fits everything that has an order: it turns the order round.
        keys = [(arg.operand, True) if isinstance(arg, Unary) and arg.op == "-" else (arg, False) for arg in node.args]
        args = [descending(translate(arg, model)) if down else translate(arg, model) for arg, down in keys]
    else:
        args = [translate(arg, model) for arg in node.args]
    if isinstance(function, Lambda):
        return _lambda(function, target, args)
    return _function(function, target, args)


def _lambda(function: Lambda, target: Run, args: list[Run]) -> Run:
    call = function.call
    return lambda this, env: call(env, _charged(target(this, env), env), this, *args)


def _function(function: Function, target: Run, args: list[Run]) -> Run:
    call = function.call
    if not args:
        return lambda this, env: call(env, _charged(target(this, env), env))
    if len(args) == 1:
        argument = args[0]
        return lambda this, env: call(env, _charged(target(this, env), env), argument(this, env))
    return lambda this, env: call(env, _charged(target(this, env), env), *[arg(this, env) for arg in args])


def _charged(items: list[Item], env: Env) -> list[Item]:
    # Every function at least copies or counts its input; what costs more is charged where it is done.
    env.spend(1 + (len(items) >> 3))
    return items


def _index(node: Index, model: Model) -> Run:
    target, index = translate(node.target, model), translate(node.index, model)

    def run(this: list[Item], env: Env) -> list[Item]:
        at = integer(env, index(this, env), "[ ]")
        items = target(this, env)
        return [items[at]] if 0 <= at < len(items) else []

    return run


def _type_op(node: TypeOp, model: Model) -> Run:
    operand = _target(node.operand, model)
    test = type_test(node, model)
    if node.op == "is":

        def run(this: list[Item], env: Env) -> list[Item]:
            items = operand(this, env)
            if len(items) > 1:
                raise FhirPathError(f"'is' takes one item but there are {len(items)}", node.position)
            return [test(items[0])] if items else []

        return run
    # R4's own search parameters and dom-3 use `as` on several items, so it filters as ofType does.
    return lambda this, env: [item for item in operand(this, env) if test(item)]


def type_test(node: TypeOp, model: Model) -> Callable[[Item], bool]:
    """Whether an item is of the type. `is` counts specialisations; for primitives `as` and `ofType` want the very type."""
    namespace, _, name = node.type.rpartition(".")
    fhir = name in model.spec.types and namespace != "System"
    if not fhir and name not in _SYSTEM_TYPES and not namespace:
        raise FhirPathError(f"there is no type {node.type}", node.position)
    exact = node.op != "is" and name in model.primitives

    def test(item: Item) -> bool:
        if item.__class__ is Node:
            return fhir and (item.type == name if exact else model.is_a(item.type, name))
        return namespace != "FHIR" and type_name(item) == name

    return test


def _unary(node: Unary, model: Model) -> Run:
    operand = translate(node.operand, model)

    def run(this: list[Item], env: Env) -> list[Item]:
        value = single(operand(this, env), env, f"'{node.op}'")
        if value is None:
            return []
        if isinstance(value, bool) or not isinstance(value, int | Decimal | Quantity):
            raise FhirPathError(f"'{node.op}' does not fit {type_name(value)}")
        if node.op == "+":
            return [value]
        return [Quantity(-value.value, value.unit)] if isinstance(value, Quantity) else in_range(-value)

    return run


def _binary(node: Binary, model: Model) -> Run:  # noqa: C901, PLR0911 - one for each operator
    left, right = translate(node.left, model), translate(node.right, model)
    match node.op:
        case "and" | "or" | "xor" | "implies":
            return _logic(node.op, left, right)
        case "=":
            return lambda this, env: _maybe(all_equal(left(this, env), right(this, env), env))
        case "!=":
            return lambda this, env: _maybe(all_equal(left(this, env), right(this, env), env), negate=True)
        case "~":
            return lambda this, env: [all_equivalent(left(this, env), right(this, env), env)]
        case "!~":
            return lambda this, env: [not all_equivalent(left(this, env), right(this, env), env)]
        case "<" | "<=" | ">" | ">=":
            wanted = {"<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}[node.op]

            def ordered(this: list[Item], env: Env) -> list[Item]:
                sign = compare(left(this, env), right(this, env), env)
                return [] if sign is None else [sign in wanted]

            return ordered
        case "|":
            return lambda this, env: union(env, left(this, env), right(this, env))
        case "in":
            return lambda this, env: _membership(env, left(this, env), right(this, env))
        case "contains":
            return lambda this, env: _membership(env, right(this, env), left(this, env))
        case "&":
            return lambda this, env: [text(_text(left(this, env), env) + _text(right(this, env), env), env)]
        case operator:
            return lambda this, env: arithmetic(operator, left(this, env), right(this, env), env)


def _maybe(value: bool | None, *, negate: bool = False) -> list[Item]:  # noqa: FBT001 - the value is what is wrapped
    return [] if value is None else [value is not negate]


def _membership(env: Env, items: list[Item], among: list[Item]) -> list[Item]:
    if not items:
        return []
    if len(items) > 1:
        raise FhirPathError(f"membership is asked of one item but there are {len(items)}")
    return [contains(env, among, items[0])]


def _text(items: list[Item], env: Env) -> str:
    value = single(items, env, "'&'")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FhirPathError(f"'&' joins strings, not {type_name(value)}")
    return value


def _logic(operator: str, left: Run, right: Run) -> Run:
    """Three-valued logic; the right side is not evaluated where the left decides."""

    def both(this: list[Item], env: Env) -> list[Item]:
        first = boolean(left(this, env))
        if first is False:
            return [False]
        second = boolean(right(this, env))
        return [False] if second is False else [True] if first and second else []

    def either(this: list[Item], env: Env) -> list[Item]:
        first = boolean(left(this, env))
        if first:
            return [True]
        second = boolean(right(this, env))
        return [True] if second else [] if first is None or second is None else [False]

    def exclusive(this: list[Item], env: Env) -> list[Item]:
        first, second = boolean(left(this, env)), boolean(right(this, env))
        return [] if first is None or second is None else [first != second]

    def implies(this: list[Item], env: Env) -> list[Item]:
        first = boolean(left(this, env))
        if first is False:
            return [True]
        second = boolean(right(this, env))
        return [True] if second else [] if first is None or second is None else [False]

    return {"and": both, "or": either, "xor": exclusive, "implies": implies}[operator]
