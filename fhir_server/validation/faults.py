"""What a check returns and what it is given: a fault bubbles up and each level puts its own name before the path.

A check returns None when all is well, so that a valid resource pays for no path and no list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from fhir_server.fhirpath import Budget
from fhir_server.outcome import Severity

MAX_FAULTS: Final = 100
"""Faults reported of one resource; looking for more would only help whoever wants the server busy."""
MAX_DEPTH: Final = 100
"""Levels of elements inside elements: the deepest real Questionnaires have about 20."""
_SHOWN: Final = 80

Code = Literal["structure", "required", "value", "invariant", "code-invalid", "too-long", "too-costly", "not-found"]


class Fault(NamedTuple):
    """One fault; `path` is relative to the element whose check returned it (`.contact[0].gender`)."""

    path: str
    code: Code
    text: str
    severity: Severity = "error"


Faults = list[Fault]


class Scope:
    """Where a check stands: the resource at hand, the one that contains it, and how deep the elements are nested."""

    __slots__ = ("budget", "contained", "depth", "resource", "root", "warnings")

    def __init__(
        self, resource: dict[str, Any], root: dict[str, Any], contained: dict[str, str], budget: Budget, *, depth: int, warnings: bool
    ) -> None:
        """`contained` has the types of the root's contained resources by id; with `warnings` rules that only advise are run too.

        Rules are charged to the `budget`. Once it is used up nothing further is checked.
        """
        self.resource = resource
        self.root = root
        self.contained = contained
        self.budget = budget
        self.depth = depth
        self.warnings = warnings


Check = Callable[[Any, Scope], Faults | None]


def fault(code: Code, text: str) -> Faults:
    """One fault at the element itself."""
    return [Fault("", code, text)]


def place(faults: Faults | None, prefix: str, found: Faults) -> Faults:
    """The faults so far and those of a child behind its name or index, at most MAX_FAULTS in all."""
    total = [] if faults is None else faults
    for path, code, text, severity in found[: MAX_FAULTS - len(total)]:
        total.append(Fault(prefix + path, code, text, severity))
    return total


def shown(value: Any) -> str:
    """A value as a message may quote it: short, on one line."""
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return "'" + "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text) + "'"


def kind(value: Any) -> str:
    """What JSON calls the value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, list) else "a number"
