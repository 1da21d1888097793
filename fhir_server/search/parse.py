"""Query text to a Query: what shapes the answer is read here, what the resources must satisfy in `filters`.

https://hl7.org/fhir/R4/search.html

Unknown parameters, and known ones that this server has not, are refused under `Prefer: handling=strict` and dropped with a reason otherwise. A
modifier or a value that cannot be understood is refused always: without it the search would be another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.outcome import Outcome

from .expression import read_expression
from .filters import Filters, Lookup, Unknown, refused
from .params import Context
from .params.kind import split
from .query import DEFAULT_COUNT, MAX_COUNT, AllOf, AnyOf, Coded, Criterion, Filter, Include, Not, Query, SortKey, below

MAX_PARAMETERS: Final = 100
MAX_SORT_KEYS: Final = 8
MAX_INCLUDES: Final = 20

_NOT_FOR_SEARCH: Final = frozenset({"_format", "_pretty"})
# What clients in wide use send to every server, and what means nothing wrong when it is left aside.
_OF_OTHER_SERVERS: Final = {"_totalMethod": "the total is asked for with _total"}
_CHOICES: Final = {
    "_total": ("none", "estimate", "accurate"),
    "_summary": ("true", "text", "data", "count", "false"),
    "_contained": ("false", "true", "both"),
    "_containedType": ("container", "contained"),
    "_score": ("true", "false"),
    "_explain": ("true", "false"),
}
_ONCE: Final = frozenset({"_count", "_maxresults", "_sort", "_cursor", *_CHOICES})
_INCLUDES: Final = {"_include": False, "_revinclude": True}
_BARE: Final = frozenset({"_elements", "_filter", "_list", "_type", *_ONCE})
"""What takes no modifier."""
_ITERATE: Final = frozenset({"iterate", "recurse"})
_ELEMENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z][A-Za-z0-9]*)*", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(slots=True)
class _Reader:
    names: Filters
    types: tuple[str, ...]
    strict: bool
    several: bool
    filters: list[Filter] = field(default_factory=list)
    sort: list[SortKey] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)
    revincludes: list[Include] = field(default_factory=list)
    single: dict[str, str] = field(default_factory=dict)
    applied: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)

    def read(self, name: str, value: str) -> None:
        """Takes one parameter in."""
        if name in _NOT_FOR_SEARCH:
            return
        if name in _OF_OTHER_SERVERS:
            self.ignored.append((name, _OF_OTHER_SERVERS[name]))
        elif not value.strip(","):
            self.ignored.append((name, "it has no value"))
        elif self._take(name, value) and name != "_cursor":
            # What the self link says is what was done.
            self.applied.append((name, str(_count(value)) if name == "_count" else value))

    def _take(self, name: str, value: str) -> bool:
        """Whether the parameter has an effect."""
        if name in _ONCE:
            return self._once(name, value)
        if name == "_type" and self.several:
            return True
        if name == "_elements":
            self.elements += _elements(value)
            return True
        try:
            if name.partition(":")[0] in _INCLUDES:
                self._include(name, value)
            elif name == "_filter":
                self._add(read_expression(self.names, self.types, value))
            elif name == "_type":
                raise Unknown(f"'_type' goes with a search of several types, and this one is of {self.types[0]} alone")
            elif name.partition(":")[0] in _BARE and ":" in name:
                raise Unknown(_unmodified(name))
            elif name == "_query":
                raise Unknown("'_query' names a stored query, and there are none here")
            else:
                self._add(self._read(name, value))
        except Unknown as error:
            return self._drop(name, str(error))
        return True

    def _read(self, name: str, value: str) -> Filter:
        try:
            return self.names.read(self.types, name, value)
        except Outcome as error:
            if name[:80] in str(error) or not ("." in name or name.startswith("_has:")):
                raise
            # A fault at the end of a chain names that end alone.
            raise Outcome(error.category, f"{name[:80]}: {error}", code=error.issues[0].code) from None

    def _add(self, node: Filter) -> None:
        # Each filter of its own may be what the search goes by.
        self.filters += node.filters if isinstance(node, AllOf) else [node]

    def _drop(self, name: str, reason: str) -> bool:
        if self.strict:
            raise Outcome("parameter", reason, code="not-supported")
        self.ignored.append((name, reason))
        return False

    def _once(self, name: str, value: str) -> bool:
        if name in self.single:
            raise refused(name, "stands more than once")
        if value not in (allowed := _CHOICES.get(name, (value,))):
            raise refused(name, f"is one of {', '.join(allowed)}, not '{value[:80]}'")
        self.single[name] = value
        return self._sort(value) if name == "_sort" else True

    def _sort(self, value: str) -> bool:
        keys = [key for key in value.split(",") if key]
        if len(keys) > MAX_SORT_KEYS:
            raise refused("_sort", f"has {len(keys)} keys; {MAX_SORT_KEYS} are the most", code="too-costly")
        for key in keys:
            code = key.removeprefix("-")
            if code == "_score":
                # The best matches come first either way: nobody asks for the worst.
                self.sort.append(SortKey(None, descending=True))
                continue
            try:
                param = self.names.find(self.types, code)
                if not param.sortable:
                    raise Unknown(f"{param.type} parameters such as '{param.code}' cannot be sorted by")
            except Unknown as error:
                self._drop("_sort", f"_sort: {error}")
            else:
                self.sort.append(SortKey(param, key.startswith("-")))
        return bool(self.sort)

    def _include(self, name: str, value: str) -> None:
        direction, _, modifier = name.partition(":")
        if modifier and modifier not in _ITERATE:
            raise Outcome("parameter", f"The modifier ':{modifier[:80]}' of '{direction}' is not supported", code="not-supported")
        listed = self.revincludes if _INCLUDES[direction] else self.includes
        if len(self.includes) + len(self.revincludes) == MAX_INCLUDES:
            raise refused(direction, f"stands too often: a search has at most {MAX_INCLUDES} of _include and _revinclude together", code="too-costly")
        listed.append(self._include_of(direction, value, iterate=bool(modifier)))

    def _include_of(self, direction: str, value: str, *, iterate: bool) -> Include:
        if value == "*":
            return Include("*", "*", iterate=iterate)
        types = self.names.context.types
        source, _, rest = value.partition(":")
        code, _, target = rest.partition(":")
        if not code or source not in types or (target and target not in types):
            raise refused(direction, f"is [type]:[parameter] or [type]:[parameter]:[target type], not '{value[:80]}'")
        if code != "*":
            param = self.names.find((source,), code)
            if param.type != "reference":
                raise refused(direction, f"needs a reference parameter; '{code}' is of type {param.type}")
        return Include(source, code, target or None, iterate=iterate)

    def most(self) -> int | None:
        """`_maxresults`."""
        return _number("_maxresults", self.single["_maxresults"]) if "_maxresults" in self.single else None


def parse(
    lookup: Lookup,
    context: Context,
    types: Sequence[str],
    params: Sequence[tuple[str, str]],
    *,
    strict: bool,
    within: Filter | None = None,
    path: str | None = None,
) -> Query:
    """The Query of decoded parameters in their order.

    `within` is a filter that the address asks for besides, `path` the address where it is not that of one type, whose parameters may then have
    `_type` among them (see `system_types`). Raises Outcome `parameter`.
    """
    if len(params) > MAX_PARAMETERS:
        raise Outcome("parameter", f"A search has at most {MAX_PARAMETERS} parameters, not {len(params)}", code="too-long")
    for name, value in params:
        _refuse_unprintable(name, value)
    reader = _Reader(Filters(lookup, context), tuple(types), strict, several=path is not None and (not path or path.endswith("*")))
    if within is not None:
        reader.filters.append(within)
    for name, value in params:
        reader.read(name, value)
    single = reader.single
    count = _count(single.get("_count"))
    summary: Any = single.get("_summary")
    total: Any = single.get("_total")
    contained: Any = single.get("_contained", "false")
    query = Query(
        tuple(types),
        types[0] if path is None else path,
        filters=tuple(reader.filters),
        sort=tuple(reader.sort),
        count=count,
        most=reader.most(),
        total=total,
        summary="count" if count == 0 else summary,
        elements=tuple(dict.fromkeys(reader.elements)),
        includes=tuple(dict.fromkeys(reader.includes)),
        revincludes=tuple(dict.fromkeys(reader.revincludes)),
        contained=contained,
        whole=single.get("_containedType") != "contained",
        scored=single.get("_score") == "true",
        explain=single.get("_explain") == "true",
        cursor=single.get("_cursor"),
        applied=tuple(reader.applied),
        ignored=tuple(reader.ignored),
    )
    if contained != "false":
        _refuse_uncontained(query)
    return query


def system_types(known: Sequence[str], params: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The types that `_type` names, all that are known where it does not stand. Raises Outcome `parameter`."""
    asked = [name for code, value in params if code == "_type" for name in value.split(",") if name]
    for name in asked:
        if name not in known:
            raise refused("_type", f"names no resource type: '{name[:80]}'")
    return tuple(dict.fromkeys(asked)) or tuple(known)


def _unmodified(name: str) -> str:
    code, _, modifier = name.partition(":")
    hint = "; -[parameter] sorts from the highest" if code == "_sort" else ""
    return f"'{code}' takes no modifier such as ':{modifier[:80]}'{hint}"


def _refuse_uncontained(query: Query) -> None:
    """A search of contained resources goes by their rows: it needs one to go by, and can do no more than that."""
    nodes = [inner for node in query.filters for inner in below(node)]
    positive = [node for node in query.filters if _has_rows(node)]
    if query.sort or len(query.types) > 1:
        raise refused("_contained", "goes with a search of one type, without _sort")
    if not positive or any(not isinstance(node, Criterion | Coded | AllOf | AnyOf | Not) for node in nodes):
        raise refused("_contained", "needs a parameter of the contained resource itself, and goes with no chain and no _has")


def _has_rows(node: Filter) -> bool:
    if isinstance(node, Coded):
        return not node.negated
    return isinstance(node, Criterion) and node.modifier is None and node.param.pid != 0 and node.param.code not in {"_text", "_content"}


def _count(text: str | None) -> int:
    return DEFAULT_COUNT if text is None else min(_number("_count", text), MAX_COUNT)


def _number(name: str, text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise refused(name, f"is a whole number from 0, not '{text[:80]}'")
    return int(text)


def _elements(value: str) -> list[str]:
    names = [name for name in split(value, ",") if name]
    for name in names:
        if not _ELEMENT.fullmatch(name):
            raise refused("_elements", f"names elements, and '{name[:80]}' is no name")
    return names


def _refuse_unprintable(name: str, value: str) -> None:
    for text in (name, value):
        if "\0" in text or not _is_unicode(text):
            raise Outcome("parameter", f"The parameter {name[:80]!a} contains characters that no text has")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
