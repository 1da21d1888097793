"""How much evaluation may cost: counted steps, so that the same expression on the same data always ends the same way.

A step is at most about a microsecond: an element touched, a character matched, a comparison made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from .errors import too_costly

T = TypeVar("T")

MAX_STEPS: Final = 500_000
"""Steps of one evaluation, and so the elements it may touch: half a second and 100 MB at worst."""


class Budget:
    """Steps that are left to all evaluations it is given to; below zero it is used up."""

    __slots__ = ("steps",)

    def __init__(self, steps: int = MAX_STEPS) -> None:
        """Starts with so many steps."""
        self.steps = steps

    def spend(self, steps: int) -> None:
        """Takes steps. Raises FhirPathError `too-costly` when there are none left."""
        self.steps -= steps
        if self.steps < 0:
            raise too_costly()


class _Stepped(Protocol):
    steps: int


def matching(holder: _Stepped, run: Callable[[list[int]], T]) -> T:
    """What `run` returns, which matches regular expressions: two of their steps cost one of the holder's."""
    given = 2 * max(holder.steps, 0)
    left = [given]
    try:
        return run(left)
    finally:
        holder.steps -= 1 + (given - left[0]) // 2
