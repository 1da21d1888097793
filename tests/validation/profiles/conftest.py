from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_server import fhirjson
from fhir_server.spec import r4
from fhir_server.validation.profiles import Profiles

Json = dict[str, Any]
CORE = "http://hl7.org/fhir/StructureDefinition/"
URL = "https://ward.example/StructureDefinition/one"
VALUES: dict[str, frozenset[tuple[str, str]]] = {"urn:colours": frozenset({("urn:c", "red"), ("urn:c", "blue")})}


def profile(kind: str, *elements: Json, url: str = URL, **fields: Any) -> Json:
    """A profile with a snapshot of these elements."""
    root = {"id": kind, "path": kind, "min": 0, "max": "*"}
    return {"resourceType": "StructureDefinition", "url": url, "type": kind, "snapshot": {"element": [root, *elements]}, **fields}


def differential(kind: str, *elements: Json, base: str, url: str = URL) -> Json:
    return {"resourceType": "StructureDefinition", "url": url, "type": kind, "baseDefinition": base, "differential": {"element": list(elements)}}


def element(identity: str, least: int = 0, most: str = "*", **fields: Any) -> Json:
    """An element of a snapshot; what follows a colon in its id is its slice."""
    path = ".".join(part.partition(":")[0] for part in identity.split("."))
    sliced = identity.rpartition(".")[2].partition(":")[2]
    return {"id": identity, "path": path, "min": least, "max": most, **({"sliceName": sliced} if sliced else {}), **fields}


def slicing(identity: str, *discriminators: tuple[str, str], rules: str = "open", ordered: bool = False, **fields: Any) -> Json:
    """An element that is sliced."""
    by = [{"type": kind, "path": path} for kind, path in discriminators]
    return element(identity, slicing={"discriminator": by, "rules": rules, "ordered": ordered}, **fields)


def member(value_set: str, system: str | None, code: str) -> bool | str:
    """What a test has of terminology."""
    if value_set not in VALUES:
        return "nobody knows it"
    return any(code == known and system in (None, where) for where, known in VALUES[value_set])


Told = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture
def told() -> Told:
    """Severity, code and place of each issue of a resource by a profile, with others that it may name."""

    def check(wanted: Json, resource: Json, *others: Json, outer: Json | None = None, place: str = "") -> list[tuple[str, str, str]]:
        known = {each["url"]: fhirjson.dumps(each) for each in (wanted, *others)}
        issues = Profiles(r4(), known.get, member).check(wanted, resource, place, outer)
        return [(issue.severity, issue.code, "".join(issue.expression)) for issue in issues]

    return check
