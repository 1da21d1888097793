"""Which resources an address asks for: those of a type, of the whole system, or of a compartment.

https://hl7.org/fhir/R4/http.html#vsearch, https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fhir_server.outcome import Outcome
from fhir_server.spec import Spec

from .params.reference import Target
from .query import AnyOf, Criterion, Filter, Itself, Param

Params = Callable[[str], Mapping[str, Param]]
"""The parameters of a type that work."""


def members(spec: Spec, kind: str, resource_type: str | None) -> tuple[str, ...]:
    """The types that a compartment of this kind has: the one that is asked for, or all. Raises Outcome `not-found`."""
    if kind not in spec.compartments:
        listed = ", ".join(sorted(spec.compartments))
        raise Outcome("not-found", f"{kind} has no compartment; {listed} have", code="not-supported")
    within = {name: codes for name, codes in spec.compartments[kind].items() if codes or name == kind}
    if resource_type is None:
        return tuple(sorted(within))
    if resource_type not in within:
        raise Outcome("not-found", f"{resource_type} is not in the compartment of a {kind}", code="not-supported")
    return (resource_type,)


def inside(spec: Spec, params: Params, number: int, owner: tuple[str, str], types: Sequence[str]) -> Filter:
    """That a resource of these types is in the compartment of `owner`, a type, whose number this is, and an id."""
    kind, identity = owner
    links = [found[code] for name in types for found in [params(name)] for code in spec.compartments[kind].get(name, ()) if code in found]
    ways: list[Filter] = []
    if links:
        pid, *others = dict.fromkeys(pid for param in links for pid in param.towards((number,)))
        link = replace(links[0], pid=pid, others=tuple(others), elsewhere=(), parted=False)
        ways.append(Criterion(link, (Target(identity, number),)))
    if kind in types:
        ways.append(Itself(kind, identity))
    return ways[0] if len(ways) == 1 else AnyOf(tuple(ways))
