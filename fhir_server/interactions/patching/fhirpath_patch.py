"""FHIRPath Patch on decoded resources: add, insert, delete, replace and move.

https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

from fhir_server import fhirpath
from fhir_server.outcome import Outcome
from fhir_server.spec import Element, Spec, TypeDef

from .bounds import MAX_OPERATIONS, MAX_VALUES, measure, require_same_identity
from .parameter_values import Part, element_named, integer, occurrence, part, text
from .slots import Occurrence, read, write

Path = tuple[str | int, ...]
MAX_VISITS: Final = 20_000_000
"""Operations times values of the resource: each operation may have to look at every value."""


def apply(parameters: Any, resource: dict[str, Any], spec: Spec, budget: fhirpath.Budget | None = None) -> dict[str, Any]:
    """The resource after every operation of the Parameters resource; `resource` itself is left as it is, numbers keep their text.

    All or nothing. Raises Outcome `malformed` for what is not a FHIRPath Patch, `invalid` where a path does not select what the operation needs
    (one element; a list with that index) or id, resourceType or meta.versionId would change, `too-large` as JSON Patch does, `too-costly` where
    following the paths takes more steps than the budget has.
    """
    budget = budget or fhirpath.Budget()
    operations = _operations(parameters)
    size = measure(resource)
    if size * len(operations) > MAX_VISITS:
        raise Outcome("too-large", "The patch has too many operations for a resource of this size")
    room = MAX_VALUES - size
    document = copy.deepcopy(resource)
    for index, operation in enumerate(operations):
        room -= measure(operation, limit=max(room, 0))
        try:
            kind = text(operation, "type")
            if kind not in _APPLY:
                raise Outcome("malformed", f"the 'type' is one of {', '.join(sorted(_APPLY))}")
            _APPLY[kind](document, operation, _located(document, operation, spec, budget), spec)
        except Outcome as problem:
            expression = next(iter(problem.issues[0].expression), None)
            raise Outcome(problem.category, f"Operation {index} of the patch: {problem}", expression=expression) from None
    require_same_identity(resource, document)
    return document


def _operations(parameters: Any) -> list[dict[str, Any]]:
    if type(parameters) is not dict or parameters.get("resourceType") != "Parameters":
        raise Outcome("malformed", "A FHIRPath Patch is a Parameters resource")
    listed = parameters.get("parameter", [])
    if type(listed) is not list or any(type(p) is not dict or p.get("name") != "operation" for p in listed):
        raise Outcome("malformed", "Every parameter of a FHIRPath Patch is named 'operation'")
    if len(listed) > MAX_OPERATIONS:
        raise Outcome("too-large", f"A patch may have {MAX_OPERATIONS:,} operations; this one has {len(listed):,}")
    return listed


def _add(document: dict[str, Any], operation: Part, found: list[Path], spec: Spec) -> None:
    path = _one(operation, found)
    holder, definition = _open(document, path, spec)
    given = part(operation, "value")
    element = element_named(definition, text(operation, "name"), given)
    present = read(holder, element.key)
    rivals = [e for e in definition.elements.values() if e.name == element.name and read(holder, e.key)]
    if rivals and not element.many:
        at = f"{definition.name}.{element.name}"
        raise Outcome("invalid", f"{at} is there already and does not repeat: replace it", expression=at)
    write(holder, element, [*present, occurrence(spec, given, element)])


def _insert(document: dict[str, Any], operation: Part, found: list[Path], spec: Spec) -> None:
    holder, element = _list(document, operation, found, spec)
    items = read(holder, element.key)
    index = _index(operation, "index", len(items))
    items.insert(index, occurrence(spec, part(operation, "value"), element))
    write(holder, element, items)


def _delete(document: dict[str, Any], _operation: Part, found: list[Path], spec: Spec) -> None:
    if len(found) > 1:
        raise Outcome("invalid", f"'delete' takes one element, the path selects {len(found)}")
    if found:
        _change(document, found[0], spec, None)


def _replace(document: dict[str, Any], operation: Part, found: list[Path], spec: Spec) -> None:
    path = _one(operation, found)
    _, definition, key, _ = _place(document, path, spec)
    given = part(operation, "value")
    current = definition.elements[key]
    element = element_named(definition, current.name, given) if current.choice else current
    if element is not current:
        _change(document, path, spec, None, keep=True)
    _change(document, (*path[:-1], element.key) if element is not current else path, spec, occurrence(spec, given, element))


def _move(document: dict[str, Any], operation: Part, found: list[Path], spec: Spec) -> None:
    holder, element = _list(document, operation, found, spec)
    items = read(holder, element.key)
    source, destination = _index(operation, "source", len(items) - 1), _index(operation, "destination", len(items) - 1)
    items.insert(destination, items.pop(source))
    write(holder, element, items)


_APPLY: Final[dict[str, Callable[[dict[str, Any], Part, list[Path], Spec], None]]] = {
    "add": _add,
    "insert": _insert,
    "delete": _delete,
    "replace": _replace,
    "move": _move,
}


def _located(document: dict[str, Any], operation: Part, spec: Spec, budget: fhirpath.Budget) -> list[Path]:
    path = text(operation, "path")
    try:
        found = fhirpath.locate(path, spec, document, budget)
    except fhirpath.FhirPathError as error:
        costly = error.category == "too-costly"
        raise Outcome("too-costly" if costly else "malformed", f"the path '{path[:120]}' cannot be followed: {error}") from None
    return [_physical(document, path, spec) for path in found]


def _physical(document: dict[str, Any], path: Path, spec: Spec) -> Path:
    """The path with `_x` in place of each primitive `x` whose id or extensions it goes on to."""
    here: Any = document
    definition = _resource_type(document, spec)
    steps: list[str | int] = []
    for place, step in enumerate(path):
        if type(step) is str:
            element = definition.elements.get(step)
            if element is None:
                raise Outcome("invalid", f"{definition.name} has no element '{step[:64]}'")
            below = any(type(later) is str for later in path[place + 1 :])
            step = f"_{step}" if below and spec.types[element.type].kind == "primitive" else step  # noqa: PLW2901 - the step as it is written
            definition = spec.types[element.type]
        steps.append(step)
        here = _at(here, step)
        if type(here) is dict and "resourceType" in here:
            definition = _resource_type(here, spec)
    return tuple(steps)


def _one(operation: Part, found: list[Path]) -> Path:
    if len(found) != 1:
        raise Outcome("invalid", f"the path '{text(operation, 'path')[:120]}' selects {len(found) or 'no'} elements where one is wanted")
    return found[0]


def _list(document: dict[str, Any], operation: Part, found: list[Path], spec: Spec) -> tuple[dict[str, Any], Element]:
    """The object and repeating element that hold everything the path selects, which must be all of it."""
    lists = {path[:-1] for path in found}
    if len(lists) != 1 or type(found[0][-1]) is not int:
        raise Outcome("invalid", f"the path '{text(operation, 'path')[:120]}' does not select the items of one list")
    holder, definition, key, _ = _place(document, found[0], spec)
    return holder, definition.elements[key]


def _place(document: dict[str, Any], path: Path, spec: Spec) -> tuple[dict[str, Any], TypeDef, str, int | None]:
    """The object that holds the element at a path, its type, the property, and the index if it repeats."""
    if not path:
        raise Outcome("invalid", "A patch may not replace or remove the resource itself")
    index = path[-1] if type(path[-1]) is int else None
    holder_path = path[:-1] if index is None else path[:-2]
    holder, definition = _object(document, holder_path, spec)
    key = str(path[len(holder_path)])
    if key not in definition.elements:
        raise Outcome("invalid", f"{definition.name} has no element '{key[:64]}'")
    return holder, definition, key, index


def _object(document: dict[str, Any], path: Path, spec: Spec) -> tuple[dict[str, Any], TypeDef]:
    """The object at a path and its type."""
    here: Any = document
    definition = _resource_type(document, spec)
    for step in path:
        if type(step) is str:
            element = definition.elements.get(step)
            if element is None and step.startswith("_") and step[1:] in definition.elements:
                definition = spec.types[definition.elements[step[1:]].type]
            elif element is not None and element.type != "Resource":
                definition = spec.types[element.type]
            elif element is None:
                raise Outcome("invalid", f"{definition.name} has no element '{step[:64]}'")
        here = here[step]
        if type(here) is dict and "resourceType" in here:
            definition = _resource_type(here, spec)
    if type(here) is not dict:
        raise Outcome("invalid", "The path selects a value that has no elements of its own")
    return here, definition


def _open(document: dict[str, Any], path: Path, spec: Spec) -> tuple[dict[str, Any], TypeDef]:
    """As `_object`, but a primitive is given room for its id and extensions if it has none yet."""
    if type(reduce(_at, path, document)) is dict:
        return _object(document, path, spec)
    holder, definition, key, index = _place(document, path, spec)
    element = definition.elements[key]
    items = read(holder, key)
    position = index or 0
    room: dict[str, Any] = items[position].sibling or {}
    items[position] = Occurrence(items[position].value, room)
    write(holder, element, items)
    return room, spec.types[element.type]


def _at(value: Any, step: str | int) -> Any:
    """The child, None where a primitive has only what stands beside it."""
    if type(value) is dict:
        return value.get(step)
    return value[step] if type(value) is list and type(step) is int and step < len(value) else None


def _resource_type(resource: dict[str, Any], spec: Spec) -> TypeDef:
    definition = spec.types.get(str(resource.get("resourceType")))
    if definition is None:
        raise Outcome("invalid", "The resource has no known resourceType")
    return definition


def _change(document: dict[str, Any], path: Path, spec: Spec, new: Occurrence | None, *, keep: bool = False) -> None:
    """Puts `new` where the path leads, or takes away what is there and, unless `keep`, every object that is empty then."""
    holder, definition, key, index = _place(document, path, spec)
    element = definition.elements[key]
    items = read(holder, key)
    position = index or 0
    items[position : position + 1] = [] if new is None else [new]
    write(holder, element, items)
    holder_path = path[:-1] if index is None else path[:-2]
    if not holder and holder_path and not keep:
        _remove_emptied(document, holder_path, spec)


def _remove_emptied(document: dict[str, Any], path: Path, spec: Spec) -> None:
    name_at = -1 if type(path[-1]) is str else -2
    name = str(path[name_at])
    if not name.startswith("_"):
        _change(document, path, spec, None)
        return
    holder, definition = _object(document, path[:name_at], spec)
    items = read(holder, name[1:])
    position = path[-1] if type(path[-1]) is int else 0
    items[position] = Occurrence(items[position].value)
    write(holder, definition.elements[name[1:]], [item for item in items if not item.empty])


def _index(operation: Part, name: str, last: int) -> int:
    index = integer(operation, name)
    if not 0 <= index <= last:
        raise Outcome("invalid", f"'{name}' is {index}, the list has places 0 to {last}")
    return index
