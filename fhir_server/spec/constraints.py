"""Profiles and extensions of the official package as facts: what each asks for beyond the type that it is about. A part of the build.

They stay StructureDefinitions, but for texts for people, and for what their base says of an element already.
"""

from __future__ import annotations

import re
from typing import Any, Final

_KEPT: Final = ("id", "path", "sliceName", "min", "max", "maxLength", "contentReference")
_ASKED: Final = re.compile("(?:fixed|pattern|minValue|maxValue)[A-Z]")
_CHECKED: Final = ("required", "extensible")
_ANY: Final = 40
"""An element of more types than these may be of any."""
_PLAIN: Final = 2
"""Members of an element of which nothing is said but its id and path."""

Json = dict[str, Any]


def profiles(resources: list[Json]) -> Json:
    """The definitions that constrain a type, by URL."""
    return {r["url"]: _profile(r) for r in resources if r["resourceType"] == "StructureDefinition" and r.get("derivation") == "constraint"}


def _profile(definition: Json) -> Json:
    view = "snapshot" if "snapshot" in definition else "differential"
    elements = definition[view]["element"]
    sliced = {e["id"].rpartition(":")[0] for e in elements if ":" in e["id"].rpartition(".")[2]}
    found = [_element(e, definition["url"], sliced) for e in elements]
    told = ("resourceType", "url", "version", "type", "context", *(("baseDefinition",) if view == "differential" else ()))
    said = [fact for fact in found if len(fact) > _PLAIN or "." not in fact["path"]]
    return {name: definition[name] for name in told if name in definition} | {view: {"element": said}}


def _element(element: Json, url: str, sliced: set[str]) -> Json:
    base = element.get("base", {})
    is_slice = ":" in element["id"].rpartition(".")[2]
    fact = {name: value for name, value in element.items() if name in _KEPT or _ASKED.match(name)}
    fact = {name: value for name, value in fact.items() if is_slice or name not in ("min", "max") or value != base.get(name)}
    rules = [
        {name: rule[name] for name in ("key", "severity", "expression") if name in rule}
        for rule in element.get("constraint", ())
        if rule.get("source", url) == url or _is_profile(rule["source"])
    ]
    binding = element.get("binding", {})
    if binding.get("strength") in _CHECKED and "valueSet" in binding:
        fact["binding"] = {name: binding[name] for name in ("strength", "valueSet")}
    if "slicing" in element and element["id"] in sliced:
        fact["slicing"] = {name: value for name, value in element["slicing"].items() if name != "description"}
    types = element.get("type", ())
    if len(types) < _ANY and (element["path"].endswith("[x]") or any("profile" in t or "targetProfile" in t for t in types)):
        fact["type"] = [{name: t[name] for name in ("code", "profile", "targetProfile") if name in t} for t in types]
    return fact | ({"constraint": rules} if rules else {})


def _is_profile(source: str) -> bool:
    """Whether a rule is from a profile that this one builds on: their names begin with a small letter, as those of primitives, which have none."""
    return source.rpartition("/")[2][:1].islower()
