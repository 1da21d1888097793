"""What the specification says of types, search parameters, compartments and codes, as plain values.

https://hl7.org/fhir/R4/structuredefinition.html, https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import msgspec

Kind = Literal["resource", "datatype", "primitive", "backbone"]
SearchType = Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """An invariant: a FHIRPath expression that must hold with the element as its focus."""

    key: str
    severity: Literal["error", "warning"]
    expression: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The value set that a coded element is bound to; `value_set` is its URL without a version."""

    strength: Literal["required", "extensible", "preferred", "example"]
    value_set: str


@dataclass(frozen=True, slots=True)
class Element:
    """One element as it stands in JSON: a choice such as `value[x]` is one Element per allowed type.

    `name` is the element's name in FHIRPath (`value`), `key` its property in JSON (`valueQuantity`); they differ for choices only.
    `type` names a TypeDef: a datatype, `Resource`, or a backbone path such as `Patient.contact`; content references are resolved.
    `max` is None where the specification has `*`. `targets` are the resource types a Reference or canonical may point to, empty = any.
    """

    name: str
    key: str
    type: str
    min: int
    max: int | None
    choice: bool = False
    summary: bool = False
    modifier: bool = False
    xml_attribute: bool = False
    targets: tuple[str, ...] = ()
    binding: Binding | None = None
    constraints: tuple[Constraint, ...] = ()

    @property
    def many(self) -> bool:
        """Whether JSON writes the element as an array."""
        return self.max != 1


@dataclass(frozen=True, slots=True)
class TypeDef:
    """A resource type, datatype, primitive or backbone element with all its elements, inherited ones included, in XML order."""

    name: str
    kind: Kind
    base: str | None
    abstract: bool
    elements: Mapping[str, Element]
    constraints: tuple[Constraint, ...] = ()
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a composite search parameter: the URL of the part's definition and its expression below the composite's."""

    definition: str
    expression: str


@dataclass(frozen=True, slots=True)
class SearchParam:
    """A search parameter of one or more resource types. `expression` is None for `special` ones that have none."""

    url: str
    code: str
    type: SearchType
    base: tuple[str, ...]
    expression: str | None
    targets: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()


@dataclass(frozen=True)
class Spec:
    """FHIR R4 4.0.1: the facts that the rest of the server is driven by."""

    version: str
    types: Mapping[str, TypeDef]
    params: tuple[SearchParam, ...]
    compartments: Mapping[str, Mapping[str, tuple[str, ...]]]
    value_sets: Mapping[str, Mapping[str, tuple[str, ...]]]
    displays: Mapping[str, Mapping[str, str]] = field(repr=False)

    @cached_property
    def resource_types(self) -> tuple[str, ...]:
        """The 146 types that instances have, by name; `Resource` and `DomainResource` are abstract and left out."""
        return tuple(sorted(t.name for t in self.types.values() if t.kind == "resource" and not t.abstract))

    @cached_property
    def _params_by_type(self) -> dict[str, dict[str, SearchParam]]:
        table: dict[str, dict[str, SearchParam]] = {name: {} for name in self.resource_types}
        for param in self.params:
            for base in param.base:
                for name, params in table.items():
                    if self.is_a(name, base):
                        params[param.code] = param
        return table

    def search_params(self, resource_type: str) -> Mapping[str, SearchParam]:
        """Search parameters of a type by code, those of `Resource` and `DomainResource` included. KeyError for an unknown type."""
        return self._params_by_type[resource_type]

    def is_a(self, name: str, ancestor: str) -> bool:
        """Whether a type is another one or specialises it, at any depth: `Age` is a `Quantity`, `Patient` is a `Resource`."""
        current: str | None = name
        while current is not None:
            if current == ancestor:
                return True
            definition = self.types.get(current)
            current = definition.base if definition else None
        return False

    def codes(self, value_set: str) -> Mapping[str, tuple[str, ...]] | None:
        """Codes of a value set by system, or None where it cannot be listed (all of UCUM, any MIME type)."""
        return self.value_sets.get(value_set)


@dataclass(frozen=True, eq=False)
class ShippedTerminology:
    """The code systems of FHIR R4 4.0.1 that are complete in its package, and its value sets with what they are composed of.

    They are CodeSystem and ValueSet resources, still as JSON, without texts for people other than names and displays.
    """

    code_systems: Mapping[str, msgspec.Raw] = field(repr=False)
    value_sets: Mapping[str, msgspec.Raw] = field(repr=False)

    def find(self, kind: Literal["CodeSystem", "ValueSet"], canonical: str) -> dict[str, Any] | None:
        """The resource of a URL, or of `url|version`; None where there is none, or one of another version. At most 2 ms."""
        table = self.code_systems if kind == "CodeSystem" else self.value_sets
        # Some tables of HL7 v2 have a bar in their own URL.
        url, _, version = (canonical, "", "") if canonical in table else canonical.partition("|")
        if url not in table:
            return None
        resource: dict[str, Any] = msgspec.json.decode(table[url])
        return resource if version in ("", resource.get("version")) else None
