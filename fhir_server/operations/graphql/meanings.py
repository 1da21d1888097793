"""What a field is on a type, by the specification's elements and search parameters.

https://hl7.org/fhir/R4/graphql.html#fields, https://hl7.org/fhir/R4/graphql.html#list, https://hl7.org/fhir/R4/graphql.html#searching
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from graphql.language import DirectiveNode, FieldNode

from fhir_server import fhirpath
from fhir_server.outcome import Outcome
from fhir_server.search import Registry

from .document import Document
from .faults import Fault, placed
from .fields import QUERY, Field, as_text, display_name, nearest, search_name

MAX_EXPRESSION: Final = 1_000
"""Characters of a FHIRPath expression in a query."""

_CONNECTION: Final = ("count", "offset", "pagesize", "pageSize", "first", "previous", "next", "last")
_EDGE: Final = ("mode", "score")
_NO_SEARCH: Final = frozenset({"_include", "_revinclude", "_contained", "_containedType", "_summary", "_elements", "_explain", "_format"})


class Meanings:
    """Tells what fields are; the document is where their arguments are from."""

    def __init__(self, document: Document, registry: Registry) -> None:
        """Takes the document and what can be searched."""
        self.document = document
        self.registry = registry
        self.spec = registry.spec
        self._expressions: dict[tuple[str, str], fhirpath.Expression] = {}

    def expression(self, text: Any, type_name: str, node: FieldNode | DirectiveNode) -> fhirpath.Expression:
        """The compiled FHIRPath of an argument, for values of a type. Raises Fault for what is none."""
        if not isinstance(text, str) or len(text) > MAX_EXPRESSION:
            raise Fault(f"A FHIRPath expression is a text of at most {MAX_EXPRESSION:,} characters", node)
        known = self._expressions.get((text, type_name))
        if known is None:
            try:
                known = fhirpath.compile(text, self.spec, type_name, strict=type_name != "Resource", cached=False)
            except Outcome as outcome:
                raise placed(outcome, node) from None
            self._expressions[text, type_name] = known
        return known

    def of(self, node: FieldNode, type_name: str, targets: tuple[str, ...], *, hint: bool) -> Field:
        """The field that a node is on a type. Raises Fault, with the nearest name as a `hint`, which takes a millisecond to find."""
        name = node.name.value
        args = self.document.arguments(node)
        made = self._meaning(node, name, type_name, targets, args)
        if made is None:
            raise Fault(f"{display_name(type_name)} has no field '{name}'{self._near(name, type_name) if hint else ''}", node, code="not-found")
        below = (node.selection_set,) if node.selection_set is not None else ()
        leaf = made.kind in {"typename", "plain", "primitive"}
        if leaf and below:
            raise Fault(f"'{name}' is a single value; nothing can be selected of it", node)
        if not leaf and not (below and below[0].selections):
            raise Fault(f"'{name}' has fields of its own; say which: {name} {{ … }}", node)
        return self._directed(replace(made, selections=below), node)

    def _meaning(self, node: FieldNode, name: str, type_name: str, targets: tuple[str, ...], args: dict[str, Any]) -> Field | None:
        key = node.alias.value if node.alias is not None else name
        if name == "__typename":
            return _bare(Field(node, key, name, "typename", "string"), args)
        if name in {"__schema", "__type"}:
            said = "There is no introspection here: types and fields are those of FHIR R4, https://hl7.org/fhir/R4/graphql.html"
            raise Fault(said, node, code="not-supported")
        if type_name.endswith(("Connection", "Edge")):
            made = _of_a_page(node, key, name, type_name)
            return made and _bare(made, args)
        if type_name == QUERY:
            return self._read(node, key, name, args) or self._search(node, key, name, type_name, args)
        found = self._element(node, key, name, type_name, targets, args)
        if found is None and self.spec.types[type_name].kind == "resource":
            found = self._search(node, key, name, type_name, args)
        return found

    def _read(self, node: FieldNode, key: str, name: str, args: dict[str, Any]) -> Field | None:
        if name not in self.registry.types:
            return None
        if set(args) != {"id"} or not isinstance(args["id"], str | int):
            raise Fault(f'{name} takes the id of one resource: {name}(id: "…"); {name}List searches', node)
        return Field(node, key, name, "read", name, targets=(name,), args=args)

    def _element(self, node: FieldNode, key: str, name: str, type_name: str, targets: tuple[str, ...], args: dict[str, Any]) -> Field | None:
        definition = self.spec.types[type_name]
        if type_name == "Reference" and name == "resource":
            return self._resolved(node, key, targets, args)
        if name == "resourceType" and definition.kind == "resource":
            return _bare(Field(node, key, name, "plain", "string"), args)
        element = definition.elements.get(name.removeprefix("_"))
        if element is None:
            return None
        primitive = self.spec.types[element.type].kind == "primitive"
        if name.startswith("_"):
            return self._chosen(Field(node, key, name, "complex", "Element", many=element.many), args) if primitive else None
        if primitive:
            return _bare(Field(node, key, name, "primitive", element.type, many=element.many), args)
        made = Field(node, key, name, "complex", element.type, many=element.many, targets=element.targets)
        return self._chosen(made, args)

    def _chosen(self, made: Field, args: dict[str, Any]) -> Field:
        """With the arguments that choose of a list."""
        filters: dict[str, tuple[str, ...]] = {}
        for name, value in args.items():
            if name in {"_offset", "_count"}:
                if type(value) is not int or value < 0:
                    raise Fault(f"{name} of '{made.name}' is a whole number from 0", made.node)
            elif name == "fhirpath":
                self.expression(value, made.type, made.node)
            else:
                inner = self.spec.types[made.type].elements.get(name)
                if inner is None or self.spec.types[inner.type].kind != "primitive":
                    raise Fault(f"'{made.name}' cannot be chosen by '{name}': {display_name(made.type)} has no such single value", made.node)
                filters[name] = tuple(map(as_text, value if isinstance(value, list) else [value]))
        return replace(made, filters=filters, args={name: value for name, value in args.items() if name not in filters})

    def _resolved(self, node: FieldNode, key: str, targets: tuple[str, ...], args: dict[str, Any]) -> Field:
        unknown = set(args) - {"optional", "type"}
        if unknown or not isinstance(args.get("optional", False), bool):
            raise Fault("'resource' takes optional: true or false, and type: the name of one", node)
        if "type" in args:
            if not isinstance(args["type"], str) or args["type"] not in self.registry.types:
                raise Fault(f"'{str(args['type'])[:80]}' is no resource type of FHIR R4{nearest(str(args['type']), self.registry.types)}", node)
            targets = (args["type"],)
        return Field(node, key, "resource", "resource", "Resource", targets=tuple(name for name in targets if name in self.registry.types), args=args)

    def _search(self, node: FieldNode, key: str, name: str, type_name: str, args: dict[str, Any]) -> Field | None:
        suffix = "List" if name.endswith("List") else "Connection"
        source = name.removesuffix(suffix)
        if source == name or source not in self.registry.types:
            return None
        refused = _NO_SEARCH.intersection(args)
        if refused:
            raise Fault(f"{min(refused)} is not possible in GraphQL", node, code="not-supported")
        if type_name == QUERY:
            if "_reference" in args:
                raise Fault("_reference is for what refers to a resource: select it within one", node)
        else:
            self._require_reference(node, name, source, args)
        if "fhirpath" in args:
            self.expression(args["fhirpath"], source, node)
        if suffix == "List":
            return Field(node, key, source, "list", source, many=True, targets=(source,), args=args)
        return Field(node, key, source, "connection", f"{source}Connection", targets=(source,), args=args)

    def _require_reference(self, node: FieldNode, name: str, source: str, args: dict[str, Any]) -> None:
        codes = [param.code for param in self.registry.referring(source)]
        if not isinstance(args.get("_reference"), str) or search_name(args["_reference"]) not in codes:
            listed = ", ".join(code.replace("-", "_") for code in codes)
            raise Fault(f"{name} within a resource needs _reference, the search parameter that refers to it: one of {listed}"[:500], node)
        if {"cursor", "_cursor", "id", "_id"}.intersection(args):
            raise Fault(f"{name} within a resource takes neither id nor cursor", node)

    def _directed(self, made: Field, node: FieldNode) -> Field:
        """With the directives that shape the output."""
        found: dict[str, Any] = {}
        for directive in node.directives or ():
            name = directive.name.value
            if name in found:
                raise Fault(f"@{name} stands twice", directive)
            if name == "slice":
                if made.kind in {"typename", "plain"}:
                    raise Fault(f"'{made.name}' is a single value; nothing can be sliced of it", directive)
                args = self.document.arguments(directive)
                path = args.get("path", args.get("fhirpath"))
                if len(args) != 1 or not isinstance(path, str):
                    raise Fault('@slice needs path, a FHIRPath expression, as in @slice(path: "use")', directive)
                if path != "$index":
                    self.expression(path, made.type if made.type in self.spec.types else "Resource", directive)
                found[name] = path
            elif name in {"flatten", "first", "singleton"}:
                if directive.arguments:
                    raise Fault(f"@{name} takes no arguments", directive)
                found[name] = True
        if "flatten" in found and not made.selections:
            raise Fault(f"@flatten goes with a field that has others, which '{made.name}' has not", node)
        return replace(made, **found)

    def _near(self, name: str, type_name: str) -> str:
        if type_name == QUERY:
            return nearest(name, (f"{source}{suffix}" for source in self.registry.types for suffix in ("", "List", "Connection")))
        return nearest(name, self.spec.types[type_name].elements if type_name in self.spec.types else (*_CONNECTION, *_EDGE, "edges", "resource"))


def _bare(made: Field, args: dict[str, Any]) -> Field:
    if args:
        raise Fault(f"'{made.name}' takes no arguments", made.node)
    return made


def _of_a_page(node: FieldNode, key: str, name: str, type_name: str) -> Field | None:
    """A field of `PatientConnection` or `PatientEdge`."""
    if type_name.endswith("Connection"):
        if name == "edges":
            return Field(node, key, name, "inner", type_name.removesuffix("Connection") + "Edge", many=True)
        return Field(node, key, name, "plain", "string") if name in _CONNECTION else None
    if name == "resource":
        return Field(node, key, name, "inner", type_name.removesuffix("Edge"))
    return Field(node, key, name, "plain", "string") if name in _EDGE else None
