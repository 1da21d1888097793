"""Walks a resource along the definitions of a profile, and of those that it names for elements."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from fhir_server.fhirpath import FhirPathError
from fhir_server.outcome import Issue, Severity
from fhir_server.spec import Binding

from . import codes
from .definition import CORE, Definition, Node, Slicing, Type
from .items import Item
from .references import References
from .slicing import in_slice
from .sources import Sources
from .values import broken_limit, fits, same, told

MAX_ISSUES: Final = 200
"""Issues that are told of one resource by one profile."""
_DEPTH: Final = 60
"""Profiles of elements of elements, and elements within elements, all together."""
_TEXT: Final = 500


class Walk:
    """One check of a resource: what was found, and what is being checked at the moment."""

    def __init__(self, sources: Sources, references: References, url: str) -> None:
        """Takes what there is to check by, where references lead, and what its issues begin with: the profile's URL."""
        self.issues: list[Issue] = []
        self.reader = sources.reader
        self.member = sources.member
        self.resolved = references.resolved
        self._sources = sources
        self._references = references
        self._spec = sources.spec
        self._url = url
        self._open: set[tuple[int, str]] = set()
        self._told: set[tuple[str, str]] = set()
        self._root = Node("", "", {})
        self._depth = 0

    def spend(self, steps: int) -> None:
        """Takes steps of the request's. Raises FhirPathError where there are none left."""
        self._sources.budget.spend(steps)

    def tell(self, severity: Severity, code: str, text: str, path: str) -> None:
        """Adds an issue, once; of what cannot be told the first place is enough."""
        key = (text, "" if severity == "information" else path)
        if key not in self._told and len(self.issues) < MAX_ISSUES:
            self._told.add(key)
            self.issues.append(Issue(severity, code, (f"{self._url}: {text}" if self._url else text)[:_TEXT], (path,)))

    def held(self, profile: Definition, item: Item) -> None:
        """Holds an element to a whole profile."""
        if profile.type not in (item.type, "") and not self._spec.is_a(item.type, profile.type):
            self.tell("error", "invalid", f"the profile is for {profile.type}, not for {item.type}", item.path)
            return
        self._root = profile.root
        self._item(profile.root, item)

    def extension(self, item: Item, parent: Item, names: frozenset[str]) -> None:
        """Holds an extension to the definition of its URL, if that is here; `names` are those of the element that has it."""
        url = item.fields.get("url")
        found = self._sources.definition(url) if isinstance(url, str) and ":" in url else None
        if found is None or found.type != "Extension":
            return
        self._add(self._issues(str(url), item) or ())
        self.spend(len(found.contexts))
        if found.contexts and not any(_is_context(*each, parent, names) for each in found.contexts):
            places = ", ".join(expression for _, expression in found.contexts[:20])
            self.tell("warning", "structure", f"the extension {found.url} is for {places:.200}, not for this element", item.path)

    def profile(self, canonical: str) -> Node | None:
        """The root of another profile, None where that is not here."""
        found = self._sources.definition(canonical)
        return None if found is None else found.root

    def conforms(self, canonical: str, item: Item) -> bool | None:
        """Whether an element meets a profile, None where that is not here."""
        found = self._issues(canonical, item)
        return None if found is None else all(issue.severity != "error" for issue in found)

    def _issues(self, canonical: str, item: Item) -> list[Issue] | None:
        """What is wrong with an element by another profile; None where that is not here or no profile."""
        if canonical.startswith(CORE) and canonical.removeprefix(CORE) in self._spec.types:
            return [] if self._spec.is_a(item.type, canonical.removeprefix(CORE)) else [Issue("error", "invalid", f"this is no {canonical}")]
        found = self._sources.definition(canonical)
        key = (id(item.value), canonical)
        if found is None or key in self._open or self._depth >= _DEPTH:
            return None if found is None else []
        other = Walk(self._sources, self._references, found.url)
        other._open = self._open | {key}
        other._depth = self._depth + 1
        other.held(found, item)
        return other.issues

    def _item(self, node: Node, item: Item, listed: frozenset[str] = frozenset()) -> None:
        """What a definition says of one element and what is below it; `listed` are value sets that it was held to before."""
        self.spend(1 + node.weight)
        if item.value is not None:
            self._value(node, item)
            self._coded(node, item, listed)
            self._rules(node, item)
        self._typed(node, item)
        if self._depth >= _DEPTH:
            self.tell("information", "too-long", "what is nested more deeply is not checked", item.path)
            return
        self._depth += 1
        for child in (node.children or node.like(self._root).children).values():
            self._element(child, item)
        self._depth -= 1

    def _element(self, child: Node, parent: Item) -> None:
        items = self.reader.children(parent, child.name)
        self.spend(1 + len(items))
        by_spec = self.reader.elements(parent.type, child.name)
        where = f"{parent.path}.{by_spec[0].name if by_spec else child.stem}"
        if len(items) < child.least and not any(each.min >= child.least for each in by_spec):
            self.tell("error", "required", f"{child.id} is needed, at least {child.least} of it; there are {len(items)}", where)
        self._most(child, len(items), where)
        listed = frozenset(each.binding.value_set for each in by_spec if each.binding is not None and self._is_listed(each.binding))
        for each in items:
            self._item(child, each, listed)
        if child.slices:
            self._sliced(child, items, where)

    def _most(self, node: Node, count: int, where: str) -> None:
        if node.most is not None and count > node.most:
            self.tell("error", "structure", f"of {node.id} there may be {node.most}; there are {count}", where)

    def _sliced(self, node: Node, items: list[Item], where: str) -> None:
        """Tells the items of a list apart, and holds each to its slices."""
        slicing = node.slicing
        if slicing is None or not slicing.discriminators:
            self.tell("information", "informational", f"the slices of {node.name} cannot be told apart: no discriminator says how", where)
            return
        found: dict[str, list[Item]] = {name: [] for name in node.slices}
        unsure = dict.fromkeys(node.slices, 0)
        turns: list[int | None] = []
        for item in items:
            answers = {name: in_slice(self, each, slicing, item) for name, each in node.slices.items()}
            turn = next((n for n, answer in enumerate(answers.values()) if answer), None)
            for name, answer in answers.items():
                if answer:
                    found[name].append(item)
                elif answer is None:
                    unsure[name] += 1
            if turn is None and None not in answers.values():
                turn = len(node.slices)
                if slicing.rules == "closed":
                    self.tell(
                        "error",
                        "structure",
                        f"this is in none of the slices {', '.join(islice(node.slices, 20)):.200}, which are all there are",
                        item.path,
                    )
            turns.append(turn)
        self._ordered(slicing, len(node.slices), turns, items)
        for name, each in node.slices.items():
            self._slice(each, found[name], unsure[name], where)

    def _slice(self, node: Node, items: list[Item], unsure: int, where: str) -> None:
        if len(items) + unsure < node.least:
            self.tell("error", "required", f"{node.id} is needed, at least {node.least} of it; there are {len(items)}", where)
        elif unsure and (node.least > len(items) or node.most is not None):
            self.tell("information", "informational", f"which items are {node.id} cannot be told here", where)
        self._most(node, len(items), where)
        for each in items:
            self._item(node, each)
        if node.slices:
            self._sliced(node, items, where)

    def _ordered(self, slicing: Slicing, last: int, turns: list[int | None], items: list[Item]) -> None:
        """`turns` are the numbers of the items' slices: `last` is that of an item in none, None says that this cannot be told."""
        high = 0
        for turn, item in zip(turns, items, strict=True):
            if turn is None or (turn == last and slicing.rules != "openAtEnd"):
                continue
            if turn < high and (slicing.ordered or high == last):
                self.tell("error", "structure", "this is out of order: slices stand as the profile has them, and others behind them", item.path)
                return
            high = max(high, turn)

    def _value(self, node: Node, item: Item) -> None:
        """The value itself: its type, what is prescribed, limits, codes."""
        if node.types and (node.name.endswith("[x]") or self._is_resource(item.type)):
            wanted = [each.code for each in node.types if not each.code.startswith("http")]
            if wanted and item.type not in wanted and not (self._is_resource(item.type) and any(self._spec.is_a(item.type, code) for code in wanted)):
                self.tell("error", "structure", f"{node.stem} is a {' or '.join(wanted):.200} here, not a {item.type}", item.path)
        if node.fixed is not None and not same(node.fixed, item.value):
            self.tell("error", "value", f"the value is not what the profile fixes: {told(node.fixed)}", item.path)
        if node.pattern is not None and not fits(node.pattern, item.value, self.spend):
            self.tell("error", "value", f"the value has not all that the profile prescribes: {told(node.pattern)}", item.path)
        for kind, limit in node.limits:
            wrong = broken_limit(kind, limit, item.value)
            if wrong:
                self.tell("error", "value", wrong, item.path)

    def _coded(self, node: Node, item: Item, listed: frozenset[str]) -> None:
        if codes.is_coded(item.type, choice=node.name.endswith("[x]")):
            for strength, value_set in node.bindings:
                if value_set.partition("|")[0] not in listed:
                    self._bound(node, item, strength, value_set)

    def _bound(self, node: Node, item: Item, strength: str, value_set: str) -> None:
        self.spend(10)
        answer = codes.verdict(self.member, value_set, item.type, item.value)
        if answer is True:
            return
        if isinstance(answer, str):
            self.tell("information", "not-supported", f"whether {node.stem} is in {value_set} is not known: {answer}", item.path)
            return
        shown = codes.shown(item.type, item.value)
        if strength == "maximum" and item.type == "Quantity" and not codes.pairs(item.type, item.value):
            return  # One tablet has no unit, and no code that is outside of the set.
        if strength != "extensible":
            self.tell("error", "code-invalid", f"{shown} is not in the value set {value_set}", item.path)
        elif codes.pairs(item.type, item.value):
            self.tell("warning", "code-invalid", f"{shown} is not in {value_set}, which has to be used where it has a code that fits", item.path)

    def _rules(self, node: Node, item: Item) -> None:
        for rule in node.rules:
            if (rule.key, rule.expression) in self._sources.known or rule.source.removeprefix(CORE) in self._spec.types:
                continue
            expression = node.expression(rule.expression, self._spec, item.type)
            try:
                if isinstance(expression, str):
                    raise FhirPathError(expression)
                held = expression.true(item.value, item.within, item.root, self._sources.budget, member_of=self._member_of)
            except FhirPathError as error:
                self.spend(1)
                self.tell("information", "informational", f"{rule.key} cannot be decided: {error}", item.path)
            else:
                if not held:
                    severity: Severity = "error" if rule.severity == "error" else "warning"
                    self.tell(severity, "invariant", f"{rule.key} does not hold: {rule.human}", item.path)

    def _member_of(self, value: Any, value_set: str) -> bool | None:
        kind = "code" if isinstance(value, str) else "CodeableConcept" if isinstance(value, dict) and "coding" in value else "Coding"
        answer = codes.verdict(self.member, value_set, kind, value)
        return None if isinstance(answer, str) else answer

    def _typed(self, node: Node, item: Item) -> None:
        """The profiles of an element's type, and what a reference may point to."""
        for each in node.types:
            if each.profiles and self._spec.is_a(item.type, each.code):
                self._of_profiles(each.profiles, item)
            if each.targets and item.type == "Reference":
                self._targets(each, item)

    def _of_profiles(self, profiles: tuple[str, ...], item: Item) -> None:
        answers = [(profile, self._issues(profile, item)) for profile in profiles[:20]]
        found = [issues for _, issues in answers if issues is not None]
        if any(all(issue.severity != "error" for issue in issues) for issues in found) and len(profiles) > 1:
            return
        unknown = next((profile for profile, issues in answers if issues is None), None)
        if unknown is not None:
            self.tell("information", "not-supported", f"the profile {unknown} is not here to validate by", item.path)
        elif len(found) == 1:
            self._add(found[0])
        else:
            self.tell("error", "structure", f"this meets none of the profiles {', '.join(profiles):.300}", item.path)

    def _add(self, issues: Iterable[Issue]) -> None:
        for each in issues:
            key = (each.diagnostics, "" if each.severity == "information" else "".join(each.expression))
            if key not in self._told and len(self.issues) < MAX_ISSUES:
                self._told.add(key)
                self.issues.append(each)

    def _targets(self, kind: Type, item: Item) -> None:
        """The type of what is referred to, and its profile where it is in the same resource."""
        found = self.resolved(item)
        if found is None:
            return
        wanted = [(target, self._target_type(target)) for target in kind.targets[:50]]
        if any(name is None for _, name in wanted):
            return
        suited = [target for target, name in wanted if name is not None and self._spec.is_a(found.type, name)]
        if not suited:
            names = " or ".join(sorted({str(name) for _, name in wanted}))
            self.tell("error", "structure", f"this refers to {names}, not to {found.type}", item.path)
        elif len(found.fields) > 1 and not any(self.conforms(target, found) is not False for target in suited):
            self.tell("error", "structure", f"what is referred to meets none of the profiles {', '.join(suited):.300}", item.path)

    def _target_type(self, canonical: str) -> str | None:
        name = canonical.removeprefix(CORE)
        if name in self._spec.types and canonical.startswith(CORE):
            return name
        found = self._sources.definition(canonical)
        return None if found is None else found.type

    def _is_listed(self, binding: Binding) -> bool:
        """Whether the specification alone has the value set checked."""
        return binding.strength == "required" and self._spec.codes(binding.value_set) is not None

    def _is_resource(self, name: str) -> bool:
        found = self._spec.types.get(name)
        return found is not None and found.kind == "resource"


def _is_context(kind: str, expression: str, parent: Item, names: frozenset[str]) -> bool:
    """Whether an element is one that an extension is for; yes where only an expression or a profile tells."""
    if kind == "extension":
        return parent.fields.get("url") == expression
    name = expression.removeprefix(CORE).partition("#")[2] or expression.removeprefix(CORE)
    return kind == "fhirpath" or ":" in name or name in names
