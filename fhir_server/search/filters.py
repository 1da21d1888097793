"""One search parameter, as its name and value stand in a query, to a Filter: chains followed, modifiers and values understood or refused.

https://hl7.org/fhir/R4/search.html#modifiers, https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, Literal, Protocol, cast

from fhir_server.outcome import Outcome

from .params import Context, kind_of, words
from .params.kind import split, unescape
from .params.reference import ABSOLUTE, locate
from .query import AllOf, AnyOf, Chain, Coded, Criterion, Filter, Has, Hierarchy, Param

MAX_ALTERNATIVES: Final = 1_000
MAX_COMPARED: Final = 10_000
"""Alternatives of all parameters together: a statement has room for 65,535 values, and some alternatives take four."""
MAX_VALUE: Final = 2_048
"""Characters of one alternative."""
MAX_LINKS: Final = 20
"""Chains and reverse chains of a query together; each is a look-up in the resources of another type."""
MAX_UNTYPED: Final = 20
"""Types that a chain without a type may lead to."""

PARENTS: Final = ("partof", "part-of", "parent")
"""Codes of the references by which resources of one type lie below each other."""

_TERMINOLOGY: Final[Mapping[str, tuple[Literal["in", "below", "above"], bool]]] = {
    "in": ("in", False),
    "not-in": ("in", True),
    "below": ("below", False),
    "above": ("above", False),
}


class Known(Protocol):
    """What can be said of parameters that cannot be searched by."""

    @property
    def failures(self) -> Mapping[str, str]:
        """The reason, by code."""


Lookup = Callable[[str], tuple[Known, Mapping[str, Param]]]
"""The parameters of a resource type: those that do not work, and those that do."""


class Unknown(Exception):  # noqa: N818 - whether it is an error is for the query to say
    """There is no such parameter, or it cannot be searched by; the text says which and why."""


@dataclass(slots=True)
class Filters:
    """Reads the filters of one query, and counts what they will cost."""

    lookup: Lookup
    context: Context
    compared: int = 0
    links: int = 0
    _merged: dict[tuple[tuple[str, ...], str], Param] = field(default_factory=dict)

    def read(self, types: Sequence[str], name: str, value: str) -> Filter:
        """The filter of a parameter of some types. Raises Unknown for a name that none has, and Outcome `parameter` for what is not understood."""
        if name.startswith("_has:"):
            return self._has(types, name, value)
        head, dot, rest = name.partition(".")
        if dot:
            return self._chain(types, head, rest, lambda target: self.read((target,), rest, value))
        if name == "_list":
            return self._list(types, value)
        return self.leaf(types, name, value)

    def find(self, types: Sequence[str], code: str) -> Param:
        """The parameter that all types have. Raises Unknown, with the nearest name."""
        key = (tuple(types), code)
        if key not in self._merged:
            try:
                found = [self._find(name, code) for name in types]
            except Unknown as error:
                raise error if len(types) == 1 else Unknown(f"{error}; a search of several types goes by what all have, _type names fewer") from None
            if len({param.type for param in found}) > 1:
                raise Unknown(f"'{code}' is not the same in all these types; ask for one type")
            self._merged[key] = _merged(found) if len(found) > 1 else found[0]
        return self._merged[key]

    def _find(self, resource_type: str, code: str) -> Param:
        broken, params = self.lookup(resource_type)
        if code in params:
            return params[code]
        if code in broken.failures:
            raise Unknown(f"'{code}' cannot be searched by: {broken.failures[code]}")
        # One with a modifier is only looked for in case there is one; that took half of the time of reading a search.
        near = get_close_matches(code[:64], [other for other in params if ":" not in other], n=1) if ":" not in code else []
        raise Unknown(f"{resource_type} has no search parameter '{code[:80]}'" + (f"; did you mean '{near[0]}'?" if near else ""))

    def _link(self, name: str) -> None:
        self.links += 1
        if self.links > MAX_LINKS:
            raise Outcome("parameter", f"'{name[:80]}': a search follows at most {MAX_LINKS} references", code="too-costly")

    def _chain(self, types: Sequence[str], head: str, rest: str, read: Callable[[str], Filter]) -> Filter:
        code, colon, only = head.partition(":")
        param = self.find(types, code)
        if param.type != "reference":
            raise refused(f"{head}.{rest}", f"follows '{code}', which is no reference but of type {param.type}")
        if colon:
            self._demand_target(f"{head}.{rest}", param, only)
        targets = (only,) if colon else param.targets
        if not targets or len(targets) > MAX_UNTYPED:
            raise refused(f"{head}.{rest}", f"can lead to resources of any type; name one, as in {code}:Patient.{rest}"[:160])
        self._link(f"{head}.{rest}")
        found: list[tuple[str, Filter]] = []
        refusal: Unknown | Outcome | None = None
        for target in targets:
            try:
                found.append((target, read(target)))
            except (Unknown, Outcome) as error:
                # What one type cannot be asked leads nowhere there; the others may be asked it all the same.
                refusal = refusal or error
        if not found and refusal is not None:
            raise refusal
        return Chain(param, tuple(found))

    def chained(self, types: Sequence[str], head: str, read: Callable[[str], Filter]) -> Filter:
        """A chain whose end is read by the caller, for each type it may lead to."""
        return self._chain(types, head, "…", read)

    def _has(self, types: Sequence[str], name: str, value: str) -> Filter:
        parts = name.split(":", 3)
        if len(parts) < 4 or not all(parts) or parts[1] not in self.context.types:  # noqa: PLR2004 - as said below
            raise refused(name, "is _has:[type]:[reference parameter]:[parameter of that type]")
        _, source, code, rest = parts
        param = self.find((source,), code)
        if param.type != "reference":
            raise refused(name, f"needs a reference of {source}; '{code}' is of type {param.type}")
        for target in types:
            self._demand_target(name, param, target)
        self._link(name)
        return Has(source, param, self.read((source,), rest, value))

    def _list(self, types: Sequence[str], value: str) -> Filter:
        del types
        if value.startswith("$"):
            raise refused("_list", f"names no stored list: '{value[:80]}'; there are no functional lists here")
        self._link("_list")
        return Has("List", self.find(("List",), "item"), self.leaf(("List",), "_id", value))

    def leaf(self, types: Sequence[str], name: str, value: str) -> Filter:  # noqa: PLR0911 - one per way to read a value
        """A parameter with a modifier or without one, of the resource itself."""
        code, colon, modifier = name.partition(":")
        param = self.find(types, code)
        if modifier == "missing":
            if value not in {"true", "false"}:
                raise refused(name, f"is true or false, not '{value[:80]}'")
            return Criterion(param, (value == "true",), "missing")
        alternatives = self._alternatives(name, value)
        if param.type == "special" and param.code in {words.CONTENT, words.NARRATIVE}:
            alternatives = self._worded(name, alternatives)
        if not colon:
            if param.code == "url" and param.type == "uri" and any("|" in text for text in alternatives):
                return self._canonical(types, param, alternatives)
            return Criterion(param, tuple(self.value(name, param, text) for text in alternatives))
        if param.type == "token" and modifier in _TERMINOLOGY:
            how, negated = _TERMINOLOGY[modifier]
            return Coded(param, how, tuple(map(unescape, alternatives)) if how == "in" else tuple(alternatives), negated)
        if (derived := self._derived(types, name)) is not None:
            return Criterion(derived, tuple(self.value(name, derived, text) for text in alternatives))
        if param.type == "reference" and modifier in {"below", "above"} and not any(":" in text or "|" in text for text in alternatives):
            return self._hierarchy(name, param, cast(Literal["below", "above"], modifier), alternatives)
        how_read = self._modifier(name, param, modifier)
        values = tuple(self.value(name, param, text, how_read) for text in alternatives)
        return Criterion(param, values, "not" if modifier == "not" else None)

    def _worded(self, name: str, texts: Sequence[str]) -> list[str]:
        try:
            return [each for text in texts for each in words.alternatives(text)]
        except ValueError as error:
            raise refused(name, f"{error}: '{','.join(texts)[:80]}'") from None

    def _canonical(self, types: Sequence[str], param: Param, alternatives: Sequence[str]) -> Filter:
        """`url|version` is the resource of that URL and version, where the types have versions."""
        version = self._derived(types, "version")
        found: list[Filter] = []
        for text in alternatives:
            url, *rest = split(text, "|")
            stated = "|".join(rest)
            named = Criterion(param, (self.value(param.code, param, url if version is not None else text),))
            found.append(named if version is None or not stated else AllOf((named, Criterion(version, (self.value(param.code, version, stated),)))))
        return found[0] if len(found) == 1 else AnyOf(tuple(found))

    def _derived(self, types: Sequence[str], name: str) -> Param | None:
        try:
            return self.find(types, name)
        except Unknown:
            return None

    def _alternatives(self, name: str, value: str) -> list[str]:
        alternatives = [text for text in split(value, ",") if text]
        if len(alternatives) > MAX_ALTERNATIVES:
            raise refused(name, f"has {len(alternatives)} alternatives; {MAX_ALTERNATIVES} are the most", code="too-costly")
        self.compared += len(alternatives)
        if self.compared > MAX_COMPARED:
            raise Outcome("parameter", f"A search compares with at most {MAX_COMPARED:,} values", code="too-costly")
        if max(map(len, alternatives), default=0) > MAX_VALUE:
            raise refused(name, f"has a value longer than {MAX_VALUE} characters", code="too-long")
        return alternatives

    def _modifier(self, name: str, param: Param, modifier: str) -> str:
        if modifier in kind_of(param).MODIFIERS:
            return modifier
        if param.type == "reference" and modifier in self.context.types:
            self._demand_target(name, param, modifier)
            return modifier
        said = f"The modifier ':{modifier[:80]}' of the {param.type} parameter '{param.code}' is not supported"
        raise Outcome("parameter", said, code="not-supported")

    def _demand_target(self, name: str, param: Param, target: str) -> None:
        if target not in self.context.types:
            raise refused(name, f"names no resource type: '{target[:80]}'")
        if param.targets and target not in param.targets:
            raise refused(name, f"cannot point to {target}, only to {', '.join(param.targets)}")

    def value(self, name: str, param: Param, text: str, modifier: str | None = None) -> Any:
        """One value of a parameter. Raises Outcome `parameter` that names it and says what is expected."""
        if param.code == "_id":
            return unescape(text)
        if param.code == "_text":
            modifier = "narrative"
        try:
            return kind_of(param).parse(text, modifier, param.targets, self.context)
        except (ValueError, OverflowError) as error:
            raise refused(name, str(error)) from None

    def _hierarchy(self, name: str, param: Param, how: Literal["below", "above"], alternatives: Sequence[str]) -> Filter:
        located = [self._located(name, param, unescape(text)) for text in alternatives]
        if len({target for target, _ in located}) > 1:
            raise refused(name, "takes resources of one type")
        target = located[0][0]
        params = self.lookup(target)[1]
        parent = next((params[code] for code in PARENTS if code in params and target in params[code].targets), None)
        if parent is None:
            raise refused(name, f"needs resources that lie below each other, which {target} does not")
        self._link(name)
        return Hierarchy(param, how, target, tuple(identity for _, identity in located), parent)

    def _located(self, name: str, param: Param, text: str) -> tuple[str, str]:
        if "/" not in text:
            if len(param.targets) == 1:
                return param.targets[0], text
            raise refused(name, f"needs a type, as in {(param.targets or ('Location',))[0]}/{text[:64]}")
        found = locate(text, self.context)
        if found is None or found[1] == ABSOLUTE:
            raise refused(name, f"is no reference to a resource here: '{text[:80]}'")
        return next(target for target, number in self.context.types.items() if number == found[1]), found[0]


def _merged(params: Sequence[Param]) -> Param:
    targets = dict.fromkeys(target for param in params for target in param.targets) if all(param.targets for param in params) else ()
    return replace(params[0].joined(params[1:]), targets=tuple(targets))


def refused(name: str, fault: str, *, code: str | None = None) -> Outcome:
    """What is wrong with a parameter, by its name."""
    return Outcome("parameter", f"{name[:80]} {fault}", code=code)
