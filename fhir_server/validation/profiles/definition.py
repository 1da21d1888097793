"""A StructureDefinition as a tree of elements, each with its slices.

https://hl7.org/fhir/R4/elementdefinition.html. A profile that has a differential alone is laid over the tree of its base.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fhir_server import fhirjson, fhirpath
from fhir_server.spec import Spec

CORE: Final = "http://hl7.org/fhir/StructureDefinition/"
_MAX_SET: Final = f"{CORE}elementdefinition-maxValueSet"
_KEPT: Final = ("min", "max", "type", "binding", "constraint", "slicing", "maxLength", "contentReference")
_VERSION: Final = "|4.0.1"
"""What need not be said of the specification's own types."""
_ASKED: Final = re.compile("(?:fixed|pattern|minValue|maxValue)[A-Z]")
_DISCRIMINATORS: Final = {"extension": (("value", "url"),), "modifierExtension": (("value", "url"),)}
"""By what is sliced where a differential need not say it."""
_LONGEST: Final = 500
_MOST_KEPT: Final = 32 * 1024 * 1024
"""Bytes of definitions that a process keeps the trees of. Those of US Core have 100 kB on average; a tree takes about as much."""
_DEEPEST: Final = 50
_RESLICED: Final = 5
"""Slices of slices."""

Json = Mapping[str, Any]


class Type(NamedTuple):
    """A type that an element may have, with the profiles it may be of, and those of what a reference points to."""

    code: str
    profiles: tuple[str, ...]
    targets: tuple[str, ...]


class Slicing(NamedTuple):
    """How slices are told apart: pairs of a kind and a path. `rules` are `open`, `closed` or `openAtEnd`."""

    discriminators: tuple[tuple[str, str], ...]
    rules: str
    ordered: bool


class Rule(NamedTuple):
    """An invariant; `source` is the URL of the definition that it comes from, empty for the one it is in."""

    key: str
    source: str
    severity: str
    human: str
    expression: str


@dataclass(slots=True)
class Node:
    """An element, or the items of one that are in a slice. `least` and `most` are how often it stands; `most` is None for `*`.

    `id` is that of its ElementDefinition: `Observation.component:systolic.code`.
    `facts` are the members of its ElementDefinition that say something here; the other fields are read from these.
    """

    name: str
    id: str
    facts: dict[str, Any]
    children: dict[str, Node] = field(default_factory=dict)
    slices: dict[str, Node] = field(default_factory=dict)
    slice: str = ""
    least: int = 0
    most: int | None = None
    types: tuple[Type, ...] = ()
    fixed: Any = None
    pattern: Any = None
    limits: tuple[tuple[str, Any], ...] = ()
    bindings: tuple[tuple[str, str], ...] = ()
    rules: tuple[Rule, ...] = ()
    slicing: Slicing | None = None
    weight: int = 0
    """How many conditions there are to look at besides its children."""
    depth_of_asked: int = _DEEPEST
    """Levels down to the nearest element whose value is prescribed: 0 for one whose own is."""
    _compiled: dict[tuple[str, str], fhirpath.Expression | str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The name as FHIRPath has it: `value` for `value[x]`."""
        return self.name.removesuffix("[x]")

    @property
    def asked(self) -> bool:
        """Whether the value itself is prescribed."""
        return self.fixed is not None or self.pattern is not None

    def expression(self, text: str, spec: Spec, context: str) -> fhirpath.Expression | str:
        """An invariant ready to run over the type, or why it is none."""
        key = (text, context)
        if key not in self._compiled:
            try:
                self._compiled[key] = fhirpath.compile(text, spec, context if context in spec.types else "Resource", cached=False)
            except fhirpath.FhirPathError as error:
                self._compiled[key] = error.message
        return self._compiled[key]

    def like(self, root: Node) -> Node:
        """The element of the same profile that this one is like, itself for one that is like none. What the specification alone says is none."""
        reference = str(self.facts.get("contentReference", ""))
        found: Node | None = root if reference.startswith("#") else None
        for step in reference.split(".")[1:_DEEPEST]:
            found = found.child(step) if found is not None else None
        return found or self

    def child(self, name: str) -> Node | None:
        """The child of a name, with or without the mark of a choice."""
        return self.children.get(name) or self.children.get(f"{name}[x]")


@dataclass(frozen=True, slots=True)
class Definition:
    """A profile: `root` is the element that is the resource or datatype itself; `base` is the profile to lay it over, empty where it is whole.

    `contexts` are where an extension may stand: pairs of `element`, `extension` or `fhirpath` and what that names.
    """

    url: str
    type: str
    base: str
    root: Node
    contexts: tuple[tuple[str, str], ...] = ()


def read(body: bytes) -> Definition | None:
    """The definition of a stored StructureDefinition; None for one without elements. What was read before is kept, by what it says."""
    key = hashlib.sha256(body).digest()
    found = _kept.get(key)
    if found is None:
        found = (len(body), definition(fhirjson.loads(body)))
        # Other threads read and clear as well: what was found is never looked for again.
        if len(body) + sum(size for size, _ in list(_kept.values())) > _MOST_KEPT:
            _kept.clear()
        _kept[key] = found
    return found[1]


def definition(resource: Json) -> Definition | None:
    """The definition of a valid StructureDefinition; None for one without elements."""
    snapshot = resource.get("snapshot", {}).get("element", [])
    elements = snapshot or resource.get("differential", {}).get("element", [])
    if not elements:
        return None
    base = "" if snapshot else "".join(_texts((resource.get("baseDefinition"),)))
    kind = str(resource.get("type", ""))
    contexts = tuple((each.get("type", ""), each.get("expression", "")) for each in resource.get("context", ()))
    return Definition(str(resource.get("url", ""))[:_LONGEST], kind, base, _tree(elements, kind), contexts)


def specified(spec: Spec, kind: str) -> Node:
    """The elements of a type of the specification that have a value set, which profiles inherit and may hold codes to more strictly."""
    root = Node("", kind, {"type": [{"code": kind}]})
    rest = [(root, kind)]
    while rest:
        node, name = rest.pop()
        for element in spec.types[name].elements.values():
            step = f"{element.name}[x]" if element.choice else element.name
            facts: dict[str, Any] = {}
            if element.binding is not None:
                facts = {"binding": {"strength": element.binding.strength, "valueSet": element.binding.value_set}}
            below = element.type == f"{name}.{element.name}"
            if facts or below:
                child = node.children.setdefault(step, Node(step, f"{node.id}.{step}", facts))
                rest += [(child, element.type)] if below else []
    _read_all(root)
    return root


def laid_over(base: Node, other: Node) -> Node:
    """What an element of a base becomes by a differential: what that says goes before, invariants are added."""
    facts = {**base.facts, **other.facts}
    facts["binding"] = {**base.facts.get("binding", {}), **other.facts.get("binding", {})}
    facts["constraint"] = [*base.facts.get("constraint", ()), *other.facts.get("constraint", ())]
    node = Node(base.name, base.id, facts, slice=base.slice)
    for mine, one, two in ((node.children, base.children, other.children), (node.slices, base.slices, other.slices)):
        for name in dict.fromkeys([*one, *two]):
            mine[name] = laid_over(one[name], two[name]) if name in one and name in two else one.get(name) or two[name]
    _read(node)
    return node


_kept: dict[bytes, tuple[int, Definition | None]] = {}


def _tree(elements: Iterable[Json], kind: str) -> Node:
    root = Node("", kind, {"type": [{"code": kind}]})
    last: dict[str, str] = {}
    for number, element in enumerate(elements):
        path = element.get("path")
        if path is None:
            continue
        identity = _identity(element, path, last)
        last[path] = identity
        node = root if number == 0 and "." not in path else _at(root, identity)
        node.facts |= {key: value for key, value in element.items() if key in _KEPT or _ASKED.match(key)}
    _read_all(root)
    return root


def _identity(element: Json, path: str, last: Mapping[str, str]) -> str:
    """The element's id, which tells in which slices it is; worked out from those before it where it has none that fits its path."""
    given = element.get("id", "")
    if isinstance(given, str) and ".".join(part.partition(":")[0] for part in given.split(".")) == path:
        return given
    parent, _, name = path.rpartition(".")
    name = f"{name}:{element['sliceName']}" if "sliceName" in element else name
    return f"{last.get(parent, parent)}.{name}" if parent else name


def _at(root: Node, identity: str) -> Node:
    """The node of an element's id, made where it is not there. The slice `a/b` is one of the slice `a`."""
    node = root
    for step in identity.split(".")[1:_DEEPEST]:
        name, _, sliced = step.partition(":")
        node = node.children.setdefault(name, Node(name, f"{node.id}.{name}", {}))
        whole = node.id
        parts = sliced.split("/", _RESLICED - 1) if sliced else []
        for n in range(len(parts)):
            known = "/".join(parts[: n + 1])
            node = node.slices.setdefault(known, Node(name, f"{whole}:{known}", {}, slice=known))
    return node


def nodes(root: Node) -> list[Node]:
    """All elements of a tree, each before those below it."""
    found = [root]
    for each in found:
        found += each.children.values()
        found += each.slices.values()
    return found


def _read_all(root: Node) -> None:
    for each in reversed(nodes(root)):
        _read(each)


def _read(node: Node) -> None:
    facts = node.facts
    most = str(facts.get("max", "*"))
    node.least = int(facts.get("min", 0))
    node.most = int(most[:9]) if most.isdecimal() else None
    node.types = tuple(Type(t.get("code", ""), _texts(t.get("profile")), _texts(t.get("targetProfile"))) for t in facts.get("type", ()))
    for key, value in facts.items():
        if key.startswith("fixed"):
            node.fixed = value
        elif key.startswith("pattern"):
            node.pattern = value
    limits = [(key[:8], value) for key, value in facts.items() if key.startswith(("minValue", "maxValue"))]
    node.limits = (*limits, *((("maxLength", facts["maxLength"]),) if "maxLength" in facts else ()))
    node.bindings = tuple(_bindings(facts.get("binding", {})))
    node.rules = tuple(
        Rule(r.get("key", ""), r.get("source", ""), r.get("severity", ""), r.get("human", r["expression"]), r["expression"])
        for r in facts.get("constraint", ())
        if "expression" in r
    )
    node.slicing = _slicing(node)
    node.weight = sum(len(each.profiles) + len(each.targets) + 1 for each in node.types) + len(node.rules) + len(node.limits)
    below = min((each.depth_of_asked for each in (*node.children.values(), *node.slices.values())), default=_DEEPEST)
    node.depth_of_asked = 0 if node.asked else below + 1


def _texts(canonicals: Iterable[str | None] | None) -> tuple[str, ...]:
    """Canonicals of a list, in which null stands for one that has extensions alone."""
    return tuple(each.removesuffix(_VERSION) if each.startswith(CORE) else each for each in canonicals or () if each is not None)


def _bindings(binding: Json) -> Iterable[tuple[str, str]]:
    """Strength and value set of what codes are held to; `maximum` goes with a weaker binding, and is required where there is a code."""
    if binding.get("strength") in {"required", "extensible"} and "valueSet" in binding:
        yield binding["strength"], binding["valueSet"]
    for extension in binding.get("extension", ()):
        canonical = extension.get("valueCanonical", extension.get("valueUri"))
        if extension.get("url") == _MAX_SET and canonical:
            yield "maximum", canonical


def _slicing(node: Node) -> Slicing | None:
    given = node.facts.get("slicing")
    if given is None:
        usual = (("type", "$this"),) if node.name.endswith("[x]") else _DISCRIMINATORS.get(node.name)
        return Slicing(usual, "open", ordered=False) if usual and node.slices else None
    pairs = tuple((d.get("type", ""), d.get("path", "")) for d in given.get("discriminator", ()))
    return Slicing(pairs, given.get("rules", "open"), ordered=bool(given.get("ordered", False)))
