"""The tables that searches run over, for migrations and for whoever writes rows into them.

https://hl7.org/fhir/R4/search.html#ptypes

One narrow table per parameter type, and one per combination of types that composite parameters have. `pid` names a parameter of one resource
type, so that it stands for the type too, and its negative the same parameter of a contained resource; `rid` names a resource, the container of
a contained one. What several parameters say of a resource stands under one of them (see `sharing`).
Rows exist for current, undeleted versions only, and no two rows of a table are equal. Equality types have one index, which ends in `rid`: a search
by one value is a range of that index in page order. Range types have one index per end and one by resource, which serves sorting and ranges
that filter what another parameter found. Index rows are the main cost of a write: a further index needs a figure that pays for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

metadata: Final = MetaData()
"""Shared with the store's own tables."""


def _text(name: str, **options: Any) -> Column[str]:
    # Collation C compares bytes: prefixes are ranges, and an upgrade of the operating system cannot change the order.
    return Column(name, Text(collation="C"), nullable=False, **options)


def _pid() -> Column[int]:
    return Column("pid", SmallInteger, nullable=False)


def _rid() -> Column[int]:
    return Column("rid", BigInteger, nullable=False)


def _extremes() -> tuple[Column[bool], Column[bool]]:
    # The one row per (pid, rid) with the least and with the greatest value: sorting joins exactly one row.
    return Column("low", Boolean, nullable=False), Column("high", Boolean, nullable=False)


def _token() -> list[Column[Any]]:
    # The number of the code system, 0 for none.
    return [_text("code"), Column("system", Integer, nullable=False)]


def _string() -> list[Column[Any]]:
    return [_text("folded"), _text("value")]


def _span(of: Any) -> list[Column[Any]]:
    return [Column("lo", of, nullable=False), Column("hi", of, nullable=False)]


def _quantity() -> list[Column[Any]]:
    # As it stands, closed: lo <= x <= hi; and where UCUM has the unit, the same in base units, which `dimension` names.
    return [
        *_span(Numeric),
        Column("system", Integer, nullable=False),
        _text("code"),
        _text("unit"),
        Column("dimension", Text(collation="C")),
        Column("canonical_lo", Numeric),
        Column("canonical_hi", Numeric),
    ]


def _target() -> list[Column[Any]]:
    # A local id with its type, or an absolute URL with type 0.
    return [_text("id"), Column("type", SmallInteger, nullable=False)]


resource_type: Final = Table(
    "resource_type",
    metadata,
    Column("tid", SmallInteger, Identity(), primary_key=True),
    _text("name", unique=True),
)
search_param: Final = Table(
    "search_param",
    metadata,
    Column("pid", SmallInteger, Identity(), primary_key=True),
    _text("type"),
    _text("code"),
    _text("url"),
    # Of a parameter added at run time; the specification's own are not repeated here.
    Column("definition", Text),
    # Whether its rows are complete; until then an older parameter of the same code answers.
    Column("ready", Boolean, nullable=False, server_default=text("true")),
    # The id of the SearchParameter that it comes from; none for the specification's own, and for one whose resource no longer says so.
    Column("source", Text(collation="C")),
    # The resource number up to which rows have been made for what is not ready; -1 before the first.
    Column("walked", BigInteger, nullable=False, server_default=text("-1")),
    # When it ceased to be of use: its rows go, then it goes itself.
    Column("retired", TIMESTAMP(timezone=True)),
    Index("search_param_type_code", "type", "code", unique=True, postgresql_where=text("ready")),
)
token_system: Final = Table(
    "token_system",
    metadata,
    # 0 is "no system" and has no row here.
    Column("sid", Integer, Identity(), primary_key=True),
    _text("url", unique=True),
)

sp_token: Final = Table(
    "sp_token",
    metadata,
    _pid(),
    *_token(),
    _rid(),
    *_extremes(),
    Index("sp_token_code", "pid", "code", "rid", postgresql_include=["system"]),
    Index("sp_token_rid", "rid", "pid"),
)
sp_string: Final = Table(
    "sp_string",
    metadata,
    _pid(),
    *_string(),
    _rid(),
    *_extremes(),
    Index("sp_string_folded", "pid", "folded", "rid"),
    Index("sp_string_rid", "rid", "pid"),
)
sp_date: Final = Table(
    "sp_date",
    metadata,
    _pid(),
    # Half open: lo <= t < hi.
    *_span(TIMESTAMP(timezone=True)),
    _rid(),
    *_extremes(),
    Index("sp_date_lo", "pid", "lo", "rid", postgresql_include=["hi"]),
    Index("sp_date_hi", "pid", "hi", "rid", postgresql_include=["lo"]),
    Index("sp_date_rid", "rid", "pid"),
)
sp_number: Final = Table(
    "sp_number",
    metadata,
    _pid(),
    # Closed: lo <= x <= hi.
    *_span(Numeric),
    _rid(),
    *_extremes(),
    Index("sp_number_lo", "pid", "lo", "rid", postgresql_include=["hi"]),
    Index("sp_number_hi", "pid", "hi", "rid", postgresql_include=["lo"]),
    Index("sp_number_rid", "rid", "pid"),
)
sp_quantity: Final = Table(
    "sp_quantity",
    metadata,
    _pid(),
    *_quantity(),
    _rid(),
    *_extremes(),
    Index("sp_quantity_lo", "pid", "lo", "rid", postgresql_include=["hi"]),
    Index("sp_quantity_hi", "pid", "hi", "rid", postgresql_include=["lo"]),
    Index("sp_quantity_canonical_lo", "pid", "dimension", "canonical_lo", "rid", postgresql_where=text("dimension IS NOT NULL")),
    Index("sp_quantity_canonical_hi", "pid", "dimension", "canonical_hi", "rid", postgresql_where=text("dimension IS NOT NULL")),
    Index("sp_quantity_rid", "rid", "pid"),
)
sp_reference: Final = Table(
    "sp_reference",
    metadata,
    _pid(),
    *_target(),
    _rid(),
    # Upper end of the resource's main date, in rows that point to a Patient: one index then serves `patient=X&_sort=-date`.
    Column("clinical", TIMESTAMP(timezone=True)),
    # Codes of the resource's main token parameter, in rows that point to a Patient: one range then serves `patient=X&code=Y`.
    Column("codes", ARRAY(Text(collation="C"))),
    *_extremes(),
    Index("sp_reference_id", "pid", "id", "type", "rid", postgresql_include=["codes", "clinical"]),
    Index(
        "sp_reference_clinical",
        *("pid", "id", "type", "clinical", "rid"),
        postgresql_include=["codes"],
        postgresql_where=text("clinical IS NOT NULL"),
    ),
    Index("sp_reference_rid", "rid", "pid"),
)
sp_uri: Final = Table(
    "sp_uri",
    metadata,
    _pid(),
    _text("value"),
    _rid(),
    *_extremes(),
    Index("sp_uri_value", "pid", "value", "rid"),
    Index("sp_uri_rid", "rid", "pid"),
)
sp_position: Final = Table(
    "sp_position",
    metadata,
    _pid(),
    # Degrees, WGS 84.
    Column("latitude", Double, nullable=False),
    Column("longitude", Double, nullable=False),
    _rid(),
    Index("sp_position_latitude", "pid", "latitude", "rid", postgresql_include=["longitude"]),
    Index("sp_position_rid", "rid", "pid"),
)
sp_words: Final = Table(
    "sp_words",
    metadata,
    # That of `_content`; `_text` asks the same row for words of weight A.
    _pid(),
    # Folded words of the whole resource: those of the narrative have weight A; one lexeme, `=` and the type's name, stands for the type.
    Column("words", TSVECTOR, nullable=False),
    _rid(),
    # New rows wait in a list, 5 µs each, that is worked in whenever it has 512 kB: in 12 ms, so that neither a writer nor a search feels it much.
    # Without the list a row took 28 µs.
    Index("sp_words_words", "words", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": 512}),
    Index("sp_words_rid", "rid", "pid"),
)


def _composite(name: str, first: Sequence[Column[Any]], *others: Sequence[Column[Any]], ordered: str) -> Table:
    """Rows of two or three components that stand in one element; the columns of each as in its own table, behind `a_`, `b_`, `c_`.

    `ordered` is the column of the second component by which one index is ordered; the other index goes in page order.
    """
    columns = []
    for prefix, part in zip("abc", (first, *others), strict=False):
        for column in part:
            copy = column._copy()  # noqa: SLF001 - SQLAlchemy's own way to use a column twice
            copy.name = copy.key = f"{prefix}_{column.name}"
            columns.append(copy)
    names = [column.name for column in columns]
    head = names[0]
    return Table(
        name,
        metadata,
        _pid(),
        *columns,
        _rid(),
        Index(f"{name}_value", "pid", head, ordered, "rid", postgresql_include=[n for n in names if n in {"a_system", "b_hi", "b_system"}]),
        Index(f"{name}_page", "pid", head, "rid", postgresql_include=names[1:]),
        Index(f"{name}_rid", "rid", "pid"),
    )


sp_token_token: Final = _composite("sp_token_token", _token(), _token(), ordered="b_code")
sp_token_string: Final = _composite("sp_token_string", _token(), _string(), ordered="b_folded")
sp_token_date: Final = _composite("sp_token_date", _token(), _span(TIMESTAMP(timezone=True)), ordered="b_lo")
sp_token_quantity: Final = _composite("sp_token_quantity", _token(), _quantity(), ordered="b_lo")
sp_token_reference: Final = _composite("sp_token_reference", _token(), _target(), ordered="b_id")
sp_token_number_number: Final = _composite("sp_token_number_number", _token(), _span(Numeric), _span(Numeric), ordered="b_lo")
