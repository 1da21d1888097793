"""What expressions run over: elements with their FHIR types, found in plain JSON through the specification's tables.

https://hl7.org/fhir/R4/fhirpath.html#types, https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from fhir_server.spec import Spec

from .budget import MAX_STEPS, Budget
from .errors import too_costly

_START: Final = 8
"""Steps that an evaluation costs beside those it counts."""
_ABSTRACT: Final = {"Resource", "DomainResource"}


class Node:
    """An element: its JSON `value`, its FHIR `type`, and where it stands.

    `value` is None for a primitive that has only extensions; `extra` is the object a primitive has beside it (`_birthDate`).
    """

    __slots__ = ("extra", "index", "key", "parent", "type", "value")

    def __init__(self, value: Any, type_name: str, extra: Any = None, parent: Node | None = None, key: str = "", index: int = -1) -> None:
        """Takes what the attributes are; `index` is -1 for an element that does not stand in an array."""
        self.value = value
        self.type = type_name
        self.extra = extra
        self.parent = parent
        self.key = key
        self.index = index

    def __repr__(self) -> str:
        return f"Node({self.type}, {self.path()})"

    def path(self) -> tuple[str | int, ...]:
        """Keys and indexes that lead here from the focus of the evaluation."""
        steps: list[str | int] = []
        node = self
        while node.parent is not None:
            if node.index >= 0:
                steps.append(node.index)
            steps.append(node.key)
            node = node.parent
        return tuple(reversed(steps))

    def top(self) -> Node:
        """The node that the path starts from."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """What `type()` answers."""

    namespace: str
    name: str


Item = Any
"""A Node, or a System value: str, bool, int, Decimal, Temporal, Quantity, TypeInfo."""

Run = Callable[[list[Item], "Env"], list[Item]]
"""A compiled expression: from the focus (`$this`) to the result."""


class Property(NamedTuple):
    """A JSON property that holds an element: one per type where the element is a choice."""

    name: str
    key: str
    under: str
    type: str
    primitive: bool


class Model:
    """The types of a Spec, arranged for lookups by name while expressions run. One per Spec."""

    def __init__(self, spec: Spec) -> None:
        """Costs nothing: the tables are filled when they are asked for."""
        self.spec = spec
        self._fields: dict[str, dict[str, tuple[Property, ...]]] = {}
        self._properties: dict[str, dict[str, Property]] = {}
        self.primitives: Final = frozenset(name for name, definition in spec.types.items() if definition.kind == "primitive")
        self.quantities: Final = frozenset(name for name in spec.types if spec.is_a(name, "Quantity"))
        self._is_a: dict[tuple[str, str], bool] = {}

    def fields(self, type_name: str) -> dict[str, tuple[Property, ...]]:
        """Elements of a type by their FHIRPath name; none for an unknown type."""
        found = self._fields.get(type_name)
        if found is None:
            found = {}
            definition = self.spec.types.get(type_name)
            for element in definition.elements.values() if definition else ():
                entry = Property(element.name, element.key, "_" + element.key, element.type, element.type in self.primitives)
                found[element.name] = (*found.get(element.name, ()), entry)
            self._fields[type_name] = found
        return found

    def is_a(self, type_name: str, ancestor: str) -> bool:
        """Whether a type is another one or specialises it."""
        key = (type_name, ancestor)
        known = self._is_a.get(key)
        if known is None:
            known = self.spec.is_a(type_name, ancestor)
            if ancestor in self.spec.types and type_name in self.spec.types:
                self._is_a[key] = known
        return known

    def actual(self, declared: str, value: Any) -> str:
        """The type of a value where `declared` may be abstract: what `resourceType` says, if that is a type."""
        if declared in _ABSTRACT and type(value) is dict:
            name = value.get("resourceType")
            if type(name) is str and name in self.spec.types:
                return name
        return declared

    def member(self, items: list[Item], name: str) -> list[Item]:
        """The elements called `name` of all items."""
        out: list[Item] = []
        for item in items:
            if item.__class__ is Node:
                entries = self.fields(item.type).get(name)
                if entries is None:
                    continue
                holder = item.extra if item.type in self.primitives else item.value
                if type(holder) is dict:
                    for entry in entries if len(entries) <= len(holder) else self._present(item.type, name, holder):
                        self._append(out, holder, entry, item)
            elif item.__class__ is TypeInfo and name in {"name", "namespace"}:
                out.append(getattr(item, name))
        return out

    def children(self, node: Node) -> list[Item]:
        """All elements directly below a node, in the order of its JSON."""
        out: list[Item] = []
        holder = node.extra if node.type in self.primitives else node.value
        if type(holder) is dict:
            for entry in self._in_order(self.properties(node.type), holder):
                self._append(out, holder, entry, node)
        return out

    def properties(self, type_name: str) -> dict[str, Property]:
        """Elements of a type by their JSON key."""
        found = self._properties.get(type_name)
        if found is None:
            found = {entry.key: entry for entries in self.fields(type_name).values() for entry in entries}
            self._properties[type_name] = found
        return found

    def _present(self, type_name: str, name: str, holder: dict[str, Any]) -> list[Property]:
        # An Extension has 50 properties for its value and an object has few: look from the object's side.
        return [entry for entry in self._in_order(self.properties(type_name), holder) if entry.name == name]

    @staticmethod
    def _in_order(properties: dict[str, Property], holder: dict[str, Any]) -> Iterator[Property]:
        for key in holder:
            entry = properties.get(key)
            if entry is None and key[:1] == "_" and key[1:] not in holder:
                entry = properties.get(key[1:])
            if entry is not None:
                yield entry

    def _append(self, out: list[Item], holder: dict[str, Any], entry: Property, parent: Node) -> None:
        _, key, under, declared, primitive = entry
        value = holder.get(key)
        extra = holder.get(under) if primitive else None
        if type(value) is list or type(extra) is list:
            values = value if type(value) is list else []
            extras = extra if type(extra) is list else []
            for index in range(max(len(values), len(extras))):
                one = values[index] if index < len(values) else None
                beside = extras[index] if index < len(extras) else None
                if one is not None or beside is not None:
                    out.append(Node(one, self.actual(declared, one), beside, parent, key, index))
        elif value is not None or extra is not None:
            out.append(Node(value, self.actual(declared, value), extra, parent, key))


class Env:
    """What an evaluation knows beside its focus. Lives as long as the evaluation."""

    __slots__ = (
        "below", "budget", "context", "index", "kept", "limit", "member_of", "model", "now", "resolver", "resource", "root", "sets", "steps",
        "total", "variables",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917 - as many as there are
        self,
        model: Model,
        context: Node,
        resource: Node | None = None,
        root: Node | None = None,
        variables: dict[str, list[Item]] | None = None,
        now: datetime | None = None,
        resolver: Callable[[str], Any] | None = None,
        member_of: Callable[[Any, str], bool | None] | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Takes what `Expression.nodes` was given, as Nodes. `budget` is charged by `settle`."""
        self.model = model
        self.context = context
        self.resource = resource
        self.root = root
        self.variables = variables
        self.now = now
        self.resolver = resolver
        self.member_of = member_of
        self.budget = budget
        self.limit = MAX_STEPS if budget is None else min(MAX_STEPS, budget.steps)
        self.steps = self.limit
        self.index = 0
        self.total: list[Item] = []
        self.below: list[Item] | None = None
        self.kept: dict[object, list[Item]] = {}
        self.sets: dict[int, frozenset[Hashable] | None] = {}

    def spend(self, steps: int) -> None:
        """Takes from the steps of this evaluation. Raises FhirPathError `too-costly` when they are used up."""
        self.steps -= steps
        if self.steps < 0:
            raise too_costly()

    def settle(self) -> None:
        """Charges what the evaluation took to the budget it was given."""
        if self.budget is not None:
            self.budget.steps -= _START + self.limit - self.steps
