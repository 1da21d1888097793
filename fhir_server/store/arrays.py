"""Array parameters, as statements have them that take many keys at once.

The planner does not see how long these are. Where it does, a plan for the keys at hand seems cheaper than one for any, so it makes another each time:
that was 0.1 to 0.7 ms of each such statement, and a third of what a booking cost PostgreSQL.
https://www.postgresql.org/docs/current/sql-prepare.html
"""

from __future__ import annotations


def rows_of(*types: str) -> str:
    """For a FROM: `unnest` of as many parameters as types are named; `rows_of("smallint", "text")` has rows of two columns."""
    return f"unnest({', '.join(f'(SELECT %s::{each}[])' for each in types)})"


def one_of(type_: str) -> str:
    """What a column is compared with: `r.id = {one_of("text")}`."""
    return f"ANY((SELECT %s::{type_}[])::{type_}[])"
