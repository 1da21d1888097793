"""Resources against the specification: shape, values, bindings, references and invariants, every fault at once.

https://hl7.org/fhir/R4/validation.html

Types are compiled when first met, once per Validator, from their StructureDefinitions to closures that walk a resource in one pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from typing import Any

from fhir_server.outcome import Issue, Outcome
from fhir_server.spec import Element, Spec, TypeDef

from .accounts import account_check
from .bindings import bound_check
from .faults import MAX_DEPTH, Allowance, Check, Fault, Faults, Scope, fault, kind, place, shown
from .invariants import Rule, rules
from .narrative import check_xhtml
from .primitives import PRIMITIVES, element_id
from .references import reference_check
from .structure import concept_check, known_check, object_check, repeated, ruled


class Validator:
    """Checks resources of every type of the specification. With `invariants` off only what the structure says. Safe to share between threads."""

    def __init__(self, spec: Spec, *, invariants: bool = True) -> None:
        """Costs nothing yet: a type costs about 5 ms when it is met first."""
        self._spec = spec
        self._invariants = invariants
        self._types: dict[str, Check] = {}
        self._budget: Allowance | None = None

    def of_one_request(self) -> Validator:
        """This validator, with one budget for all that is checked with it: the entries of a Bundle together may not cost more than one resource."""
        validator = copy(self)
        validator._budget = Allowance()  # noqa: SLF001 - of its own class
        return validator

    def budget(self) -> Allowance:
        """What one more check may spend: MAX_STEPS, or what is left of those of the request."""
        return self._budget or Allowance()

    def check(self, resource: Any, *, warnings: bool = False) -> list[Issue]:
        """What is wrong with a decoded resource, empty if nothing is; `warnings` adds what the specification only advises.

        At most 100 issues, each with its FHIRPath location; with one of the code `too-costly` the rest of the resource was not looked at.
        Raises Outcome `malformed` for what is no resource at all.
        On average 27 µs for 1.5 kB; bounded by the size of the resource and by MAX_STEPS.
        """
        budget = self.budget()
        name = self._named(resource, budget)
        if budget.steps < 0:
            return [Issue("error", "too-costly", "This is not checked: what came before it took all the steps of the request", (name,))]
        found = self._container(resource, name, budget, depth=0, warnings=warnings)
        if found is None:
            return []
        return [Issue(f.severity, f.code, f.text, (name + f.path,)) for f in budget.told(found)]

    def require(self, resource: Any) -> None:
        """Returns if the resource is valid.

        Raises Outcome `invalid` with every fault, `too-costly` with the rule that takes too many steps and its place, `malformed` for what is no
        resource.
        """
        issues = self.check(resource)
        if issues:
            raise Outcome("too-costly" if any(issue.code == "too-costly" for issue in issues) else "invalid", issues=issues)

    def _named(self, resource: Any, budget: Allowance) -> str:
        if type(resource) is not dict:
            raise Outcome("malformed", f"A resource is a JSON object, not {kind(resource)}")
        faults = self._type_faults(resource, budget)
        if faults:
            raise Outcome("malformed", faults[0].text)
        return str(resource["resourceType"])

    def _type_faults(self, resource: dict[str, Any], budget: Allowance) -> Faults | None:
        name = resource.get("resourceType")
        if name is None:
            return fault("structure", "A resource says what it is: resourceType is missing")
        if type(name) is not str:
            return fault("structure", f"resourceType is a string, not {kind(name)}")
        definition = self._spec.types.get(name)
        if definition is not None and definition.kind == "resource" and not definition.abstract:
            return None
        return fault("structure", f"There is no resource type {shown(name)} in FHIR R4{budget.near(name, self._spec.resource_types)}")

    def _type(self, name: str) -> Check:
        """The check of a type. It is kept before its parts are compiled, since types contain each other."""
        if name in PRIMITIVES:
            return PRIMITIVES[name]
        if name == "xhtml":
            return check_xhtml
        definition = self._spec.types[name]
        # Work on a private memo: another thread may see only what is complete.
        memo = dict(self._types)
        check = self._compile(definition, memo)
        self._types.update(memo)
        return check

    def _compile(self, definition: TypeDef, memo: dict[str, Check]) -> Check:
        if definition.name in memo:
            return memo[definition.name]
        table: dict[str, Check] = {}
        single: dict[str, Check] = {}
        own: list[Rule] = []
        sibling = _nothing if definition.kind == "primitive" else self._compile(self._spec.types["string"], memo)
        check = object_check(definition, table, single, sibling, own)
        if definition.name == "CodeableConcept":
            check = concept_check(check)
        if definition.name == "Observation.referenceRange":
            check = known_check(check)
        if definition.name == "Organization":
            check = account_check(check)
        memo[definition.name] = check
        if definition.kind == "resource":
            table["resourceType"] = _nothing
        for key, element in definition.elements.items():
            if element.max == 0:
                continue
            item = self._element(element, memo)
            if element.many and element.type in PRIMITIVES:
                single[key] = item
            table[key] = repeated(item, element) if element.many else item
        if self._invariants:
            own.extend(rules(self._spec, definition.constraints, definition.name))
        return check

    def _element(self, element: Element, memo: dict[str, Check]) -> Check:
        """The check of one occurrence of an element."""
        spec = self._spec
        if element.name == "id" and element.xml_attribute:
            return element_id
        if element.type in PRIMITIVES:
            item = bound_check(spec, element, PRIMITIVES[element.type])
        elif element.type == "xhtml":
            item = check_xhtml
        elif element.type == "Resource":
            item = self._contained if element.name == "contained" else self._entry
        else:
            structure = self._compile(spec.types[element.type], memo)
            item = reference_check(spec, element.targets, structure) if element.type == "Reference" else bound_check(spec, element, structure)
        inherited = {(c.key, c.expression) for c in spec.types[element.type].constraints}
        extra = [c for c in element.constraints if (c.key, c.expression) not in inherited]
        found = rules(spec, extra, element.type) if self._invariants and extra else []
        return ruled(item, found) if found else item

    def _resource_faults(self, value: Any, scope: Scope) -> Faults | None:
        if type(value) is not dict:
            return fault("structure", f"A resource is a JSON object, not {kind(value)}")
        if scope.depth >= MAX_DEPTH:
            return fault("too-long", f"Elements are nested more than {MAX_DEPTH} levels deep")
        faults = self._type_faults(value, scope.budget)
        if faults:
            return place(None, ".resourceType" if "resourceType" in value else "", faults)
        return None

    def _container(self, resource: dict[str, Any], name: str, budget: Allowance, *, depth: int, warnings: bool) -> Faults | None:
        check = self._types.get(name) or self._type(name)
        contained = resource.get("contained")
        if type(contained) is not list:
            return check(resource, Scope(resource, resource, {}, budget, depth=depth, warnings=warnings))
        ids = [r["id"] for r in contained if type(r) is dict and type(r.get("id")) is str]
        types = {r["id"]: str(r.get("resourceType")) for r in contained if type(r) is dict and type(r.get("id")) is str}
        faults = check(resource, Scope(resource, resource, types, budget, depth=depth, warnings=warnings))
        if len(types) < len(ids):
            twice = sorted(name for name, count in Counter(ids).items() if count > 1)
            said = f"Contained resources have different ids; these stand twice: {shown(', '.join(twice))}"
            faults = place(faults, ".contained", fault("value", said))
        return faults

    def _entry(self, value: Any, scope: Scope) -> Faults | None:
        # The resource of a Bundle entry or a parameter stands for itself: %resource and %rootResource are that resource.
        faults = self._resource_faults(value, scope)
        return faults or self._container(value, value["resourceType"], scope.budget, depth=scope.depth, warnings=scope.warnings)

    def _contained(self, value: Any, scope: Scope) -> Faults | None:
        faults = self._resource_faults(value, scope)
        if faults:
            return faults
        name = value["resourceType"]
        inner = Scope(value, scope.root, scope.contained, scope.budget, depth=scope.depth, warnings=False)
        faults = (self._types.get(name) or self._type(name))(value, inner)
        for found in _contained_faults(value):
            faults = place(faults, "", [found])
        return faults


def _contained_faults(value: dict[str, Any]) -> Iterator[Fault]:
    """https://hl7.org/fhir/R4/references.html#contained, dom-2 to dom-5."""
    if "contained" in value:
        yield Fault(".contained", "invariant", "dom-2: a contained resource does not contain resources")
    meta = value.get("meta")
    for key, rule in (("versionId", "dom-4"), ("lastUpdated", "dom-4"), ("security", "dom-5")):
        if type(meta) is dict and key in meta:
            yield Fault(f".meta.{key}", "invariant", f"{rule}: a contained resource has no meta.{key}")
    if "id" not in value:
        yield Fault(".id", "required", "A contained resource has an id, for the reference to it")


def _nothing(_value: Any, _scope: Scope) -> Faults | None:
    return None
