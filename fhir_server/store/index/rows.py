"""Index rows on their way into the search tables: merged per table, told apart from what is there, few as JSON and many by COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Final

import msgspec
from psycopg import errors, sql
from sqlalchemy import Table

from fhir_server.store.database import Connection
from fhir_server.store.tables import INDEX_TABLES

from .dictionary import Dictionary
from .statements import columns, covering, unindex, write


@dataclass(frozen=True, slots=True)
class Fit:
    """What a process makes index rows under.

    The settings' fingerprint, how many of the recorded addresses it knows as its own, and the generation of the search parameters that it knows;
    `listening` is that of who listens to changes.
    """

    fingerprint: str
    addresses: int = 0
    generation: int = 0
    listening: int = 0


class Stale(Exception):  # noqa: N818 - an event, not a fault: the process looks again at what is recorded
    """The index rows in the database were made under other settings, or with other search parameters, than this process has, or knows.

    Or others listen to changes than it knows of.
    """


Row = tuple[Any, ...]
IndexRows = dict[str, list[Row]]
"""Rows by table name: as the registry makes them, or with `rid` at their end once merged."""

COPY_FROM: Final = 3_000
"""Index rows in a chunk from which COPY is cheaper than JSON."""

# SQLAlchemy's names are of a class of its own, which takes twice the time as a key.
_COLUMNS: Final = {str(table.name): tuple(map(str, columns(table))) for table in INDEX_TABLES}
_KEYS: Final = {name: (*names, "rid") for name, names in _COLUMNS.items()}
_OBJECTS: Final[dict[str, Callable[..., msgspec.Struct]]] = {
    name: msgspec.defstruct(name, [(key, Any) for key in keys], gc=False) for name, keys in _KEYS.items()
}
"""Rows as JSON has them: made and encoded in half the time of dictionaries."""
_SYSTEMS: Final = {name: [at for at, column in enumerate(names) if column.endswith("system")] for name, names in _COLUMNS.items()}
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


def merge(parts: Iterable[tuple[Mapping[str, Sequence[Row]], int]]) -> IndexRows:
    """Rows of many resources by table, each with its resource number at the end."""
    merged: IndexRows = {name: [] for name in _COLUMNS}
    for rows, rid in parts:
        end = (rid,)
        for table, made in rows.items():
            merged[table] += [row + end for row in made]
    return merged


def difference(old: IndexRows, new: IndexRows) -> tuple[IndexRows, IndexRows]:
    """What is only in the old rows, and what is only in the new: an update writes no more than it changes."""
    gone: IndexRows = {}
    added: IndexRows = {}
    for table in _COLUMNS:
        before, after = set(old.get(table, ())), set(new.get(table, ()))
        gone[table] = list(before - after)
        added[table] = list(after - before)
    return gone, added


def write_rows(
    connection: Connection,
    dictionary: Dictionary,
    fit: Fit,
    head: tuple[bytes, *tuple[Sequence[Any], ...]],
    removed: IndexRows,
    added: IndexRows,
    *,
    inside: bool,
    heard: bool = False,
) -> None:
    """Takes old rows away, then runs the write statement with the new ones, behind its first arguments `head`.

    Many rows go by COPY, if `inside` a transaction. `heard` says that somebody listens to changes of these resources. Raises Stale where the rows
    that are there were made under other settings than `fit`.
    """
    if any(removed.values()):
        tables = covering(removed)
        connection.execute(unindex(tables), [_encode(part).decode() for part in as_json(dictionary, removed, tables)])
    many = inside and sum(map(len, added.values())) >= COPY_FROM
    inline = {} if many else added
    tables = covering(inline)
    bodies, *lists = head
    texts = [_encode(part).decode() for part in (*lists, *as_json(dictionary, inline, tables))]
    try:
        connection.execute(write(tables, heard=heard), (bodies, *texts, fit.fingerprint, fit.addresses, fit.generation, fit.listening))
    except errors.DivisionByZero:
        raise Stale from None
    if many:
        copy_rows(connection, dictionary, added)


def as_json(dictionary: Dictionary, rows: IndexRows, tables: Sequence[Table] = INDEX_TABLES) -> list[list[msgspec.Struct]]:
    """Merged rows as objects by column, for each of the index tables in its turn."""
    numbered = _numbered(dictionary, rows)
    return [list(starmap(_OBJECTS[table.name], numbered.get(table.name, ()))) for table in tables]


def _numbered(dictionary: Dictionary, rows: IndexRows) -> IndexRows:
    """The rows with the numbers of their code systems in place of the URLs."""
    coded = {table: (_SYSTEMS[table], made) for table, made in rows.items() if made and _SYSTEMS[table]}
    known = dictionary.systems({row[at] for places, made in coded.values() for row in made for at in places})
    numbered = dict(rows)
    for table, (places, made) in coded.items():
        first, *others = places
        if others:
            numbered[table] = [tuple([known[value] if at in places else value for at, value in enumerate(row)]) for row in made]
        else:
            numbered[table] = [(*row[:first], known[row[first]], *row[first + 1 :]) for row in made]
    return numbered


def copy_rows(connection: Connection, dictionary: Dictionary, rows: IndexRows) -> None:
    """Adds merged rows by COPY, one per table that has any."""
    for table, made in _numbered(dictionary, rows).items():
        if made:
            names = sql.SQL(", ").join(map(sql.Identifier, _KEYS[table]))
            with connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)) as copy:
                for row in made:
                    copy.write_row(row)
