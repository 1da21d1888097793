"""Parts of a resource: `_summary` and `_elements`.

https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/search.html#elements
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.outcome import Outcome
from fhir_server.spec import Element, Spec, TypeDef

SUBSETTED: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}

# Losing one of these could turn the meaning of what is left around.
_ALWAYS: Final = frozenset({"id", "meta", "implicitRules", "modifierExtension"})
_Node = dict[str, Any]
_Wanted = dict[str, "_Wanted"]


def subset(spec: Spec, resource: _Node, summary: str | None, elements: tuple[str, ...]) -> _Node:
    """The asked part of a resource as a new value that carries the tag SUBSETTED; the resource itself when nothing was asked, or for a Bundle.

    `summary` is true, text, data or false; `elements` are names such as `name`, `Patient.name`, `contact.name` or `value[x]`; both: what both keep.
    Mandatory elements, id, meta and what modifies the meaning stay. Raises Outcome `parameter` for another summary.
    """
    if summary not in {None, "true", "text", "data", "false"}:
        raise Outcome("parameter", f"_summary={summary} is not known here; it is one of true, text, data, false")
    definition = spec.types.get(resource.get("resourceType", ""))
    if definition is None or definition.name == "Bundle" or (summary in {None, "false"} and not elements):
        return resource
    part = resource
    if summary == "true":
        part = _summarised(spec, definition, part)
    elif summary == "text":
        part = _kept(definition, part, frozenset({"text"}))
    elif summary == "data":
        part = {key: value for key, value in part.items() if key != "text"}
    if elements:
        part = _selected(spec, definition, part, _tree(definition, elements))
    return _tagged(part)


def _tagged(resource: _Node) -> _Node:
    meta = resource.get("meta", {})
    tags = meta.get("tag", [])
    if any(tag.get("code") == SUBSETTED["code"] and tag.get("system") == SUBSETTED["system"] for tag in tags):
        return resource
    marked = {**meta, "tag": [*tags, dict(SUBSETTED)]}
    if "meta" in resource:
        return {**resource, "meta": marked}
    head: _Node = {key: resource[key] for key in ("resourceType", "id") if key in resource}
    return {**head, "meta": marked, **resource}


def _element(definition: TypeDef, key: str) -> Element | None:
    """The element of a property, also of `_birthDate`, which goes with `birthDate`."""
    return definition.elements.get(key.removeprefix("_"))


def _stays(element: Element | None, key: str) -> bool:
    return key in _ALWAYS or key == "resourceType" or (element is not None and element.min > 0)


def _kept(definition: TypeDef, node: _Node, wanted: frozenset[str]) -> _Node:
    return {key: value for key, value in node.items() if key in wanted or _stays(_element(definition, key), key)}


def _summarised(spec: Spec, definition: TypeDef, node: _Node) -> _Node:
    part: _Node = {}
    for key, value in node.items():
        element = _element(definition, key)
        if _stays(element, key) or (element is not None and element.summary):
            inner = spec.types[element.type] if element is not None else None
            if inner is None or not _narrows(inner):
                part[key] = value
            else:
                _put(part, key, [_summarised(spec, inner, child) for child in _listed(value)], value, element)
    return part


def _listed(value: Any) -> list[Any]:
    return value if type(value) is list else [value]


def _put(part: _Node, key: str, narrowed: list[_Node], value: Any, element: Element | None) -> None:
    """Keeps what is left of a value: FHIR has no empty objects, so that a mandatory one of which nothing is left stays whole."""
    left = [node for node in narrowed if node]
    if left:
        part[key] = left if type(value) is list else left[0]
    elif _stays(element, key):
        part[key] = value


def _narrows(definition: TypeDef) -> bool:
    """Whether the specification marks some elements of a type for summaries, and so leaves the others out."""
    if definition.kind in {"primitive", "resource"}:
        return False
    return any(element.summary for key, element in definition.elements.items() if key != "modifierExtension")


def _tree(definition: TypeDef, elements: tuple[str, ...]) -> _Wanted:
    """`name, contact.name` as nested names; a name that stands for a whole element has nothing below it."""
    tree: _Wanted = {}
    for path in elements:
        names = path.strip().removeprefix(definition.name + ".").split(".")
        level = tree
        for index, name in enumerate(names):
            bare = name.removesuffix("[x]")
            if index == len(names) - 1:
                level[bare] = {}
            elif level.get(bare) == {}:
                break
            else:
                level = level.setdefault(bare, {})
    return tree


def _selected(spec: Spec, definition: TypeDef, node: _Node, wanted: _Wanted) -> _Node:
    part: _Node = {}
    for key, value in node.items():
        element = _element(definition, key)
        below = wanted.get(key.removeprefix("_"))
        if below is None and element is not None:
            below = wanted.get(element.name)
        inner = spec.types[element.type] if element is not None else None
        if not below or inner is None or inner.kind == "primitive":
            if below is not None or _stays(element, key):
                part[key] = value
        else:
            _put(part, key, [_selected(spec, inner, child, below) for child in _listed(value)], value, element)
    return part
