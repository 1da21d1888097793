"""Rewrites the links between the entries of a transaction to the identities that their resources get.

https://hl7.org/fhir/R4/http.html#trules: references, canonicals, uris and narrative links; never plain strings, so an Identifier keeps its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from fhir_server.search import Registry
from fhir_server.search.params.reference import ABSOLUTE, locate
from fhir_server.spec import r4

_LINKS: Final = frozenset({"uri", "url", "canonical", "oid", "uuid"})
_NARRATIVE: Final = re.compile(r"""((?:href|src)\s*=\s*)(["'])(.*?)\2""", re.DOTALL)
_CONDITIONAL: Final = re.compile(r"[A-Z][A-Za-z]+\?[^/?#\s]+=")
_MAX_DEPTH: Final = 500

Resolve = Callable[[str], str | None]


def relink(resource: dict[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """The resource with every link that is a key of `links` replaced, `#fragment` and `|version` behind it kept.

    What is handed in stays as it was (a retried transaction starts from it again); what needs no change is shared, not copied. The entries of a
    Bundle that is stored as such, a document for one, are a world of their own and stay, too.
    """
    if not links:
        return resource

    find = links.get

    def resolve(text: str) -> str | None:
        found = find(text)
        if found is None and ("#" in text or "|" in text):
            for mark in ("#", "|"):
                head, sign, tail = text.partition(mark)
                if sign and head in links:
                    return links[head] + sign + tail
        return found

    return _visit(resource, resource["resourceType"], resolve, 0)


def conditional_references(resource: dict[str, Any]) -> list[str]:
    """Every reference of the form `Type?query` in a resource, once each."""
    found: dict[str, None] = {}

    def collect(text: str) -> str | None:
        if "?" in text and _CONDITIONAL.match(text):
            found[text] = None
        return None

    _visit(resource, resource["resourceType"], collect, 0)
    return list(found)


@cache
def _plan(type_name: str) -> dict[str, tuple[bool, str]]:
    """For each property that may hold links: whether it is one, and its type. Leaves that cannot hold links are left out."""
    plan: dict[str, tuple[bool, str]] = {}
    definition = r4().types.get(type_name)
    for element in definition.elements.values() if definition else ():
        kind = r4().types[element.type].kind
        if element.type in _LINKS or (type_name == "Reference" and element.name == "reference"):
            plan[element.key] = (True, element.type)
        elif element.type == "xhtml" or kind != "primitive":
            plan[element.key] = (False, element.type)
        if kind == "primitive":
            plan["_" + element.key] = (False, "Element")
    return plan


def _visit(node: dict[str, Any], type_name: str, resolve: Resolve, depth: int) -> dict[str, Any]:  # noqa: C901 - see below
    # A fifth of a load went into these two; so what needs no call of its own has none.
    if depth > _MAX_DEPTH or node.get("resourceType") == "Bundle":
        return node
    find = _plan(node.get("resourceType", type_name)).get
    changed: dict[str, Any] = {}
    for key, value in node.items():
        known = find(key)
        if known is None:
            continue
        is_link, child = known
        kind = type(value)
        if kind is str:
            if is_link:
                new: Any = resolve(value)
                if new is not None:
                    changed[key] = new
            elif child == "xhtml" and ("href" in value or "src" in value):
                changed[key] = _NARRATIVE.sub(lambda m: m[1] + m[2] + (resolve(m[3]) or m[3]) + m[2], value)
        elif kind is dict:
            new = _visit(value, child, resolve, depth + 1)
            if new is not value:
                changed[key] = new
        elif kind is list:
            new = _items(value, child, resolve, depth, is_link=is_link)
            if new is not value:
                changed[key] = new
    return {**node, **changed} if changed else node


def _items(values: list[Any], child: str, resolve: Resolve, depth: int, *, is_link: bool) -> list[Any]:
    changed: dict[int, Any] = {}
    for number, value in enumerate(values):
        kind = type(value)
        new: Any = None
        if kind is dict:
            new = _visit(value, child, resolve, depth + 1)
        elif kind is str and is_link:
            new = resolve(value)
        if new is not None and new is not value:
            changed[number] = new
    return [changed.get(number, value) for number, value in enumerate(values)] if changed else values


def local(reference: Any, registry: Registry, wanted: str) -> str | None:
    """The id of the resource of a type here that a Reference leads to; None where it leads elsewhere."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    found = locate(text, registry.context) if isinstance(text, str) and text and not text.startswith("#") else None
    if found is None or found[1] == ABSOLUTE or registry.type_name(found[1]) != wanted:
        return None
    return found[0]
