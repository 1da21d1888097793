"""A search as a value: what the query text means once every name is known and every value is read.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlencode

from fhir_server.spec.model import SearchType

from .params import KINDS

OF_THE_POINTER: Final = frozenset({"_id", "_lastUpdated"})
"""Parameters that are columns of the resource's own row."""

DEFAULT_COUNT: Final = 20
MAX_COUNT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Param:
    """A search parameter of one resource type that works. `targets` are the types that a reference may point to, empty for any."""

    pid: int
    code: str
    type: SearchType
    url: str
    targets: tuple[str, ...] = ()

    @property
    def sortable(self) -> bool:
        """Whether `_sort` may name it."""
        return self.code in OF_THE_POINTER or KINDS[self.type].ORDER is not None


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter of a query, satisfied by any of its values.

    `modifier` is None, `not` or `missing`, where the one value is a bool; modifiers that change how a value is compared are in the values.
    """

    param: Param
    values: tuple[Any, ...]
    modifier: Literal["not", "missing"] | None = None


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of `_sort`."""

    param: Param
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Include:
    """`_include` or `_revinclude`: references of `source` under the parameter `code`, `*` for all, to `target` or to any type."""

    source: str
    code: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search of one resource type. All `filters` must hold.

    `count` is the size of a page; `total` and `summary` are None where the query leaves them to the server, and `summary` is `count` also for
    `_count=0`. `cursor` is the text of a page link, still unread. `applied` are the parameters that had an effect, as they were sent, for the self
    link; `ignored` are the names of the others, each with the reason.
    """

    type: str
    filters: tuple[Criterion, ...] = ()
    sort: tuple[SortKey, ...] = ()
    count: int = DEFAULT_COUNT
    total: Literal["none", "estimate", "accurate"] | None = None
    summary: Literal["true", "text", "data", "count", "false"] | None = None
    elements: tuple[str, ...] = ()
    includes: tuple[Include, ...] = ()
    revincludes: tuple[Include, ...] = ()
    cursor: str | None = None
    applied: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """Type and parameters as in the self link, `Patient?name=ann`, without the cursor: what a cursor is bound to."""
        return f"{self.type}?{urlencode(self.applied)}"

    def lock_token(self) -> str | None:
        """A text that every other condition meeting the same resources also has: that of its one identifier with a system. None if there is none."""
        found = [criterion for criterion in self.filters if criterion.param.code == "identifier"]
        if len(found) != 1 or found[0].modifier is not None or len(found[0].values) != 1:
            return None
        code, system = found[0].values[0]
        return f"{system}|{code}" if code is not None and system is not None else None
