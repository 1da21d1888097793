"""What makes rows of the values at one place of the tree, for all parameters that meet there.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .params import KINDS, Context, Kind, Maker
from .params import reference as references
from .tree import Leaf, Rows

Pointed = tuple[tuple[int, ...], Mapping[str, tuple[int, ...]], Mapping[int, set[int]]]
"""Numbers of parameters: those of any target; those that want a type pointed to, by the type; and those that have what points to none of certain
types, with the numbers of the types."""


def pointing(kind: Kind, maker: Maker, pointed: Pointed, context: Context) -> Leaf:
    """Rows for parameters by what a reference points to."""
    anywhere, named, rest = pointed
    table, is_reference, types = kind.TABLE, kind is KINDS["reference"], context.types
    wanted = [(name, types.get(name), its) for name, its in named.items()]

    def chosen(met: Collection[int | None]) -> tuple[int, ...]:
        some = (pid for _, number, its in wanted if number in met for pid in its)
        return tuple(dict.fromkeys((*anywhere, *some, *(pid for pid, without in rest.items() if without.isdisjoint(met)))))

    # A row with a type says it already; that spares 1 µs for most references.
    known = {number: chosen((number,)) for _, number, _ in wanted}
    others = chosen(())

    def leaf(value: Any, out: Rows) -> None:
        rows = maker(value)
        if not rows:
            return
        if is_reference and rows[0][1] != references.ABSOLUTE:
            pids = known.get(rows[0][1], others)
        else:
            pids = chosen({number for name, number, _ in wanted if references.points_to(value, name, context)})
        into = out[table]
        for row in rows:
            for pid in pids:
                into.append((pid, *row))

    return leaf


def anyway(table: str, maker: Maker, pids: tuple[int, ...]) -> Leaf:
    """Rows for parameters whatever the value is."""
    return _one(table, maker, pids[0]) if len(pids) == 1 else _many(table, maker, pids)


# Loops and not comprehensions: for one row, as nearly always, these cost more than the row.
def _one(table: str, maker: Maker, pid: int) -> Leaf:
    def one(value: Any, out: Rows) -> None:
        for row in maker(value):
            out[table].append((pid, *row))

    return one


def _many(table: str, maker: Maker, pids: tuple[int, ...]) -> Leaf:
    def many(value: Any, out: Rows) -> None:
        for row in maker(value):
            for pid in pids:
                out[table].append((pid, *row))

    return many
