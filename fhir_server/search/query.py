"""A search as a value: what the query text means once every name is known and every value is read.

https://hl7.org/fhir/R4/search.html

Filters are a tree: a Criterion asks the resource's own rows, Chain and Has ask resources beside it, and AllOf, AnyOf and Not put them together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import urlencode

from fhir_server.spec.model import SearchType

OF_THE_POINTER: Final = frozenset({"_id", "_lastUpdated"})
"""Parameters that are columns of the resource's own row."""

DEFAULT_COUNT: Final = 20
MAX_COUNT: Final = 1_000

_ORDERED: Final = frozenset({"string", "token", "date", "number", "quantity", "reference", "uri"})


@dataclass(frozen=True, slots=True)
class Param:
    """A search parameter that works, of one resource type or of several. Its rows stand under `pid` and `others`.

    It has several numbers if it is of several types, or `parted`: made of others of its type (see `sharing`), so that a resource may have rows under
    some of them. `elsewhere` tells of a number that its rows which point to a type, by its number, stand under another, which has no others.
    `targets` are the types that a reference may point to, empty for any; `components` the parts of a composite.
    """

    pid: int
    code: str
    type: SearchType
    url: str
    targets: tuple[str, ...] = ()
    components: tuple[Param, ...] = ()
    others: tuple[int, ...] = ()
    elsewhere: tuple[tuple[int, int, int], ...] = ()
    parted: bool = False

    @property
    def pids(self) -> tuple[int, ...]:
        """All its numbers."""
        return (self.pid, *self.others)

    def towards(self, types: Collection[int | None]) -> tuple[int, ...]:
        """Its numbers for rows that point to local resources of these types, by their numbers; all of them for None, and for 0 as for URLs."""
        if not self.elsewhere or None in types or 0 in types:
            return self.pids
        return tuple(pid for pid in self.pids if any(self._may_point(pid, number) for number in types))

    def _may_point(self, pid: int, number: int | None) -> bool:
        return not any((pid == own and number == wanted) or (pid == other and number != wanted) for own, wanted, other in self.elsewhere)

    def joined(self, others: Sequence[Param]) -> Param:
        """The same parameter of several types; the targets are this one's."""
        every = (self, *others)
        numbers = [pid for param in every for pid in param.pids]
        apart = tuple(each for param in every for each in param.elsewhere)
        return replace(self, pid=numbers[0], others=tuple(numbers[1:]), elsewhere=apart, parted=any(param.parted for param in every))

    def contained(self) -> Param:
        """The same parameter of contained resources."""
        apart = tuple((-own, number, -other) for own, number, other in self.elsewhere)
        return replace(self, pid=-self.pid, others=tuple(-pid for pid in self.others), elsewhere=apart)

    @property
    def sortable(self) -> bool:
        """Whether `_sort` may name it."""
        return self.type in _ORDERED and ":" not in self.code


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter, satisfied by any of its values; by none of them where there are none.

    `modifier` is None, `not` or `missing`, where the one value is a bool; modifiers that change how a value is compared are in the values.
    """

    param: Param
    values: tuple[Any, ...]
    modifier: Literal["not", "missing"] | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """The numbers under which rows for its values may stand."""
        if self.param.type != "reference" or not self.values or self.modifier == "missing":
            return self.param.pids
        return self.param.towards({value.type for value in self.values})


@dataclass(frozen=True, slots=True)
class Coded:
    """Codes that terminology has to name: those `in` a value set, or `below` or `above` a code; `texts` as they were asked for."""

    param: Param
    how: Literal["in", "below", "above"]
    texts: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """References to a resource, or to those below or above it by the reference that resources of its type have among themselves."""

    param: Param
    how: Literal["below", "above"]
    type: str
    ids: tuple[str, ...]
    parent: Param


@dataclass(frozen=True, slots=True)
class Chain:
    """A reference to a resource of one of the types that satisfies what is asked of that type."""

    param: Param
    targets: tuple[tuple[str, Filter], ...]


@dataclass(frozen=True, slots=True)
class Has:
    """Some resource of type `source` that refers to this one by `param` and satisfies a filter."""

    source: str
    param: Param
    filter: Filter


@dataclass(frozen=True, slots=True)
class Itself:
    """Resources of a type, or the one with an id, such as the patient in its own compartment."""

    type: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Numbered:
    """Resources by number: what some other filter was found to be."""

    rids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gathered:
    """A criterion that few rows satisfy: they are gathered from its index before anything else."""

    criterion: Criterion


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every filter holds."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one filter holds."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The filter does not hold."""

    filter: Filter


Filter = Criterion | Coded | Hierarchy | Chain | Has | Itself | Numbered | Gathered | AllOf | AnyOf | Not


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of `_sort`; `param` None is the rank of the words that were searched for."""

    param: Param | None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Include:
    """`_include` or `_revinclude`: references of `source` under the parameter `code`, `*` for all, to `target` or to any type.

    `iterate` also follows from what was included.
    """

    source: str
    code: str
    target: str | None = None
    iterate: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search of the resources of some types. All `filters` must hold.

    `path` is where it was asked, as in a link: `Patient`, `Patient/1/Observation`, or empty for the whole system. `count` is the size of a page,
    `most` the number of matches over all pages; `total` and `summary` are None where the query leaves them to the server, and `summary` is `count`
    also for `_count=0`. `contained` asks for matches inside of other resources, and `whole` for these others in their place. `cursor` is the text
    of a page link, still unread. `applied` are the parameters that had an effect, as they were sent, for the self link; `ignored` are the names of
    the others, each with the reason.
    """

    types: tuple[str, ...]
    path: str = ""
    filters: tuple[Filter, ...] = ()
    sort: tuple[SortKey, ...] = ()
    count: int = DEFAULT_COUNT
    most: int | None = None
    total: Literal["none", "estimate", "accurate"] | None = None
    summary: Literal["true", "text", "data", "count", "false"] | None = None
    elements: tuple[str, ...] = ()
    includes: tuple[Include, ...] = ()
    revincludes: tuple[Include, ...] = ()
    contained: Literal["false", "true", "both"] = "false"
    whole: bool = True
    scored: bool = False
    explain: bool = False
    cursor: str | None = None
    applied: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()

    @property
    def type(self) -> str:
        """The type of a search that has but one; the first of several."""
        return self.types[0]

    @property
    def text(self) -> str:
        """Path and parameters as in the self link, `Patient?name=ann`, without the cursor: what a cursor is bound to."""
        return f"{self.path}?{urlencode(self.applied)}"

    @property
    def ranked(self) -> bool:
        """Whether it has to be known how well each match fits."""
        return self.scored or any(key.param is None for key in self.sort)

    def lock_token(self) -> str | None:
        """A text that every other condition meeting the same resources also has: that of its one identifier with a system. None if there is none."""
        found = [node for node in self.filters if isinstance(node, Criterion) and node.param.code == "identifier"]
        if len(found) != 1 or found[0].modifier is not None or len(found[0].values) != 1:
            return None
        code, system, _ = found[0].values[0]
        return f"{system}|{code}" if code is not None and system is not None else None


def below(node: Filter) -> Iterator[Filter]:
    """A filter and all filters within it that are asked of the same resource; not those asked of others."""
    yield node
    match node:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from below(part)
        case Not(part):
            yield from below(part)


def within(node: Filter) -> Criterion | None:
    """What the rows of contained resources are to satisfy for one of them to satisfy a filter; None where rows cannot tell."""
    if not isinstance(node, Criterion) or node.modifier is not None or node.param.pid <= 0 or node.param.type == "special":
        return None
    return replace(node, param=node.param.contained())


def rewritten(node: Filter, change: Callable[[Filter], Filter]) -> Filter:
    """The tree with every leaf replaced by what `change` makes of it."""
    match node:
        case AllOf(parts):
            return AllOf(tuple(rewritten(part, change) for part in parts))
        case AnyOf(parts):
            return AnyOf(tuple(rewritten(part, change) for part in parts))
        case Not(part):
            return Not(rewritten(part, change))
        case Chain(param, targets):
            return Chain(param, tuple((name, rewritten(part, change)) for name, part in targets))
        case Has(source, param, part):
            return Has(source, param, rewritten(part, change))
        case _:
            return change(node)
