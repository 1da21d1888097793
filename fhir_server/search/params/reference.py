"""Reference parameters: by id, by type and id, or by absolute or canonical URL.

https://hl7.org/fhir/R4/search.html#reference, https://hl7.org/fhir/R4/references.html#canonical

A reference below one of the server's own base URLs is the same as the relative one. The version of a reference, as that of a canonical URL, counts
when a query names one: `Patient/1` finds references to any version of it, `Patient/1/_history/2` only those to this one. References to contained
resources have no row, and those by identifier only one of `:identifier`.

`:above` and `:below` go by the segments of a URL's path; of a canonical URL with a version, `:below` goes by the parts of the version: `|1` has `1.2`
below it. Of resources that lie below each other, such as Locations, the query knows more.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fhir_server.search.statement import Statement, any_of, equals
from fhir_server.spec import Element

from . import uri
from .kind import Context, Maker, Row, capped, unescape

TABLE: Final = "sp_reference"
MODIFIERS: Final = frozenset({"above", "below"})
ORDER: Final = ("id", "id", 'text COLLATE "C"')

ABSOLUTE: Final = 0
"""The type of rows that hold a URL."""
_LOCAL: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.ASCII)
_is_id: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII).fullmatch
_VERSION: Final = "/_history/"
_TYPE_IN_URL: Final = re.compile(r".*/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}", re.ASCII)


class Target(NamedTuple):
    """`type` None is any type of that id. `below` is the character behind which URLs or versions below `id` go on; `above` are those above it."""

    id: str
    type: int | None
    below: str = ""
    above: tuple[str, ...] = ()


def maker(fhir_type: str, element: Element | None, context: Context) -> Maker | None:
    """Rows (id, type number)."""
    del element
    if fhir_type == "Reference":
        number_of = context.types.get

        def reference(value: dict[str, Any]) -> tuple[Row, ...]:
            text: str = value.get("reference", "")
            name, _, identity = text.partition("/")
            # Nearly all are a type and an id, which this proves in a third of the time.
            if (number := number_of(name)) is not None and _is_id(identity):
                return ((identity, number),)
            if text.startswith("#"):
                # To a contained resource, or with nothing behind it to the container.
                return ((capped(text), ABSOLUTE),) if len(text) > 1 else ()
            found = locate(text, context) if text else None
            if found is None:
                return ()
            return (found, (_versioned(text, context), ABSOLUTE)) if _VERSION in text else (found,)

        return reference
    if fhir_type in {"canonical", "uri", "url"}:

        def canonical(value: str) -> tuple[Row, ...]:
            text = value.partition("#")[0]
            found = locate(text, context)
            if fhir_type == "url" and "?" in text:
                # An address of this server, as Binary/1?_format=json, leads to the same whatever is asked for with it.
                plain = locate(text.partition("?")[0], context)
                found = plain if plain is not None and plain[1] != ABSOLUTE else found
            if found is None:
                return ()
            return (found, (capped(value.partition("|")[0]), ABSOLUTE)) if found[1] == ABSOLUTE and "|" in value else (found,)

        return canonical
    return _inline(context) if fhir_type == "Resource" else None


def _inline(context: Context) -> Maker:
    """Rows of a resource that stands in place of a reference, as in a Bundle."""

    def inline(value: dict[str, Any]) -> tuple[Row, ...]:
        number = context.types.get(value.get("resourceType", ""))
        return ((value["id"], number),) if number is not None and "id" in value else ()

    return inline


def locate(text: str, context: Context) -> tuple[str, int] | None:
    """(id, type number) of a reference to this server, (URL, 0) of one elsewhere, of any version; None for what points to nothing of its own."""
    found = _LOCAL.fullmatch(text)
    if found is None and ":" in text and text[0] != "#":
        found = _LOCAL.fullmatch(text, len(_own_base(text, context)))
        if found is None:
            return capped(text.partition(_VERSION)[0]), ABSOLUTE
    if found is not None and found[1] in context.types:
        return found[2], context.types[found[1]]
    return None


def _own_base(text: str, context: Context) -> str:
    """The server's own base URL that an absolute reference begins with; empty for another's."""
    if "://" not in text:
        return ""
    base = "/".join(text.partition(_VERSION)[0].rsplit("/", 2)[:-2]) + "/"
    return base if base in context.bases else ""


def _versioned(text: str, context: Context) -> str:
    """How a reference to a version stands in a row of its own: relative, if it is to this server."""
    return capped(text[len(_own_base(text, context)) :])


def points_to(value: dict[str, Any], fhir_type: str, context: Context) -> bool:
    """Whether a Reference is to a resource of a type, as far as its own text or `type` tells: what `resolve() is` asks without resolving.

    A reference to a contained resource is to any type: its text does not tell.
    """
    text = value.get("reference")
    if text and text[0] == "#":
        return True
    found = locate(text, context) if text else None
    if found is not None and found[1] != ABSOLUTE:
        return found[1] == context.types.get(fhir_type)
    if "type" in value:
        return bool(value["type"] == fhir_type)
    named = _TYPE_IN_URL.fullmatch(found[0]) if found else None
    return named is not None and named[1] == fhir_type


def parse(text: str, modifier: str | None, targets: tuple[str, ...], context: Context) -> Target:
    """`id`, `Type/id` or a URL, the latter two with a version or without one.

    `modifier` is the type of a bare id, as is the only type that the parameter may point to; `above` and `below` take URLs only.
    """
    plain = unescape(text)
    if modifier in MODIFIERS:
        return _below(plain) if modifier == "below" else _above(plain)
    known = _LOCAL.fullmatch(plain)
    if known and known[1] not in context.types:
        raise ValueError(f"names no resource type: '{plain[:80]}'")
    found = locate(plain, context)
    if found is not None:
        if modifier is not None and found[1] != context.types[modifier]:
            # What contradicts its own modifier points nowhere: no row has an empty id.
            return Target("", found[1])
        return Target(_versioned(plain, context), ABSOLUTE) if _VERSION in plain else Target(*found)
    if "/" in plain:
        raise ValueError(f"is no reference: '{plain[:80]}'")
    only = modifier or (targets[0] if len(targets) == 1 else None)
    return Target(plain, context.types[only] if only else None)


def _below(text: str) -> Target:
    url, bar, version = text.partition("|")
    return Target(f"{uri.top(url)}|{version}", ABSOLUTE, ".") if bar and version else Target(uri.top(url), ABSOLUTE, "/")


def _above(text: str) -> Target:
    url, _, version = text.partition("|")
    if not version:
        found = uri.ancestors(url)
    else:
        parts = version.split(".", 10)
        found = [f"{url}|{'.'.join(parts[:number])}" for number in range(len(parts), 0, -1)]
    return Target(capped(found[0]), ABSOLUTE, above=tuple(map(capped, found[1:])))


def predicate(values: Sequence[Target], at: str) -> Statement:
    """One equation per type; a range of the index for what lies below."""
    by_type: defaultdict[int | None, list[str]] = defaultdict(list)
    ranges = []
    for target in dict.fromkeys(values):
        if target.below:
            ranges.append(uri.below(f"{at}id", target.id, target.below).and_(Statement(f"{at}type = {ABSOLUTE}")))
        else:
            by_type[target.type] += [target.id, *target.above]
    return any_of([*(_of_type(number, ids, at) for number, ids in by_type.items()), *ranges])


def _of_type(number: int | None, ids: list[str], at: str) -> Statement:
    condition = equals(f"{at}id", list(ids))
    return condition if number is None else condition.and_(Statement(f"{at}type = {number}"))


def ends(row: Row) -> tuple[str, str]:
    """The value, for either direction."""
    return row[0], row[0]


def matches(value: Target, row: Row) -> bool:
    """Id and type agree."""
    if value.below:
        return bool(row[1] == ABSOLUTE and uri.is_below(row[0], value.id, value.below))
    return bool((row[0] == value.id or row[0] in value.above) and value.type in (None, row[1]))
