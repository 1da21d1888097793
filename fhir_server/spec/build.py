"""Compiles the official `hl7.fhir.r4.core` 4.0.1 package into the facts that ship with the project.

    python -m fhir_server.spec.build hl7.fhir.r4.core-4.0.1.tgz

Facts only: paths, types, cardinalities, bindings, invariants, search parameters, compartments, codes and displays; no prose.
What every request needs is in one file; code systems and value sets as a whole are in another, profiles and extensions in a third: these are read
once somebody asks for them.
The output is byte for byte the same for the same package, so that a rebuild shows no difference.
"""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .constraints import profiles

DATA = Path(__file__).parent / "data" / "r4.json.gz"
TERMINOLOGY = DATA.with_name("terminology.json.gz")
PROFILES = DATA.with_name("profiles.json.gz")
FHIR = "http://hl7.org/fhir/"
_STRUCTURE = FHIR + "StructureDefinition/"
_FHIR_TYPE = _STRUCTURE + "structuredefinition-fhir-type"
_REGEX = _STRUCTURE + "regex"
_KINDS = {"resource": "resource", "complex-type": "datatype", "primitive-type": "primitive"}

Json = dict[str, Any]


def main(package: str) -> None:
    """Reads the package and writes the data files; prints what they hold."""
    resources = list(_read(Path(package)))
    definitions = [r for r in resources if r["resourceType"] == "StructureDefinition" and _is_base(r)]
    types = [fact for definition in sorted(definitions, key=lambda d: d["name"]) for fact in _type_facts(definition)]
    value_sets, displays = _codes(resources, _bound_value_sets(types))
    facts = {
        "version": "4.0.1",
        "types": types,
        "params": _search_parameters(resources),
        "compartments": _compartments(resources),
        "valueSets": value_sets,
        "displays": displays,
    }
    _write(DATA, facts)
    _write(TERMINOLOGY, _terminology(resources))
    _write(PROFILES, profiles(resources))


def _write(path: Path, facts: Json) -> None:
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{path.name}: {path.stat().st_size} bytes, {len(facts)} entries")


def _read(package: Path) -> Iterator[Json]:
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name.startswith("package/") and member.name.endswith(".json") and member.name.count("/") == 1:
                stream = archive.extractfile(member)
                resource = json.load(stream) if stream else {}
                if "resourceType" in resource:
                    yield resource


def _is_base(definition: Json) -> bool:
    return definition["kind"] in _KINDS and definition.get("derivation") != "constraint"


def _type_facts(definition: Json) -> Iterator[Json]:
    name, url = definition["name"], definition["url"]
    root, *rest = definition["snapshot"]["element"]
    backbones = {e["path"] for e in rest if _is_backbone(e)}
    fact = {
        "name": name,
        "kind": _KINDS[definition["kind"]],
        "base": definition.get("baseDefinition", "").removeprefix(_STRUCTURE) or None,
        "abstract": definition["abstract"],
        "elements": [_element(e, url) for e in rest if e["path"].count(".") == 1],
        "constraints": _constraints(root, None),
    }
    if fact["kind"] == "primitive":
        fact["regex"] = next((x["valueString"] for e in rest for t in e.get("type", ()) for x in t.get("extension", ()) if x["url"] == _REGEX), None)
        fact["elements"] = [e for e in fact["elements"] if e["name"] != "value"]
    if fact["kind"] == "resource":
        # The snapshots type Resource.id as string; the datatypes page gives it the regular expression of id.
        next(e for e in fact["elements"] if e["name"] == "id")["types"] = [["id", []]]
    yield fact
    for path in sorted(backbones):
        head = next(e for e in rest if e["path"] == path)
        yield {
            "name": path,
            "kind": "backbone",
            "base": head["type"][0]["code"],
            "abstract": False,
            "elements": [_element(e, url) for e in rest if e["path"].rpartition(".")[0] == path],
            "constraints": _constraints(head, url),
        }


def _is_backbone(element: Json) -> bool:
    return any(t["code"] in {"BackboneElement", "Element"} for t in element.get("type", ()))


def _element(element: Json, url: str) -> Json:
    path: str = element["path"]
    backbone = _is_backbone(element)
    fact: Json = {
        "name": path.rpartition(".")[2].removesuffix("[x]"),
        "min": element["min"],
        "max": None if element["max"] == "*" else int(element["max"]),
    }
    if "contentReference" in element:
        fact["types"] = [[element["contentReference"].removeprefix("#"), []]]
    else:
        fact["types"] = [_type(t, path) for t in element["type"]]
    if path.endswith("[x]"):
        fact["choice"] = True
    if element.get("isSummary"):
        fact["summary"] = True
    if element.get("isModifier"):
        fact["modifier"] = True
    if "xmlAttr" in element.get("representation", ()):
        fact["attribute"] = True
    binding = element.get("binding", {})
    if "valueSet" in binding:
        fact["binding"] = [binding["strength"], binding["valueSet"].partition("|")[0]]
    if not backbone and (constraints := _constraints(element, url)):
        fact["constraints"] = constraints
    return fact


def _type(entry: Json, path: str) -> list[Any]:
    code: str = entry["code"]
    if code in {"BackboneElement", "Element"}:
        return [path, []]
    if code.startswith("http://hl7.org/fhirpath/"):
        code = next((x["valueUrl"] for x in entry.get("extension", ()) if x["url"] == _FHIR_TYPE), code.rpartition(".")[2].lower())
    return [code, sorted(p.removeprefix(_STRUCTURE) for p in entry.get("targetProfile", ()) if p != _STRUCTURE + "Resource")]


def _constraints(element: Json, url: str | None) -> list[list[str]]:
    # ele-1 is structural (JSON objects and arrays are never empty); what a snapshot repeats from the element's type is kept with the type.
    return [
        [c["key"], c["severity"], c["expression"]]
        for c in element.get("constraint", ())
        if c["key"] != "ele-1" and "expression" in c and (url is None or c.get("source", url) == url)
    ]


def _search_parameters(resources: list[Json]) -> list[Json]:
    found = []
    for r in resources:
        # Parameters for extensions and the specification's own examples are in the package but not in its list of parameters.
        if r["resourceType"] != "SearchParameter" or "-extensions-" in r["id"] or r["id"].startswith("example"):
            continue
        fact = {"url": r["url"], "code": r["code"], "type": r["type"], "base": r["base"], "expression": r.get("expression")}
        if "target" in r:
            fact["targets"] = r["target"]
        if "component" in r:
            fact["components"] = [[c["definition"], c["expression"]] for c in r["component"]]
        found.append(fact)
    return sorted(found, key=lambda p: str(p["url"]))


def _compartments(resources: list[Json]) -> Json:
    return {
        r["code"]: {entry["code"]: entry["param"] for entry in r["resource"] if "param" in entry}
        for r in resources
        if r["resourceType"] == "CompartmentDefinition" and r["url"].startswith(FHIR) and "example" not in r["id"]
    }


def _bound_value_sets(types: list[Json]) -> set[str]:
    return {e["binding"][1] for t in types for e in t["elements"] if e.get("binding", ("",))[0] == "required"}


def _codes(resources: list[Json], wanted: set[str]) -> tuple[Json, Json]:
    systems = {r["url"]: r for r in resources if r["resourceType"] == "CodeSystem"}
    sets = {r["url"]: r for r in resources if r["resourceType"] == "ValueSet"}
    value_sets: Json = {}
    displays: Json = {}
    for url in sorted(wanted):
        codes = _expand(url, sets, systems)
        if codes is None:
            continue
        value_sets[url] = {system: sorted(found) for system, found in sorted(codes.items())}
        for system in codes:
            if system in systems:
                displays[system] = {c["code"]: c["display"] for c in _concepts(systems[system].get("concept", [])) if "display" in c}
    return value_sets, displays


def _expand(url: str, sets: dict[str, Json], systems: dict[str, Json]) -> dict[str, set[str]] | None:
    """Codes by system, or None if any part cannot be listed from the package (filters other than is-a, systems kept elsewhere)."""
    compose = sets.get(url, {}).get("compose")
    if compose is None:
        return None
    total: dict[str, set[str]] = {}
    for include in compose["include"]:
        part = _include(include, sets, systems)
        if part is None:
            return None
        for system, codes in part.items():
            total.setdefault(system, set()).update(codes)
    for exclude in compose.get("exclude", ()):
        for system, codes in (_include(exclude, sets, systems) or {}).items():
            total.get(system, set()).difference_update(codes)
    return total


def _include(include: Json, sets: dict[str, Json], systems: dict[str, Json]) -> dict[str, set[str]] | None:
    parts: list[dict[str, set[str]]] = []
    for value_set in include.get("valueSet", ()):
        part = _expand(value_set.partition("|")[0], sets, systems)
        if part is None:
            return None
        parts.append(part)
    if "system" in include:
        own = _from_system(include, systems)
        if own is None:
            return None
        parts.append({include["system"]: own})
    if not parts:
        return None
    result = parts[0]
    for part in parts[1:]:
        result = {system: codes & part[system] for system, codes in result.items() if system in part}
    return result


def _from_system(include: Json, systems: dict[str, Json]) -> set[str] | None:
    if "concept" in include:
        return {c["code"] for c in include["concept"]}
    system = systems.get(include["system"])
    if system is None or system.get("content") != "complete" or "concept" not in system:
        return None
    codes = {c["code"] for c in _concepts(system["concept"])}
    for rule in include.get("filter", ()):
        kept = _filter(rule, system)
        if kept is None:
            return None
        codes &= kept
    return codes


def _filter(rule: Json, system: Json) -> set[str] | None:
    if rule["op"] not in {"is-a", "descendent-of", "is-not-a"} or rule["property"] != "concept":
        return None
    everything = list(_concepts(system["concept"]))
    below = {rule["value"]}
    parents = {c["code"]: {p["valueCode"] for p in c.get("property", ()) if p["code"] == "subsumedBy"} | {c["_parent"]} for c in everything}
    grew = True
    while grew:
        more = {code for code, above in parents.items() if above & below} - below
        below |= more
        grew = bool(more)
    if rule["op"] == "is-not-a":
        return set(parents) - below
    return below - ({rule["value"]} if rule["op"] == "descendent-of" else set())


def _concepts(concepts: list[Json], parent: str | None = None) -> Iterator[Json]:
    for concept in concepts:
        yield {**concept, "_parent": parent}
        yield from _concepts(concept.get("concept", []), concept["code"])


def _terminology(resources: list[Json]) -> Json:
    """Code systems that are here with all their codes, and value sets, as FHIR writes them but without texts for people other than displays."""
    facts: Json = {"codeSystems": {}, "valueSets": {}}
    for r in resources:
        if r["resourceType"] == "CodeSystem" and r["content"] == "complete" and "concept" in r:
            fact = _only(r, "resourceType", "url", "version", "name", "content", "caseSensitive", "hierarchyMeaning")
            if "property" in r:
                fact["property"] = [_only(p, "code", "uri", "type") for p in r["property"]]
            facts["codeSystems"][r["url"]] = fact | {"concept": [_concept(c) for c in r["concept"]]}
        elif r["resourceType"] == "ValueSet":
            compose = _only(r["compose"], "inactive")
            compose |= {kind: [_part(part) for part in r["compose"][kind]] for kind in ("include", "exclude") if kind in r["compose"]}
            facts["valueSets"][r["url"]] = _only(r, "resourceType", "url", "version", "name") | {"compose": compose}
    return facts


def _concept(concept: Json) -> Json:
    fact = _only(concept, "code", "display", "property")
    if "concept" in concept:
        fact["concept"] = [_concept(c) for c in concept["concept"]]
    return fact


def _part(part: Json) -> Json:
    fact = _only(part, "system", "version", "valueSet")
    if "concept" in part:
        fact["concept"] = [_only(c, "code", "display") for c in part["concept"]]
    if "filter" in part:
        fact["filter"] = [_only(f, "property", "op", "value") for f in part["filter"]]
    return fact


def _only(fact: Json, *names: str) -> Json:
    return {name: fact[name] for name in names if name in fact}


if __name__ == "__main__":
    main(sys.argv[1])
