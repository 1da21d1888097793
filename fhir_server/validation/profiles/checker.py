"""Resources by profiles: the face of this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_server.fhirpath import FhirPathError
from fhir_server.outcome import Issue
from fhir_server.spec import Spec

from . import codes
from .items import Item
from .references import References
from .sources import Find, Sources
from .walk import MAX_ISSUES, Walk


class Profiles:
    """The profiles that a request sees, and what its checks may cost together."""

    def __init__(self, spec: Spec, find: Find, member: codes.Member) -> None:
        """Takes what finds definitions and what knows value sets."""
        self._spec = spec
        self._sources = Sources(spec, find, member)
        self._references: tuple[dict[str, Any], References] | None = None

    def knows(self, canonical: str) -> bool:
        """Whether a profile is here, with all that it builds on. Of one that there are no steps left to read `check` says so."""
        try:
            return self._sources.definition(canonical) is not None
        except FhirPathError:
            return True

    def check(self, profile: str | Mapping[str, Any], resource: dict[str, Any], place: str = "", outer: dict[str, Any] | None = None) -> list[Issue]:
        """The faults of a resource by a profile, named by its canonical URL or given as a StructureDefinition.

        What the specification asks for anyway is not told again. Issues of the severity `information` say what cannot be told here. `place` is
        where the resource is in `outer`, a Bundle perhaps. Costs some 1 ms for a resource and profile that were met before.
        """
        name = profile if isinstance(profile, str) else str(profile.get("url", ""))
        try:
            given = self._sources.definition(profile) if isinstance(profile, str) else self._sources.given(profile)
        except FhirPathError:
            return [Issue("warning", "too-costly", f"The profile '{name[:200]}' is not checked: reading it takes too many steps", (place,))]
        if given is None:
            return [Issue("error", "not-supported", f"The profile '{name[:200]}', or what it builds on, is not here to validate by")]
        walk = Walk(self._sources, self._within(outer or resource), given.url)
        item = self._sources.reader.root(resource, place or str(resource.get("resourceType", "")))
        try:
            walk.held(given, item)
        except (FhirPathError, RecursionError):
            walk.issues[MAX_ISSUES - 1 :] = []
            walk.tell("warning", "too-costly", "the check ends here: it takes too many steps, or leads too deep", item.path)
        return walk.issues

    def extensions(self, resource: dict[str, Any]) -> list[Issue]:
        """The faults of all extensions in a resource, and in those in it, by their definitions, as far as these are here."""
        walk = Walk(self._sources, self._within(resource), "")
        root = self._sources.reader.root(resource, str(resource.get("resourceType", "")))
        rest: list[tuple[Item, Item | None]] = [(root, None)]
        try:
            while rest and len(walk.issues) < MAX_ISSUES:
                item, parent = rest.pop()
                children = self._sources.reader.every(item)
                walk.spend(1 + len(children))
                for child in children:
                    if child.type == "Extension":
                        walk.extension(child, item, frozenset(self._names(item, parent)))
                rest += [(child, item) for child in reversed(children)]
        except (FhirPathError, RecursionError):
            walk.issues[MAX_ISSUES - 1 :] = []
            walk.tell("warning", "too-costly", "extensions are not checked to the end: that takes too many steps", root.path)
        return walk.issues

    def _within(self, outer: dict[str, Any]) -> References:
        """Where references lead in a resource, kept for the next in the same Bundle."""
        if self._references is None or self._references[0] is not outer:
            self._references = (outer, References(self._spec, self._sources.reader, outer))
        return self._references[1]

    def _names(self, item: Item, parent: Item | None) -> Iterator[str]:
        """What definitions call an element: its types, and its name in the types that have it."""
        yield from self._ancestors(item.type)
        name = item.path.rpartition(".")[2].partition("[")[0]
        for each in self._ancestors(parent.type) if parent is not None else ():
            yield f"{each}.{name}"
            yield f"{each}.{name}[x]"

    def _ancestors(self, name: str) -> Iterator[str]:
        """A type and those that it specialises."""
        found = self._spec.types.get(name)
        while found is not None:
            yield found.name
            found = self._spec.types.get(found.base) if found.base is not None else None
