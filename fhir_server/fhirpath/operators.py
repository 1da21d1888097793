"""From elements to System values, and the operators between those.

https://hl7.org/fhirpath/N1/#operations, https://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections
"""

from __future__ import annotations

import decimal
from collections import Counter
from collections.abc import Callable, Hashable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from . import quantity as quantities
from . import temporal
from .errors import FhirPathError
from .model import Env, Item, Model, Node, TypeInfo
from .quantity import Quantity
from .temporal import Kind, Temporal

MAX_TEXT: Final = 1_000_000
"""Characters a computed string may have."""

_TEMPORAL: Final[dict[str, Kind]] = {"date": "Date", "dateTime": "DateTime", "instant": "DateTime", "time": "Time"}
_LARGEST_INTEGER: Final = 2**63
_LARGEST_EXPONENT: Final = 400


def system(item: Item, model: Model) -> Item:
    """The System value of an element, the item itself where it has none (complex, without value, or not what its type says)."""
    if item.__class__ is not Node:
        return item
    value, name = item.value, item.type
    if name in _TEMPORAL and type(value) is str:
        return Temporal.read(_TEMPORAL[name], value) or value
    if type(value) is dict:
        return as_quantity(value) or item if name in model.quantities else item
    if name == "decimal" and type(value) is int:
        return Decimal(value)
    return item if value is None or type(value) is list else value


def as_quantity(value: dict[str, Any]) -> Quantity | None:
    """The System Quantity of a FHIR one: by its UCUM code, else by its code or unit as it stands."""
    number = value.get("value")
    if not isinstance(number, int | Decimal) or isinstance(number, bool):
        return None
    unit = value.get("code") or value.get("unit") or "1"
    return Quantity(Decimal(number), unit) if isinstance(unit, str) else None


def boolean(items: list[Item]) -> bool | None:
    """The one item as a condition: a boolean is itself, anything else is true; None for none. Several are a FhirPathError."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"a condition has {len(items)} items; one is the most")
    item = items[0]
    value = item.value if item.__class__ is Node else item
    return value if value is True or value is False else True


def single(items: list[Item], env: Env, what: str) -> Item | None:
    """The System value of the one item, or None. FhirPathError for several."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"{what} takes one item but there are {len(items)}")
    value = system(items[0], env.model)
    return None if value.__class__ is Node and value.value is None else value


def key(item: Item, env: Env) -> Hashable:
    """Equal for items that are equal, so that sets and dictionaries can find them."""
    value = system(item, env.model)
    if isinstance(value, Temporal):
        return "time", value.zone is None, value.kind == "Time", temporal.normal(value)
    if isinstance(value, Quantity):
        return "quantity", quantities.normal(value)
    if value.__class__ is Node:
        return "node", _frozen(value.value, _exact, env), _frozen(value.extra, _exact, env)
    return _exact(value)


def _exact(value: Any) -> Hashable:
    return ("boolean", value) if isinstance(value, bool) else value


def _loose(value: Any) -> Hashable:
    return " ".join(value.lower().split()) if isinstance(value, str) else _exact(value)


def _frozen(value: Any, leaf: Callable[[Any], Hashable], env: Env) -> Hashable:
    env.spend(1)
    if type(value) is dict:
        return frozenset((name, _frozen(child, leaf, env)) for name, child in value.items())
    if type(value) is list:
        children = [_frozen(child, leaf, env) for child in value]
        return frozenset(Counter(children).items()) if leaf is _loose else tuple(children)
    return leaf(value)


def equal(left: Item, right: Item, env: Env) -> bool | None:
    """Whether two items are equal; None where precision, a zone or a unit leaves it open."""
    ours, theirs = system(left, env.model), system(right, env.model)
    if isinstance(ours, Temporal) and isinstance(theirs, Temporal):
        if (ours.kind == "Time") != (theirs.kind == "Time"):
            return False
        order = temporal.compare(ours, theirs)
        return None if order is None else order == 0
    ours, theirs = _quantities(ours, theirs)
    if isinstance(ours, Quantity) and isinstance(theirs, Quantity):
        amounts = quantities.comparable(ours, theirs)
        return None if amounts is None else amounts[0] == amounts[1]
    return key(ours, env) == key(theirs, env)


def all_equal(left: list[Item], right: list[Item], env: Env) -> bool | None:
    """The operator `=`: pairwise and in order; None where either side is empty."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    results = {equal(mine, theirs, env) for mine, theirs in zip(left, right, strict=True)}
    return False if False in results else None if None in results else True


def equivalent(left: Item, right: Item, env: Env) -> bool:
    """Whether two items mean the same: case, white space, order and digits beyond the shorter number do not matter."""
    ours, theirs = system(left, env.model), system(right, env.model)
    if isinstance(ours, Temporal) and isinstance(theirs, Temporal):
        return (ours.kind == "Time") is (theirs.kind == "Time") and temporal.compare(ours, theirs) == 0
    if _is_number(ours) and _is_number(theirs):
        scale = Fraction(10) ** min(_digits(ours), _digits(theirs))
        return round(Fraction(ours) * scale) == round(Fraction(theirs) * scale)
    ours, theirs = _quantities(ours, theirs)
    if isinstance(ours, Quantity) and isinstance(theirs, Quantity):
        return quantities.equivalent(ours, theirs)
    return loose_key(ours, env) == loose_key(theirs, env)


def loose_key(item: Item, env: Env) -> Hashable:
    """Equal for items that are equivalent, numbers apart."""
    value = system(item, env.model)
    if value.__class__ is Node:
        return "node", _frozen(value.value, _loose, env)
    return _loose(value) if isinstance(value, str) else key(value, env)


def all_equivalent(left: list[Item], right: list[Item], env: Env) -> bool:
    """The operator `~`: in any order; two empty collections are equivalent."""
    if len(left) != len(right):
        return False
    if len(left) == 1:
        return equivalent(left[0], right[0], env)
    return Counter(loose_key(item, env) for item in left) == Counter(loose_key(item, env) for item in right)


def compare(left: list[Item], right: list[Item], env: Env) -> int | None:
    """-1, 0 or 1, or None where it is open or a side is empty. FhirPathError for types that have no order between them."""
    ours, theirs = single(left, env, "A comparison"), single(right, env, "A comparison")
    if ours is None or theirs is None:
        return None
    return order(ours, theirs)


def order(ours: Item, theirs: Item) -> int | None:
    """Order of two System values, as `compare`."""
    if isinstance(ours, Temporal) and isinstance(theirs, Temporal) and (ours.kind == "Time") == (theirs.kind == "Time"):
        return temporal.compare(ours, theirs)
    ours, theirs = _quantities(ours, theirs)
    if isinstance(ours, Quantity) and isinstance(theirs, Quantity):
        amounts = quantities.comparable(ours, theirs)
        if amounts is None:
            return None
        ours, theirs = amounts
    elif not ((isinstance(ours, str) and isinstance(theirs, str)) or (_is_number(ours) and _is_number(theirs))):
        raise FhirPathError(f"{type_name(ours)} and {type_name(theirs)} have no order")
    return int(ours > theirs) - int(ours < theirs)


def arithmetic(operator: str, left: list[Item], right: list[Item], env: Env) -> list[Item]:
    """The operators + - * / div mod. Empty for an empty side, ÷ 0 and results out of range; FhirPathError for types they do not fit."""
    ours, theirs = single(left, env, f"'{operator}'"), single(right, env, f"'{operator}'")
    if ours is None or theirs is None:
        return []
    if _is_number(ours) and _is_number(theirs):
        return in_range(_numbers(operator, ours, theirs))
    if isinstance(ours, str) and isinstance(theirs, str) and operator == "+":
        return [text(ours + theirs, env)]
    if isinstance(ours, Temporal) and isinstance(theirs, Quantity) and operator in {"+", "-"}:
        unit = theirs.calendar_unit
        if unit is None:
            raise FhirPathError(f"'{theirs.unit}' is not a span of time to move a date by")
        moved = ours.add(theirs.value if operator == "+" else -theirs.value, unit)
        return [] if moved is None else [moved]
    ours, theirs = _quantities(ours, theirs)
    if isinstance(ours, Quantity) and isinstance(theirs, Quantity):
        try:
            result = _quantity_arithmetic(operator, ours, theirs)
        except decimal.DecimalException:
            return []
        return [result] if result is not None and in_range(result.value) else []
    raise FhirPathError(f"'{operator}' does not fit {type_name(ours)} and {type_name(theirs)}")


def _quantity_arithmetic(operator: str, ours: Quantity, theirs: Quantity) -> Quantity | None:
    if operator in {"*", "/"}:
        return quantities.combine(ours, theirs, divide=operator == "/")
    if operator in {"+", "-"}:
        return quantities.add(ours, theirs if operator == "+" else Quantity(-theirs.value, theirs.unit))
    raise FhirPathError(f"'{operator}' does not fit Quantity and Quantity")


def _numbers(operator: str, ours: int | Decimal, theirs: int | Decimal) -> int | Decimal | None:  # noqa: PLR0911 - one for each operator
    if operator in {"/", "div", "mod"} and not theirs:
        return None
    try:
        match operator:
            case "+":
                return ours + theirs
            case "-":
                return ours - theirs
            case "*":
                return ours * theirs
            case "/":
                return Decimal(ours) / Decimal(theirs)
            case "div":
                return int(Decimal(ours) // Decimal(theirs))
            case _:
                result = Decimal(ours) % Decimal(theirs)
                return int(result) if isinstance(ours, int) and isinstance(theirs, int) else result
    except decimal.DecimalException:
        return None


def in_range(value: float | Decimal | None) -> list[Item]:
    """The number as a collection; empty if there is none, or it is beyond 64 bits or 400 digits."""
    if isinstance(value, Decimal):
        return [value] if value.is_finite() and abs(value.adjusted()) <= _LARGEST_EXPONENT else []
    return [] if value is None or not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER else [value]


def text(value: str, env: Env) -> str:
    """A computed string, charged to the budget. Raises FhirPathError `too-costly` if it grew beyond MAX_TEXT."""
    env.spend(len(value) >> 4)
    if len(value) > MAX_TEXT:
        raise too_long()
    return value


def too_long() -> FhirPathError:
    """The error of a string that would grow beyond MAX_TEXT."""
    return FhirPathError(f"a string grew beyond {MAX_TEXT} characters", code="too-costly")


def type_name(value: Item) -> str:  # noqa: PLR0911 - one for each type
    """Name of an item's type, for messages and `type()`."""
    match value:
        case Node():
            return value.type
        case Temporal():
            return value.kind
        case bool():
            return "Boolean"
        case int():
            return "Integer"
        case str():
            return "String"
        case Decimal():
            return "Decimal"
        case Quantity():
            return "Quantity"
        case TypeInfo():
            return "TypeInfo"
    return "Any"


def _quantities(ours: Item, theirs: Item) -> tuple[Item, Item]:
    """A number beside a quantity counts as one without a unit."""
    if isinstance(ours, Quantity) and _is_number(theirs):
        return ours, Quantity(Decimal(theirs), "1")
    if isinstance(theirs, Quantity) and _is_number(ours):
        return Quantity(Decimal(ours), "1"), theirs
    return ours, theirs


def _is_number(value: Item) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _digits(value: int | Decimal) -> int:
    if isinstance(value, int):
        return 0
    exponent = value.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
