"""What the registry knows of an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from fhir_server.interactions import Engine, Exchange, Reply
from fhir_server.settings import CANON

Level = Literal["system", "type", "instance"]
Run = Callable[[Engine, Exchange], Reply]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its definition's URL, the levels it works at, whether it changes anything, and what does it."""

    definition: str
    levels: frozenset[Level]
    affects_state: bool
    run: Run


_BOTH: Final[frozenset[Level]] = frozenset({"type", "instance"})


def reading(base: str, definition: str, run: Run, levels: frozenset[Level] = _BOTH) -> Operation:
    """An operation that changes nothing, and may be asked for by GET."""
    return Operation(f"{base}/OperationDefinition/{definition}", levels, affects_state=False, run=run)


def acting(definition: str, run: Run, level: Level) -> Operation:
    """An operation of the clinic that changes something, and is asked for by POST alone."""
    return Operation(f"{CANON}/OperationDefinition/{definition}", frozenset({level}), affects_state=True, run=run)
