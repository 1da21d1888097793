"""What a request has to check by: definitions by URL, value sets, and the steps that are left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from fhir_server.fhirpath import Budget
from fhir_server.spec import Spec

from . import codes
from .definition import CORE, Definition, Node, definition, laid_over, nodes, read, specified
from .items import Reader

MAX_STEPS: Final = 4_000_000
"""Steps of all checks of a request by profiles: an element that is looked at, a slice that is tried, a step of FHIRPath. They take 5 s at the most.

A resource of US Core takes 1,300 on average: a patient record of 2,124 takes 3 million, in 3.8 s.
"""
_DEFINITIONS: Final = 1_000
"""Definitions that a request may look up."""
_READ: Final = 200
"""Bytes of a definition that are read in a step."""
_BASES: Final = 50
"""Profiles that build on each other."""
_VALUE_SET: Final = 1_000
"""Steps of what a value set has of a system, which is put together once."""

Find = Callable[[str], bytes | None]
"""The body of the StructureDefinition of a canonical URL, None where there is none."""
_of_spec: dict[int, frozenset[tuple[str, str]]] = {}


class Sources:
    """Definitions and value sets of one request. What it has found it keeps, so that each is looked up once.

    `known` are the invariants of the specification by key and expression, which are checked anyway.
    """

    def __init__(self, spec: Spec, find: Find, member: codes.Member) -> None:
        """Takes what finds definitions and what knows value sets."""
        self.spec = spec
        self.reader = Reader(spec)
        self.budget = Budget(MAX_STEPS)
        self.known = _known(spec)
        self._find = find
        self._member = member
        self._asked: set[tuple[str, str | None]] = set()
        self._definitions: dict[str, Definition | None] = {}
        self._bases = 0

    def definition(self, canonical: str) -> Definition | None:
        """The definition of a canonical URL with all that it inherits; None where it, or one that it builds on, is not here.

        Raises FhirPathError where the request has no steps left.
        """
        if canonical not in self._definitions:
            self._definitions[canonical] = None
            body = self._find(canonical) if len(self._definitions) <= _DEFINITIONS else None
            if body is not None:
                self.budget.spend(len(body) // _READ)
                self._definitions[canonical] = self._whole(read(body))
        return self._definitions[canonical]

    def given(self, resource: Mapping[str, Any]) -> Definition | None:
        """The definition that a StructureDefinition is, with all that it inherits; None where what it builds on is not here."""
        return self._whole(definition(resource))

    def member(self, value_set: str, system: str | None, code: str) -> bool | str:
        """Whether a value set has a code, or why that is not known. Raises FhirPathError where the request has no steps left."""
        if (value_set, system) not in self._asked:
            self._asked.add((value_set, system))
            self.budget.spend(_VALUE_SET)
        return self._member(value_set, system, code)

    def _whole(self, found: Definition | None) -> Definition | None:
        """The definition itself, or laid over its base where it is a differential."""
        if found is None or not found.base:
            return found
        name = found.base.removeprefix(CORE)
        if found.base.startswith(CORE) and name in self.spec.types:
            return replace(found, base="", root=self._over(specified(self.spec, name), found.root))
        self._bases += 1
        base = self.definition(found.base) if self._bases <= _BASES else None
        self._bases -= 1
        return None if base is None else replace(found, base="", root=self._over(base.root, found.root))

    def _over(self, base: Node, other: Node) -> Node:
        self.budget.spend(len(nodes(base)) + len(nodes(other)))
        return laid_over(base, other)


def _known(spec: Spec) -> frozenset[tuple[str, str]]:
    """The invariants of the specification, which are checked anyway."""
    if id(spec) not in _of_spec:
        _of_spec[id(spec)] = frozenset(_invariants(spec))
    return _of_spec[id(spec)]


def _invariants(spec: Spec) -> Iterable[tuple[str, str]]:
    every = (c for t in spec.types.values() for group in (t.constraints, *(e.constraints for e in t.elements.values())) for c in group)
    return ((c.key, c.expression) for c in every)
