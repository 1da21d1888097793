"""Rewrites the links between the entries of a transaction to the identities that their resources get.

https://hl7.org/fhir/R4/http.html#trules: references, canonicals, uris and narrative links; never plain strings, so an Identifier keeps its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

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

    def resolve(text: str) -> str | None:
        found = links.get(text)
        if found is not None:
            return found
        for mark in ("#", "|"):
            head, sign, tail = text.partition(mark)
            if sign and head in links:
                return links[head] + sign + tail
        return None

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


def _visit(node: dict[str, Any], type_name: str, resolve: Resolve, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH or node.get("resourceType") == "Bundle":
        return node
    plan = _plan(node.get("resourceType", type_name))
    changed: dict[str, Any] = {}
    for key, value in node.items():
        known = plan.get(key)
        if known is not None:
            new = _value(value, known, resolve, depth)
            if new is not value:
                changed[key] = new
    return {**node, **changed} if changed else node


def _value(value: Any, known: tuple[bool, str], resolve: Resolve, depth: int) -> Any:
    is_link, child = known
    if type(value) is str:
        if is_link:
            return resolve(value) or value
        if child == "xhtml" and ("href" in value or "src" in value):
            return _NARRATIVE.sub(lambda m: m[1] + m[2] + (resolve(m[3]) or m[3]) + m[2], value)
    elif type(value) is dict:
        return _visit(value, child, resolve, depth + 1)
    elif type(value) is list:
        new = [_value(item, known, resolve, depth) for item in value]
        if any(a is not b for a, b in zip(new, value, strict=True)):
            return new
    return value
