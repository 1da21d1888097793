"""Reference parameters: by id, by type and id, or by absolute or canonical URL.

https://hl7.org/fhir/R4/search.html#reference, https://hl7.org/fhir/R4/references.html#canonical

A reference below one of the server's own base URLs is the same as the relative one. Versions of references do not count; those of canonical URLs
do when a query names one. References to contained resources and by identifier only have no row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from fhir_server.search.statement import Statement, any_of, equals
from fhir_server.spec import Element

from .kind import Context, Maker, Row, capped, unescape

TABLE: Final = "sp_reference"
MODIFIERS: Final[frozenset[str]] = frozenset()
ORDER: Final = ("id", "id", 'text COLLATE "C"')

ABSOLUTE: Final = 0
"""The type of rows that hold a URL."""
_LOCAL: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.ASCII)
_TYPE_IN_URL: Final = re.compile(r".*/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}", re.ASCII)


class Target(NamedTuple):
    """`type` None is any type of that id."""

    id: str
    type: int | None


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (id, type number)."""
    del element
    if fhir_type == "Reference":

        def reference(value: dict[str, Any]) -> tuple[Row, ...]:
            text = value.get("reference")
            found = locate(text, context) if text else None
            return (found,) if found else ()

        return reference
    if fhir_type in {"canonical", "uri", "url"}:

        def canonical(value: str) -> Iterator[Row]:
            found = locate(value.partition("#")[0], context)
            if found is not None:
                yield found
                if found[1] == ABSOLUTE and "|" in value:
                    yield capped(value.partition("|")[0]), ABSOLUTE

        return canonical
    return _inline(context) if fhir_type == "Resource" else None


def _inline(context: Context) -> Maker:
    """Rows of a resource that stands in place of a reference, as in a Bundle."""

    def inline(value: dict[str, Any]) -> Iterator[Row]:
        number = context.types.get(value.get("resourceType", ""))
        if number is not None and "id" in value:
            yield value["id"], number

    return inline


def locate(text: str, context: Context) -> tuple[str, int] | None:
    """(id, type number) of a reference to this server, (URL, 0) of one elsewhere, None for what points to nothing of its own."""
    found = _LOCAL.fullmatch(text)
    if found is None and ":" in text:
        whole = text.partition("/_history/")[0]
        base = "/".join(whole.rsplit("/", 2)[:-2]) + "/"
        found = _LOCAL.fullmatch(text, len(base)) if base in context.bases else None
        if found is None:
            return capped(whole), ABSOLUTE
    if found is not None and found[1] in context.types:
        return found[2], context.types[found[1]]
    return None


def points_to(value: dict[str, Any], fhir_type: str, context: Context) -> bool:
    """Whether a Reference is to a resource of a type, as far as its own text or `type` tells: what `resolve() is` asks without resolving."""
    text = value.get("reference")
    found = locate(text, context) if text else None
    if found is not None and found[1] != ABSOLUTE:
        return found[1] == context.types.get(fhir_type)
    if "type" in value:
        return bool(value["type"] == fhir_type)
    named = _TYPE_IN_URL.fullmatch(found[0]) if found else None
    return named is not None and named[1] == fhir_type


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Target:
    """`id`, `Type/id` or a URL; `modifier` is the type of a bare id, as is the only type that the parameter may point to."""
    plain = unescape(text)
    known = _LOCAL.fullmatch(plain)
    if known and known[1] not in context.types:
        raise ValueError(f"names no resource type: '{known[1]}'")
    found = locate(plain, context)
    if found is not None:
        wrong = modifier is not None and found[1] != context.types[modifier]
        # What contradicts its own modifier points nowhere: no row has an empty id.
        return Target("" if wrong else found[0], found[1])
    if "/" in plain:
        raise ValueError(f"is no reference: '{plain[:80]}'")
    only = modifier or (targets[0] if len(targets) == 1 else None)
    return Target(plain, context.types[only] if only else None)


def predicate(values: Sequence[Target], at: str) -> Statement:
    """One equation per type."""
    by_type: defaultdict[int | None, list[str]] = defaultdict(list)
    for target in dict.fromkeys(values):
        by_type[target.type].append(target.id)
    return any_of(_of_type(number, ids, at) for number, ids in by_type.items())


def _of_type(number: int | None, ids: list[str], at: str) -> Statement:
    condition = equals(f"{at}id", list(ids))
    return condition if number is None else condition.and_(Statement(f"{at}type = {number}"))


def ends(row: Row) -> tuple[str, str]:
    """The value, for either direction."""
    return row[0], row[0]


def matches(value: Target, row: Row) -> bool:
    """Id and type agree."""
    return bool(row[0] == value.id and value.type in (None, row[1]))
