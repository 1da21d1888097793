"""Which slices an item of a list is in, by the discriminators of the slicing.

https://hl7.org/fhir/R4/profiling.html#discriminator. Three answers: it is, it is not, it cannot be told (None).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from . import codes
from .definition import CORE, Node, Slicing, Type
from .items import Item, Reader
from .values import fits, same

_STEP: Final = re.compile(r"\$this|extension\(\s*['\"]([^'\"]{1,500})['\"]\s*\)|ofType\(\s*([A-Za-z]+)\s*\)|resolve\(\)|[A-Za-z][A-Za-z0-9]*")
_LONGEST: Final = 1_000
_DEEP: Final = 8
"""Levels below an element at which fixed values still tell its slice."""


class Context(Protocol):
    """What telling slices apart needs from the check that it is a part of."""

    reader: Reader

    def spend(self, steps: int) -> None:
        """Takes steps of the check's budget."""

    def profile(self, canonical: str) -> Node | None:
        """The root of a profile."""

    def conforms(self, canonical: str, item: Item) -> bool | None:
        """Whether an element meets a profile; None where that is not here."""

    def resolved(self, item: Item) -> Item | None:
        """The resource that a reference points to, or one of its type alone, which has no other field; None where nothing is known."""

    def member(self, value_set: str, system: str | None, code: str) -> bool | str:
        """Whether a value set has a code."""


class _Way(NamedTuple):
    """Where a discriminator leads: definitions in any case (`must`), those of slices that may be there (`may`), and the elements."""

    must: list[Node]
    may: list[Node]
    items: list[Item]
    whole: bool = True


def in_slice(context: Context, node: Node, slicing: Slicing, item: Item) -> bool | None:
    """Whether an item is in the slice that the node is."""
    answer: bool | None = True if slicing.discriminators else None
    for kind, path in slicing.discriminators:
        context.spend(2)
        one = _judged(context, kind, path, node, item)
        if one is False:
            return False
        answer = None if one is None else answer
    return answer


def _judged(context: Context, kind: str, path: str, node: Node, item: Item) -> bool | None:
    way = _followed(context, path, node, item)
    if way is None:
        return None
    if kind == "exists":
        return _exists(way)
    if kind == "type":
        return _of_type(way)
    if not way.whole:
        return None
    if kind == "profile":
        return _of_profile(context, way)
    return _of_value(context, way)


def _followed(context: Context, path: str, node: Node, item: Item) -> _Way | None:
    """Both sides of a discriminator's path; None for one that is not known here, or leads to what is not here."""
    way = _Way([node], [], [item])
    at = 0
    path = path[:_LONGEST]
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (step.end() < len(path) and path[step.end()] != "."):
            return None
        at = step.end() + 1
        if step[0] != "$this":
            way = _stepped(context, way, step)
            context.spend(len(way.items) + len(way.must) + len(way.may))
    return way


def _stepped(context: Context, way: _Way, step: re.Match[str]) -> _Way:
    if step[0] == "resolve()":
        found = [context.resolved(each) for each in way.items]
        known = [each for each in found if each is not None]
        whole = len(known) == len(found) and all(len(each.fields) > 1 for each in known)
        must, may = ([n for node in nodes for n in _targets(context, node)] for nodes in (way.must, way.may))
        return _Way(must, may, known, whole)
    if step[2]:
        return way._replace(items=[each for each in way.items if each.type == step[2]])
    if step[1]:
        return _to_extension(context, way, step[1])
    must, may = [], list[Node]()
    for node in way.must:
        one, other = _below(context, node, step[0])
        must += one
        may += other
    for node in way.may:
        one, other = _below(context, node, step[0])
        may += [*one, *other]
    return _Way(must, may, [child for each in way.items for child in context.reader.children(each, step[0])], way.whole)


def _to_extension(context: Context, way: _Way, url: str) -> _Way:
    must: list[Node] = []
    for node in (*way.must, *way.may):
        below = node.child("extension")
        must += [each for each in (below.slices.values() if below is not None else ()) if _extension_url(context, each) == url]
    items = [child for each in way.items for child in context.reader.children(each, "extension") if child.fields.get("url") == url]
    return _Way(must, [], items, way.whole)


def _extension_url(context: Context, node: Node) -> object:
    return next((each.fixed for each in _below(context, node, "url")[0] if each.fixed is not None), None)


def _below(context: Context, node: Node, name: str) -> tuple[list[Node], list[Node]]:
    """The definitions of a child: what holds of all of its items and of those that there have to be, and of those that may be there."""
    child = node.child(name)
    if child is not None:
        slices = list(child.slices.values())
        return [child, *(each for each in slices if each.least)], [each for each in slices if not each.least]
    profiles = [profile for each in node.types for profile in each.profiles]
    if name == "url" and len(profiles) == 1 and node.types[0].code == "Extension":
        # An extension's url is that of its definition, be it here or not.
        return [Node("url", f"{node.id}.url", {}, fixed=profiles[0].partition("|")[0])], []
    found = [context.profile(each) for each in profiles[:1]]
    return [below for root in found if root is not None for below in (root.child(name),) if below is not None], []


def _targets(context: Context, node: Node) -> Iterable[Node]:
    """The definitions of what a reference points to, as elements that are of these types and profiles."""
    for each in node.types:
        for target in each.targets:
            root = None if _core(target) else context.profile(target)
            if root is None:
                yield Node("", target, {}, types=(Type(target.removeprefix(CORE), (), ()),))
            else:
                yield root


def _core(canonical: str) -> bool:
    return canonical.startswith(CORE) and canonical.removeprefix(CORE)[:1].isupper()


def _exists(way: _Way) -> bool | None:
    for node in way.must:
        if node.most == 0:
            return not way.items
        if node.least:
            return bool(way.items)
    return None


def _of_type(way: _Way) -> bool | None:
    wanted = {code for node in (*way.must, *way.may) for code in _codes(node)}
    if not wanted or not way.items:
        return None if not wanted or not way.whole else False
    return any(each.type in wanted for each in way.items)


def _codes(node: Node) -> Iterable[str]:
    """The types of an element; of a choice's slice that tells none, those that its name tells."""
    if node.types:
        return [each.code.rpartition("/")[2] if each.code.startswith(CORE) else each.code for each in node.types]
    if node.slice.startswith(node.stem):
        suffix = node.slice.removeprefix(node.stem)
        return [suffix, suffix[:1].lower() + suffix[1:]]
    return []


def _of_profile(context: Context, way: _Way) -> bool | None:
    wanted = [profile for node in way.must for each in node.types for profile in each.profiles or each.targets]
    if not wanted:
        return None
    answers = [context.conforms(profile, each) for profile in wanted[:10] for each in way.items[:10]]
    return True if True in answers else None if None in answers else False


def _of_value(context: Context, way: _Way) -> bool | None:
    answers = [_value_fits(context, node, way.items, _DEEP) for node in way.must]
    answers = [each for each in answers if each is not None] or [_any(_value_fits(context, node, way.items, _DEEP) for node in way.may)]
    return False if False in answers else None if None in answers else True


def _any(answers: Iterable[bool | None]) -> bool | None:
    known = list(answers)
    return True if True in known else False if known and None not in known else None


def _value_fits(context: Context, node: Node, items: list[Item], deep: int) -> bool | None:
    """Whether one of the elements has what the definition prescribes, by itself or by its children; None where that is nothing."""
    context.spend(1 + len(items))
    if node.fixed is not None:
        return any(same(node.fixed, each.value) for each in items)
    if node.pattern is not None:
        return any(fits(node.pattern, each.value, context.spend) for each in items)
    if deep:
        below = _children_fit(context, node, items, deep)
        if below is not None:
            return below
    for strength, value_set in node.bindings:
        if strength == "required":
            return _in_value_set(context, value_set, items)
    return None


def _children_fit(context: Context, node: Node, items: list[Item], deep: int) -> bool | None:
    answer: bool | None = None
    for name, child in node.children.items():
        for each in (child, *(sliced for sliced in child.slices.values() if sliced.least)):
            if each.depth_of_asked >= deep:
                continue
            one = _value_fits(context, each, [below for item in items for below in context.reader.children(item, name)], deep - 1)
            if one is False:
                return False
            answer = one if one is not None else answer
    return answer


def _in_value_set(context: Context, value_set: str, items: list[Item]) -> bool | None:
    answers = [codes.verdict(context.member, value_set, each.type, each.value) for each in items]
    return True if True in answers else None if any(isinstance(each, str) for each in answers) else False
