"""What a check returns and what it is given: a fault bubbles up and each level puts its own name before the path.

A check returns None when all is well, so that a valid resource pays for no path and no list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Final, Literal, NamedTuple

from fhir_server.fhirpath import Budget
from fhir_server.outcome import Severity

MAX_FAULTS: Final = 100
"""Faults reported of one resource; looking for more would only help whoever wants the server busy."""
MAX_STEPS: Final = 4_000_000
"""Steps of the checks of a request: a rule asked, a tag of a narrative read, an element touched by an expression. They take 5 s at the most, 2 s
as a rule.

All definitions of R4 together, 30 MB, take 3.4 million, the largest one 70,000; 64 MB of patient records take 200,000."""
MAX_HINTS: Final = 200
"""Suggestions of a request; each takes up to a millisecond."""
MAX_ISSUES: Final = 2_000
"""Issues of a request after which one is told of each resource: a batch of 50,000 could make an answer of a gigabyte."""
_FAULT: Final = 4
"""Steps of putting together one fault."""
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


class Allowance(Budget):
    """What the checks of one request may cost: steps, suggestions of what was meant, and issues that are told in full."""

    __slots__ = ("hints", "issues")

    def __init__(self) -> None:
        """Starts with all that a request has."""
        super().__init__(MAX_STEPS)
        self.hints = MAX_HINTS
        self.issues = MAX_ISSUES

    def near(self, text: str, names: Iterable[str]) -> str:
        """The name that was probably meant, with the question; empty for none, or when there were MAX_HINTS before."""
        if self.hints <= 0:
            return ""
        self.hints -= 1
        found = get_close_matches(text[:64], names, 1)
        return f"; did you mean '{found[0]}'?" if found and found[0] != text else ""

    def told(self, faults: Faults) -> Faults:
        """The faults to report of one resource: all, or only what weighs most when there were MAX_ISSUES before."""
        self.steps -= _FAULT * len(faults)
        if len(faults) > self.issues:
            faults = sorted(faults, key=lambda fault: fault.code != "too-costly")[: max(self.issues, 1)]
        self.issues -= len(faults)
        return faults


class Scope:
    """Where a check stands: the resource at hand, the one that contains it, and how deep the elements are nested."""

    __slots__ = ("budget", "contained", "depth", "resource", "root", "warnings")

    def __init__(
        self, resource: dict[str, Any], root: dict[str, Any], contained: dict[str, str], budget: Allowance, *, depth: int, warnings: bool
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
