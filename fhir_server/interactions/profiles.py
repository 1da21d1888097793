"""The profiles that a caller sees, the stored ones before those of R4, and what resources claim to meet.

https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/resource.html#profile-tags
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from fhir_server.outcome import Issue, Outcome
from fhir_server.search import SYSTEM, Grant, compile_search
from fhir_server.spec import profiles as shipped
from fhir_server.store import Snapshot
from fhir_server.store.ops import Create, Op, Patch, Put
from fhir_server.validation.profiles import Profiles

from .engine import Engine
from .terminology import escaped, terminology

_BASE: Final = "http://hl7.org/fhir/StructureDefinition/"
_MOST: Final = 2_000
"""Issues of a request, after which no further resource is looked at."""
_UNSEEN: Final = Issue("error", "invalid", "What the patch makes does not meet a profile that it claims; only who may read it is told why")

Json = dict[str, Any]


def profiles_of(engine: Engine, db: Snapshot, grant: Grant) -> Profiles:
    """The profiles of one request, over what the snapshot shows to the grant. One statement for each definition that is met."""

    def find(canonical: str) -> bytes | None:
        """The definition of `url` or `url|version`: of several the one written last."""
        url, _, version = canonical.partition("|")
        if grant.allows("StructureDefinition", "r") and grant.allows("StructureDefinition", "s"):
            asked = [(code, escaped(text)) for code, text in (("url", url), ("version", version)) if text]
            query = engine.registry.parse("StructureDefinition", [*asked, ("_sort", "-_lastUpdated"), ("_count", "1")], strict=True)
            rows = db.select(compile_search(query, engine.registry, grant))
            if rows:
                return db.body_of(rows[0])
        return bytes(shipped()[url]) if url in shipped() and version in ("", engine.spec.version) else None

    return Profiles(engine.spec, find, terminology(engine, db, grant).member)


def claimed(profiles: Profiles, resource: Json) -> list[Issue]:
    """The faults of a resource by the profiles that it, and the resources in it, say they meet; a warning for each profile that is not here.

    A warning `too-costly` is the last where there are too many of them, or the checks take too long: what comes after it is not looked at.
    """
    found: list[Issue] = []
    for path, each, claim in _claims(resource):
        if len(found) >= _MOST:
            return [*found, Issue("warning", "too-costly", f"There are {_MOST} issues; what comes after them is not looked at", (path,))]
        found += _faults(profiles, claim, path, each, resource)
        if found and found[-1].code == "too-costly":
            break
    return found


def held(engine: Engine, ops: Sequence[tuple[str, Op]], grant: Grant) -> Callable[[Snapshot], None] | None:
    """What looks before the commit at whether the resources of writes meet the profiles that they claim; None where that is not asked for.

    Each write has its place in a Bundle, or none. A profile is looked for with all rights: what is valid is the same for every writer.
    Raises, when called, Outcome `invalid` with all errors, `too-costly` where not all could be looked at.
    """
    if engine.settings is None or engine.settings.profile_check == "off":
        return None
    written: dict[str, Json] = {}
    unseen = set[str]()
    for place, op in ops:
        if isinstance(op, Patch):
            op.apply = _watched(op.apply, written, place)
            if not (grant.allows(op.type, "r") or grant.allows(op.type, "s")):
                unseen.add(place)
        elif isinstance(op, (Create, Put)) and next(_claims(op.resource), None) is not None:
            written[place] = op.resource
    if not written and not any(isinstance(op, Patch) for _, op in ops):
        return None

    def look(db: Snapshot) -> None:
        profiles = profiles_of(engine, db, SYSTEM)
        errors: list[Issue] = []
        for place, resource in written.items():
            found = [_placed(issue, place) for issue in claimed(profiles, resource) if issue.severity == "error" or issue.code == "too-costly"]
            # Faults repeat values, which a patch may have found there.
            errors += [_UNSEEN] if found and place in unseen else found
        if errors:
            raise Outcome("too-costly" if any(issue.code == "too-costly" for issue in errors) else "invalid", issues=errors)

    return look


def _watched(apply: Callable[[Json], Json], written: dict[str, Json], place: str) -> Callable[[Json], Json]:
    def watched(resource: Json) -> Json:
        written[place] = apply(resource)
        return written[place]

    return watched


def _placed(issue: Issue, place: str) -> Issue:
    if not place:
        return issue
    return replace(issue, expression=tuple(f"{place}.resource.{path.partition('.')[2]}".rstrip(".") for path in issue.expression))


def _faults(profiles: Profiles, claim: str, path: str, resource: Json, outer: Json) -> list[Issue]:
    if not profiles.knows(claim):
        return [Issue("warning", "not-supported", f"The profile '{claim[:200]}' is not at hand to validate by", (f"{path}.meta.profile",))]
    return profiles.check(claim, resource, path, outer)


def _claims(resource: Json) -> Iterator[tuple[str, Json, str]]:
    """Where a resource stands, itself, and a profile that it says it meets: of the outermost one, and those contained or in a Bundle."""
    for path, each in _resources(resource, str(resource["resourceType"])):
        meta = each.get("meta")
        claims = meta.get("profile") if isinstance(meta, dict) else None
        for claim in dict.fromkeys(claim for claim in claims if isinstance(claim, str)) if isinstance(claims, list) else ():
            if claim.partition("|")[0] != f"{_BASE}{each['resourceType']}":
                yield path, each, claim


def _resources(resource: Json, path: str) -> Iterator[tuple[str, Json]]:
    """A resource and those in it, with their paths."""
    yield path, resource
    for name, inner in (("contained", None), ("entry", "resource"), ("parameter", "resource")):
        items = resource.get(name)
        for number, item in enumerate(items if isinstance(items, list) else ()):
            each = item.get(inner) if isinstance(item, dict) and inner is not None else item
            if isinstance(each, dict) and "resourceType" in each:
                below = f"{path}.{name}[{number}]"
                yield from _resources(each, f"{below}.{inner}" if inner is not None else below)
