"""Selections read for a type: fragments laid open, fields of one name put together, and everything checked before anything is read.

https://spec.graphql.org/October2021/#sec-Field-Collection, https://hl7.org/fhir/R4/graphql.html#references
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from graphql.language import DirectiveNode, FieldNode, FragmentSpreadNode, InlineFragmentNode

from fhir_server.search import Registry

from .document import Document
from .faults import Fault
from .fields import QUERY, Field, Selections, display_name, nearest
from .meanings import Meanings

MAX_WORK: Final = 50_000
"""Fields that are looked up on types, each on every type that a reference may lead to: a second at most."""

_DIRECTIVES: Final = frozenset({"skip", "include", "flatten", "first", "singleton", "slice"})


class Fields:
    """Reads selections, each for a type once."""

    def __init__(self, document: Document, registry: Registry) -> None:
        """Takes the document that the selections are of."""
        self.document = document
        self.registry = registry
        self.spec = registry.spec
        self._left = MAX_WORK
        self._known: dict[tuple[tuple[int, ...], str, tuple[str, ...]], list[Field]] = {}
        self._skipped: dict[tuple[int, str], Fault] = {}
        self._checked: set[tuple[tuple[int, ...], str, tuple[str, ...]]] = set()
        self._names = {display_name(name) for name in self.spec.types}
        self.meanings = Meanings(document, registry)

    def of(self, selections: Selections, type_name: str, targets: tuple[str, ...] = (), *, lenient: bool = False) -> list[Field]:
        """The fields of a selection on a type; `targets` are those of a Reference.

        Raises Fault for a field that the type does not have, unless `lenient`: then another type may have it.
        """
        key = (tuple(map(id, selections)), type_name, targets)
        if key not in self._known:
            self._known[key] = list(self._merged(selections, type_name, targets, lenient=lenient))
        return self._known[key]

    def check(self, selections: Selections, type_name: str, targets: tuple[str, ...] = ()) -> None:
        """Raises Fault for whatever is wrong within a selection on a type, however deep."""
        key = (tuple(map(id, selections)), type_name, targets)
        if key in self._checked:
            return
        self._checked.add(key)
        if type_name == "Resource":
            self._check_any(selections, targets)
            return
        for each in self.of(selections, type_name, targets):
            self._check_below(each)

    def _check_below(self, each: Field) -> None:
        if each.selections:
            self.check(each.selections, each.type, each.targets)

    def _check_any(self, selections: Selections, targets: tuple[str, ...]) -> None:
        """A field is right if one of the types has it and what is selected of it there."""
        faults: dict[int, Fault] = {}
        right: set[int] = set()
        for name in targets or self.spec.resource_types:
            found = self.of(selections, name, lenient=True)
            for each in found:
                try:
                    self._check_below(each)
                    right.add(id(each.node))
                except Fault as fault:
                    faults.setdefault(id(each.node), fault)
            nodes = {id(each.node) for each in found}
            faults = {node: left for node, left in self._left_out(selections, name) if node not in nodes} | faults
        for node, first in faults.items():
            if node not in right:
                raise first

    def _left_out(self, selections: Selections, name: str) -> Iterator[tuple[int, Fault]]:
        for node in self._nodes(selections, name):
            fault = self._skipped.get((id(node), name))
            if fault is not None:
                yield id(node), fault

    def _merged(self, selections: Selections, type_name: str, targets: tuple[str, ...], *, lenient: bool) -> Iterator[Field]:
        """Fields of one output name are one field, and what is selected of them is put together."""
        merged: dict[str, list[Field]] = {}
        for node in self._nodes(selections, type_name):
            self._left -= 1
            if self._left < 0:
                raise Fault("The query takes too many fields on too many types; name types with '... on Patient'", node, category="too-costly")
            try:
                made = self.meanings.of(node, type_name, targets, hint=not lenient)
            except Fault as fault:
                if not lenient or fault.category == "too-costly":
                    raise
                self._skipped[id(node), type_name] = fault
                continue
            listed = merged.setdefault(made.key, [])
            same = next((number for number, other in enumerate(listed) if _alike(made, other)), None)
            if same is not None:
                listed[same] = replace(listed[same], selections=listed[same].selections + made.selections)
            elif listed and made.kind != "resource":
                raise Fault(f"'{made.key}' stands for two fields; give one of them another name, as in other: {made.name}", node)
            else:
                listed.append(made)
        for listed in merged.values():
            yield from listed

    def _nodes(self, selections: Selections, type_name: str) -> Iterator[FieldNode]:
        """The fields that apply to a type, those of fragments included."""
        for selection_set in selections:
            for node in selection_set.selections:
                if not self._is_included(node.directives or ()):
                    continue
                match node:
                    case FieldNode():
                        yield node
                    case InlineFragmentNode():
                        condition = node.type_condition
                        if condition is None or self._applies(type_name, condition.name.value, node):
                            yield from self._nodes((node.selection_set,), type_name)
                    case FragmentSpreadNode():
                        fragment = self.document.fragments[node.name.value]
                        if self._applies(type_name, fragment.type_condition.name.value, node):
                            yield from self._nodes((fragment.selection_set,), type_name)

    def _is_included(self, directives: Sequence[DirectiveNode]) -> bool:
        included = True
        for directive in directives:
            name = directive.name.value
            if name not in _DIRECTIVES:
                raise Fault(f"There is no directive '@{name}'; {', '.join(sorted(_DIRECTIVES))} are known", directive, code="not-supported")
            if name in {"skip", "include"}:
                condition = self.document.arguments(directive).get("if")
                if not isinstance(condition, bool):
                    raise Fault(f"@{name} needs if: true or if: false", directive)
                included = included and condition is (name == "include")
        return included

    def _applies(self, type_name: str, condition: str, node: InlineFragmentNode | FragmentSpreadNode) -> bool:
        known = condition in self._names or condition == QUERY or condition.removesuffix("Connection").removesuffix("Edge") in self.registry.types
        if not known:
            raise Fault(f"'{condition}' is no type of FHIR R4{nearest(condition, self.registry.types)}", node)
        return display_name(type_name) == condition or (type_name in self.spec.types and self.spec.is_a(type_name, condition))


def _alike(one: Field, other: Field) -> bool:
    shapes = ((each.name, each.kind, each.args, each.filters, each.flatten, each.first, each.singleton, each.slice) for each in (one, other))
    return next(shapes) == next(shapes)
