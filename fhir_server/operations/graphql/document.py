"""A GraphQL request: the query and its variables read, and its size measured before anything else is done with it.

https://spec.graphql.org/October2021/, https://hl7.org/fhir/R4/graphql.html#invoking
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from graphql import GraphQLSyntaxError, parse
from graphql.language import (
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListTypeNode,
    ListValueNode,
    NamedTypeNode,
    Node,
    NonNullTypeNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    StringValueNode,
    TypeNode,
    ValueNode,
    VariableNode,
)

from fhir_server import fhirjson
from fhir_server.interactions import Engine, Exchange
from fhir_server.interactions.engine import read_json
from fhir_server.operations.parameters import Inputs

from .faults import Fault

MAX_SOURCE: Final = 100_000
"""Characters of a query."""
MAX_TOKENS: Final = 10_000
MAX_DEPTH: Final = 15
"""Fields within fields."""
MAX_FIELDS: Final = 1_000
"""Fields of a query, those of a fragment counted wherever it stands."""
MAX_FRAGMENTS: Final = 50

_LIST_NESTING: Final = 3
_INT: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Document:
    """A query that is small enough, its fragments by name, and the values of its variables."""

    root: SelectionSetNode
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]

    def value(self, node: ValueNode) -> Any:
        """A value of the query as JSON has it; names of enumerations are texts. Raises Fault for objects and for variables that are not declared."""
        match node:
            case VariableNode():
                if node.name.value not in self.variables:
                    raise Fault(f"The variable ${node.name.value} is not declared", node)
                return self.variables[node.name.value]
            case IntValueNode():
                if not _INT.fullmatch(node.value):
                    raise Fault(f"{node.value[:80]} is no whole number of at most 18 digits", node)
                return int(node.value)
            case FloatValueNode():
                return Decimal(node.value) if len(node.value) < 40 else node.value  # noqa: PLR2004 - beyond any measurement
            case StringValueNode() | EnumValueNode() | BooleanValueNode():
                return node.value
            case ListValueNode():
                return [self.value(part) for part in node.values]
            case NullValueNode():
                return None
        raise Fault("An object is no value of any argument here", node)

    def arguments(self, node: FieldNode | DirectiveNode) -> dict[str, Any]:
        """The arguments by name; those that are null are as if they were not there. Raises Fault for a name that stands twice."""
        found: dict[str, Any] = {}
        for argument in node.arguments or ():
            if argument.name.value in found:
                raise Fault(f"The argument '{argument.name.value}' stands twice", argument)
            found[argument.name.value] = self.value(argument.value)
        return {name: value for name, value in found.items() if value is not None}


def read(engine: Engine, exchange: Exchange) -> Document:
    """The request in an Exchange: a text, the JSON object that clients of GraphQL send, or the parameters `query`, `variables`, `operationName`.

    Raises Fault, `too-costly` where the query is larger than a limit, and what reading a Parameters resource raises.
    """
    query, variables, name = _request(engine, exchange)
    if not isinstance(query, str) or not query.strip():
        raise Fault("There is no query: send it as the parameter 'query', as the body, or as JSON {\"query\": …}", code="required")
    _refuse_surrogates(query, variables)
    if len(query) > MAX_SOURCE:
        raise Fault(f"The query has {len(query):,} characters; {MAX_SOURCE:,} are the most", category="too-costly")
    try:
        document = parse(query, max_tokens=MAX_TOKENS)
    except GraphQLSyntaxError as error:
        fault = Fault(error.message[:300], code="structure")
        fault.location = (error.locations[0].line, error.locations[0].column) if error.locations else None
        raise fault from None
    operation, fragments = _parts(document, name)
    found = Document(operation.selection_set, fragments, _variables(operation, variables))
    _measure(found)
    return found


def _request(engine: Engine, exchange: Exchange) -> tuple[Any, Any, Any]:
    body = exchange.body
    if isinstance(body, str):
        return body, {}, dict(exchange.params).get("operationName")
    if isinstance(body, dict) and "resourceType" not in body:
        unknown = set(body) - {"query", "variables", "operationName", "extensions"}
        if unknown:
            raise Fault(f"'{min(unknown)[:80]}' is no part of a GraphQL request; query, variables and operationName are")
        return body.get("query"), body.get("variables") or {}, body.get("operationName")
    given = Inputs(engine, exchange, ("query", "variables", "operationName"))
    variables = given.text("variables")
    return given.text("query"), {} if variables is None else read_json(variables.encode()), given.text("operationName")


def _refuse_surrogates(*values: Any) -> None:
    try:
        fhirjson.dumps(values)
    except UnicodeEncodeError:
        raise Fault("The query contains characters that no text has") from None


def _parts(document: DocumentNode, name: Any) -> tuple[OperationDefinitionNode, dict[str, FragmentDefinitionNode]]:
    """The operation that is meant, and all fragments."""
    operations: list[OperationDefinitionNode] = []
    fragments: dict[str, FragmentDefinitionNode] = {}
    for definition in document.definitions:
        match definition:
            case OperationDefinitionNode():
                operations.append(definition)
            case FragmentDefinitionNode():
                if definition.name.value in fragments:
                    raise Fault(f"The fragment '{definition.name.value}' is defined twice", definition)
                fragments[definition.name.value] = definition
                if len(fragments) > MAX_FRAGMENTS:
                    raise Fault(f"A query has at most {MAX_FRAGMENTS} fragments", definition, category="too-costly")
            case _:
                raise Fault("A request has operations and fragments, and defines no types", definition, code="not-supported")
    named = [each for each in operations if name is None or (each.name is not None and each.name.value == name)]
    if len(named) != 1:
        raise Fault("Name one operation of the query with operationName" if operations else "The query has no operation", code="required")
    if named[0].operation.value != "query":
        raise Fault(f"A {named[0].operation.value} is not possible here, only queries are; write over REST", named[0], code="not-supported")
    if named[0].directives:
        raise Fault("No directive goes with a whole query", named[0], code="not-supported")
    return named[0], fragments


def _variables(operation: OperationDefinitionNode, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise Fault("The variables are a JSON object with a value for each name")
    found: dict[str, Any] = {}
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if name in found:
            raise Fault(f"The variable ${name} is declared twice", definition)
        if name in given:
            found[name] = _coerced(name, given[name], definition.type, definition, 0)
        elif definition.default_value is not None:
            default = Document(operation.selection_set, {}, {}).value(definition.default_value)
            found[name] = _coerced(name, default, definition.type, definition, 0)
        elif isinstance(definition.type, NonNullTypeNode):
            raise Fault(f"The variable ${name} has to have a value", definition, code="required")
        else:
            found[name] = None
    return found


def _coerced(name: str, value: Any, kind: TypeNode, node: Node, depth: int) -> Any:
    """The value as its type has it. Types other than GraphQL's own are the specification's primitives, which are texts, numbers or booleans."""
    if isinstance(kind, NonNullTypeNode):
        if value is None:
            raise Fault(f"The variable ${name} must not be null", node)
        return _coerced(name, value, kind.type, node, depth)
    if value is None:
        return None
    if isinstance(kind, ListTypeNode) and depth < _LIST_NESTING:
        return [_coerced(name, each, kind.type, node, depth + 1) for each in (value if isinstance(value, list) else [value])]
    expected = kind.name.value if isinstance(kind, NamedTypeNode) else "list"
    fits = {
        "Int": type(value) is int,
        "Float": isinstance(value, int | Decimal) and not isinstance(value, bool),
        "Boolean": isinstance(value, bool),
        "String": isinstance(value, str),
        "ID": isinstance(value, str) or type(value) is int,
    }.get(expected, isinstance(value, str | int | Decimal))
    if not fits:
        raise Fault(f"The variable ${name} is of type {expected}, which {str(value)[:80]!r} is not", node, code="value")
    return value


@dataclass(slots=True)
class _Size:
    fragments: Mapping[str, FragmentDefinitionNode]
    open: list[str] = field(default_factory=list)
    known: dict[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, selections: SelectionSetNode) -> tuple[int, int]:
        """Depth, and fields with those of fragments counted in."""
        depth = fields = 0
        for node in selections.selections:
            match node:
                case FieldNode():
                    inner = self.of(node.selection_set) if node.selection_set is not None else (0, 0)
                    inner = inner[0] + 1, inner[1] + 1
                case InlineFragmentNode():
                    inner = self.of(node.selection_set)
                case FragmentSpreadNode():
                    inner = self._spread(node)
                case _:
                    raise AssertionError(node)
            depth, fields = max(depth, inner[0]), fields + inner[1]
        return depth, fields

    def _spread(self, node: FragmentSpreadNode) -> tuple[int, int]:
        name = node.name.value
        if name in self.open:
            raise Fault(f"The fragment '{name}' contains itself", node)
        if name not in self.fragments:
            raise Fault(f"There is no fragment '{name}'", node)
        if name not in self.known:
            self.open.append(name)
            self.known[name] = self.of(self.fragments[name].selection_set)
            self.open.pop()
        return self.known[name]


def _measure(document: Document) -> None:
    depth, fields = _Size(document.fragments).of(document.root)
    if depth > MAX_DEPTH:
        raise Fault(f"The query is {depth} fields deep; {MAX_DEPTH} are the most", category="too-costly")
    if fields > MAX_FIELDS:
        raise Fault(f"The query has {fields:,} fields; {MAX_FIELDS:,} are the most", category="too-costly")
