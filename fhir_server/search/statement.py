"""SQL as values: text with its parameters, joined without ever putting a value into the text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Statement(NamedTuple):
    """SQL, whole or a part, with one parameter per `%s` in the order of the text.

    `by_value`: the best plan depends on the values, so that planning for them each time (0.1 to 0.4 ms) is worth it; a plan for any value took
    10 ms for a day's dates among a million. Equations have one good plan.
    """

    text: str
    params: tuple[Any, ...] = ()
    by_value: bool = False

    def and_(self, other: Statement) -> Statement:
        """Both conditions."""
        return Statement(f"{self.text} AND {other.text}", self.params + other.params)


NEVER = Statement("FALSE")


def join(separator: str, parts: Iterable[Statement]) -> Statement:
    """The parts with the separator between them; empty text for none."""
    listed = list(parts)
    return Statement(separator.join(part.text for part in listed), tuple(param for part in listed for param in part.params))


def any_of(parts: Iterable[Statement]) -> Statement:
    """Parts as alternatives, in parentheses where there are several; FALSE for none."""
    listed = list(parts)
    if len(listed) == 1:
        return listed[0]
    joined = join(" OR ", (Statement(f"({part.text})", part.params) for part in listed))
    return Statement(f"({joined.text})", joined.params) if listed else NEVER


def equals(column: str, values: list[Any], array: str = "text[]") -> Statement:
    """The column has one of the values. One value stays an equation, since only that keeps the order of the index behind it."""
    if len(values) == 1:
        return Statement(f"{column} = %s", (values[0],))
    return Statement(f"{column} = ANY(%s::{array})", (values,))
