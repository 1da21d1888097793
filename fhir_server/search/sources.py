"""Where a search reads: the tables as they are, or as they were at an earlier moment.

A page link lives longer than its transaction, yet every page has to answer from one state. Between two pages few resources change; for those the
rows of their versions of that moment are laid over the tables, and everything else is read where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .statement import Statement


@dataclass(frozen=True, slots=True)
class Sources:
    """The tables of a search: as they are where `highest` is None.

    Else resources with numbers above `highest` are not there, and `changed` are the numbers of those that are to be read from `rows`: by table, a
    JSON array of rows as objects.
    """

    highest: int | None = None
    changed: tuple[int, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)

    def table(self, name: str, alias: str) -> Statement:
        """What stands in FROM for a table under an alias."""
        if self.highest is None:
            return Statement(f"{name} {alias}")
        if not self.changed:
            return Statement(f"(SELECT * FROM {name} WHERE rid <= %s) {alias}", (self.highest,))  # noqa: S608 - our own table names
        text = (
            f"(SELECT * FROM {name} WHERE rid <= %s AND rid <> ALL(%s::bigint[])"  # noqa: S608 - as above
            f" UNION ALL SELECT * FROM json_populate_recordset(NULL::{name}, %s::json)) {alias}"
        )
        return Statement(text, (self.highest, list(self.changed), self.rows.get(name, "[]")))


CURRENT = Sources()
