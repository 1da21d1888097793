"""Values that a profile prescribes: fixed, by a pattern, within limits.

https://hl7.org/fhir/R4/elementdefinition-definitions.html
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

_TOLD: Final = 200
_repr: Final = reprlib.Repr()
_repr.maxstring, _repr.maxother = 80, 40


def fits(pattern: Any, value: Any, spend: Callable[[int], None]) -> bool:
    """Whether a value has all that a pattern has; each item of a list in it fits some item there. Spends steps as their sizes multiplied."""
    spend(1)
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(name in value and fits(part, value[name], spend) for name, part in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(fits(part, item, spend) for item in value) for part in pattern)
    return same(pattern, value)


def same(wanted: Any, value: Any) -> bool:
    """Whether two values are the same; `true` is not 1."""
    return type(wanted) is type(value) and bool(wanted == value) if isinstance(wanted, bool) or isinstance(value, bool) else bool(wanted == value)


def told(value: Any) -> str:
    """A value as a message tells it, which takes no longer for a large one."""
    return value[:_TOLD] if isinstance(value, str) else _repr.repr(value)[:_TOLD]


def broken_limit(kind: str, limit: Any, value: Any) -> str:
    """What is wrong with a value by a limit (`minValue`, `maxValue`, `maxLength`), or nothing; values that cannot be compared are right."""
    if kind == "maxLength":
        return f"it is longer than {limit} characters" if isinstance(value, str) and len(value) > limit else ""
    if isinstance(limit, dict):
        limit, value = _amounts(limit, value)
    if isinstance(limit, str) and isinstance(value, str):
        # Times are compared as far as both say them, where no time zone can turn the order.
        length = min(len(limit), len(value), 10)
        limit, value = limit[:length], value[:length]
    elif not _is_number(limit) or not _is_number(value):
        return ""
    if kind == "minValue":
        return f"it is below {limit}" if value < limit else ""
    return f"it is above {limit}" if value > limit else ""


def _amounts(limit: dict[str, Any], value: Any) -> tuple[Any, Any]:
    """The numbers of two quantities of one unit; Nones where units differ."""
    if not isinstance(value, dict) or any(limit.get(key) != value.get(key) for key in ("system", "code")):
        return None, None
    return limit.get("value"), value.get("value")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)
