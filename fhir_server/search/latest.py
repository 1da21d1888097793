"""The newest matches of each code in SQL: what `$lastn` is made from. https://hl7.org/fhir/R4/observation-operation-lastn.html"""

# ruff: noqa: S608 - SQL is put together from our own table names and fragments; values are always parameters.

from __future__ import annotations

from typing import Final

from .compile import MAX_PAGE_BYTES
from .conditions import Conditions, numbered
from .grant import Grant
from .query import Query
from .registry import Registry
from .shape import has_own_plan, shape
from .sources import CURRENT, Sources
from .statement import Statement

MAX_MATCHED: Final = 50_000
"""Matches that are put into groups; of that many the statement takes half a second."""


def compile_latest(query: Query, registry: Registry, grant: Grant, most: int, limit: int, sources: Sources = CURRENT) -> Statement:
    """The newest `most` matches of each set of codes, and all that are as old as the last of these, newest first, `limit` rows at the most.

    Rows (id, recency, codes, texts, body, matched): equal `recency` is the same date, less is newer; `texts` count where there are no `codes`; `body`
    is NULL beyond MAX_PAGE_BYTES; `matched` is how many there were to choose from, which stops at MAX_MATCHED + 1.
    Raises Outcome `forbidden` if the grant may not search the type.
    """
    params = registry.supported_params(query.type)
    base = shape(query, Conditions(registry, grant, sources))
    found = base.select(f"DISTINCT {base.rids[0]} AS rid")
    dates, codes = sources.table("sp_date", "d"), sources.table("sp_token", "t")
    texts, resources = sources.table("sp_string", "s"), sources.table("resource", "r")
    # What has no date is never a tie: all of a patient's would be newest at once.
    newest = "k.hi DESC NULLS LAST, k.lo DESC, CASE WHEN k.hi IS NULL THEN k.rid END DESC"
    text = f"""
WITH m AS MATERIALIZED ({found.text} LIMIT {MAX_MATCHED + 1}),
k AS (
  SELECT m.rid, d.lo, d.hi,
    (SELECT array_agg(DISTINCT t.system || '|' || t.code) FROM {codes.text} WHERE t.rid = m.rid AND {numbered(params["code"].pids, "t")}) AS codes,
    (SELECT array_agg(DISTINCT s.value) FROM {texts.text} WHERE s.rid = m.rid AND {numbered(params["code:text"].pids, "s")}) AS texts
  FROM m LEFT JOIN {dates.text} ON d.rid = m.rid AND {numbered(params["date"].pids, "d")} AND d.high
),
w AS (
  SELECT k.rid, k.codes, k.texts, rank() OVER (ORDER BY {newest}) AS recency,
    rank() OVER (PARTITION BY k.codes, CASE WHEN k.codes IS NULL THEN k.texts END ORDER BY {newest}) AS place
  FROM k
),
p AS (
  SELECT r.id, r.rid, w.recency, w.codes, w.texts, v.body, sum(octet_length(v.body)) OVER (ORDER BY w.recency, r.rid) AS size
  FROM w JOIN {resources.text} ON r.rid = w.rid JOIN resource_version v ON v.vid = r.vid WHERE w.place <= {most}
)
SELECT p.id, p.recency, p.codes, p.texts, CASE WHEN p.size <= {MAX_PAGE_BYTES} THEN p.body END, (SELECT count(*) FROM m)
FROM p ORDER BY p.recency, p.rid DESC LIMIT {limit}"""
    return Statement(text, found.params + codes.params + texts.params + dates.params + resources.params, by_value=has_own_plan(query))
