"""A Query to SQL: one statement per page, which stops as soon as the page is full.

https://hl7.org/fhir/R4/search.html

A search finds numbers of resources first and fetches the page's resources then. Pages continue behind the last row shown (keyset), so page 1,000
costs what page 1 costs and rows written meanwhile shift nothing. Numbers of parameters and types and the size of the page stand in the text, where a
prepared plan can count on them; values never do.
"""

# ruff: noqa: S608 - SQL is put together from our own table names and fragments; values are always parameters.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fhir_server.outcome import Outcome

from .conditions import Conditions, granted
from .cursor import Position
from .grant import Grant
from .order import clinical, keys, sorted_page
from .params import reference
from .params.reference import Target
from .query import Include, Query
from .registry import Registry
from .shape import Shape, alternatives, equals_number, has_own_plan, shape
from .sources import CURRENT, Sources
from .statement import Statement, join

MAX_PAGE_BYTES: Final = 64_000_000
"""Bodies larger than their share of this come as NULL, for the caller to fetch as far as there is room."""


def compile_search(query: Query, registry: Registry, grant: Grant, position: Position | None = None, sources: Sources = CURRENT) -> Statement:
    """One page behind a position, or the first: rows (rid, type, id, version, vid, body, *sort keys as texts), one more than the page holds.

    Newest first without `_sort`. Resources that lack a sort key come last. Raises Outcome `forbidden` if the grant may not search the type, and
    `parameter` for a position that has other keys than the query.
    """
    conditions = Conditions(registry, grant, sources, pages=True)
    kept = clinical(query, conditions)
    base = shape(query, conditions, keep=kept)
    sort = keys(query, conditions, base, kept)
    if position is not None and len(position.keys) != len(sort):
        raise Outcome("parameter", "The page link belongs to another search; start the search again")
    limit = query.count + 1
    page = sorted_page(base, sort, position, limit) if sort else _newest([shape(one, conditions) for one in alternatives(query)], position, limit)
    texts = "".join(f", p.k{number}::text" for number in range(len(sort)))
    order = [f"p.k{number}{' DESC' if key.descending else ''} NULLS LAST" for number, key in enumerate(sort)]
    order.append("p.rid" + ("" if sort and not sort[0].descending else " DESC"))
    return _fetched(page, sources, query.count, texts, ", ".join(order))._replace(by_value=has_own_plan(query))


def compile_count(query: Query, registry: Registry, grant: Grant, sources: Sources = CURRENT) -> Statement:
    """One row with the number of matches that the grant may see. Its cost grows with that number. Raises Outcome `forbidden`."""
    found = shape(query, Conditions(registry, grant, sources))
    return found.select("count(*)" if found.unique else f"count(DISTINCT {found.rids[0]})")._replace(by_value=has_own_plan(query))


def compile_matching(query: Query, registry: Registry, grant: Grant, limit: int, sources: Sources = CURRENT) -> Statement:
    """Up to `limit` matches in no order: rows (rid, type, id, vid). Raises Outcome `forbidden`."""
    base = shape(query, Conditions(registry, grant, sources))
    found = base.select(f"DISTINCT {base.rids[0]}")
    resources = sources.table("resource", "r")
    text = f"SELECT r.rid, r.type, r.id, r.vid FROM ({found.text} LIMIT {limit}) p JOIN {resources.text} ON r.rid = p.rid"
    return Statement(text, found.params + resources.params)


def compile_some(query: Query, registry: Registry, grant: Grant, limit: int, sources: Sources = CURRENT) -> Statement:
    """Up to `limit` matches in no order, some of them more than once: rows (rid, id). Stops after so many, which DISTINCT may not.

    Raises Outcome `forbidden`.
    """
    base, resources = shape(query, Conditions(registry, grant, sources)), sources.table("resource", "r")
    found = base.select(f"{base.rids[0]} AS rid")
    text = f"SELECT r.rid, r.id FROM ({found.text} LIMIT {limit}) p JOIN {resources.text} ON r.rid = p.rid"
    return Statement(text, found.params + resources.params, by_value=True)


def compile_referred(
    query: Query, registry: Registry, grant: Grant, link: tuple[Sequence[int], str], limit: int, sources: Sources = CURRENT
) -> Statement:
    """The ids of a type that the first `limit` matches refer to by some parameters: rows (id, how many matches there were).

    One row with a NULL id tells the number where they refer to none.
    `link` are the numbers of the reference parameters and the type they point to. Raises Outcome `forbidden`.
    """
    base = shape(query, Conditions(registry, grant, sources))
    found, links = base.select(f"{base.rids[0]} AS rid"), sources.table("sp_reference", "h")
    text = (
        f"WITH m AS MATERIALIZED ({found.text} LIMIT {limit}), n AS (SELECT count(*) AS n FROM m)"
        f" SELECT DISTINCT h.id, n.n FROM n LEFT JOIN (m JOIN {links.text} ON h.rid = m.rid AND {equals_number('h.pid', link[0]).text}"
        f" AND h.type = {registry.types[link[1]]}) ON TRUE"
    )
    return Statement(text, found.params + links.params, by_value=True)


def compile_revinclude(
    include: Include, registry: Registry, grant: Grant, targets: Sequence[Target], limit: int, sources: Sources = CURRENT
) -> Statement:
    """Up to `limit` resources that refer to `targets`, newest first: rows as of a search without sort keys.

    Of more than five times as many it looks at some only. Finds nothing where the grant may not search the source.
    """
    types = [name for name in (registry.types if include.source == "*" else (include.source,)) if grant.allows(name, "s")]
    pids = list(dict.fromkeys(pid for name in types for param in registry.referring(name, include.code) for pid in param.pids))
    if not pids or not targets:
        return Statement("SELECT WHERE FALSE")
    allowed = granted(grant, registry, types, "r", sources)
    wanted = reference.predicate(targets, "f.")
    links, resources = sources.table("sp_reference", "f"), sources.table("resource", "r")
    refers = Statement(f"{equals_number('f.pid', pids).text} AND ({wanted.text})", wanted.params)
    if allowed.text == "TRUE":
        source = links
    else:
        source = Statement(f"{links.text} JOIN {resources.text} ON r.rid = f.rid", links.params + resources.params)
        refers = refers.and_(allowed)
    # All at once, and then in order: newest first a plan would walk through everything, since those that refer to one resource lie together.
    gathered = Statement(f"SELECT f.rid FROM {source.text} WHERE {refers.text} LIMIT {5 * limit}", source.params + refers.params)
    page = f"SELECT DISTINCT g.rid FROM unnest(ARRAY({gathered.text})) AS g(rid) ORDER BY g.rid DESC LIMIT {limit}"
    return _fetched(Statement(page, gathered.params), sources, limit, "", "p.rid DESC")


def _fetched(page: Statement, sources: Sources, count: int, columns: str, order: str) -> Statement:
    share = MAX_PAGE_BYTES // (count + 1)
    own = f"r.rid, r.type, r.id, r.version, v.vid, CASE WHEN octet_length(v.body) <= {share} THEN v.body END"
    resources = sources.table("resource", "r")
    text = f"SELECT {own}{columns} FROM ({page.text}) p JOIN {resources.text} ON r.rid = p.rid JOIN resource_version v ON v.vid = r.vid"
    return Statement(f"{text} ORDER BY {order}", page.params + resources.params)


def _newest(bases: Sequence[Shape], position: Position | None, limit: int) -> Statement:
    pages = []
    for base in bases:
        # The bound on every join is the same bound; only written so does it reach whichever index the plan begins with.
        behind = [Statement(f"{rid} < %s", (position.rid,)) for rid in base.rids] if position else []
        rid = base.rids[0]
        found = base.select(f"{'' if base.unique else 'DISTINCT '}{rid}", where=behind)
        pages.append(Statement(f"{found.text} ORDER BY {rid} DESC LIMIT {limit}", found.params))
    if len(pages) == 1:
        return pages[0]
    united = join(" UNION ALL ", (Statement(f"({page.text})", page.params) for page in pages))
    return Statement(f"SELECT DISTINCT u.rid FROM ({united.text}) u ORDER BY u.rid DESC LIMIT {limit}", united.params)
