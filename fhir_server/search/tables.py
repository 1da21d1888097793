"""The tables that searches run over, for migrations and for whoever writes rows into them.

https://hl7.org/fhir/R4/search.html#ptypes

One narrow table per parameter type. `pid` names a parameter of one resource type, so that it stands for the type too; `rid` names a resource.
Rows exist for current, undeleted versions only, and no two rows of a table are equal. Equality types have one index, which ends in `rid`: a search
by one value is a range of that index in page order. Range types have one index per end and one by resource, which serves sorting and ranges
that filter what another parameter found. Index rows are the main cost of a write: a further index needs a figure that pays for it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import TIMESTAMP, BigInteger, Boolean, Column, Identity, Index, Integer, MetaData, Numeric, SmallInteger, Table, Text, text

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
    Index("search_param_type_code", "type", "code", unique=True),
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
    _text("code"),
    Column("system", Integer, nullable=False),
    _rid(),
    Index("sp_token_code", "pid", "code", "rid", postgresql_include=["system"]),
)
sp_string: Final = Table(
    "sp_string",
    metadata,
    _pid(),
    _text("folded"),
    _text("value"),
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
    Column("lo", TIMESTAMP(timezone=True), nullable=False),
    Column("hi", TIMESTAMP(timezone=True), nullable=False),
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
    Column("lo", Numeric, nullable=False),
    Column("hi", Numeric, nullable=False),
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
    Column("lo", Numeric, nullable=False),
    Column("hi", Numeric, nullable=False),
    Column("system", Integer, nullable=False),
    _text("code"),
    _text("unit"),
    _rid(),
    *_extremes(),
    Index("sp_quantity_lo", "pid", "lo", "rid", postgresql_include=["hi"]),
    Index("sp_quantity_hi", "pid", "hi", "rid", postgresql_include=["lo"]),
    Index("sp_quantity_rid", "rid", "pid"),
)
sp_reference: Final = Table(
    "sp_reference",
    metadata,
    _pid(),
    # A local id with its type, or an absolute URL with type 0.
    _text("id"),
    Column("type", SmallInteger, nullable=False),
    _rid(),
    # Upper end of the resource's main date, in rows that point to a Patient: one index then serves `patient=X&_sort=-date`.
    Column("clinical", TIMESTAMP(timezone=True)),
    Index("sp_reference_id", "pid", "id", "type", "rid"),
    Index("sp_reference_clinical", "pid", "id", "type", "clinical", "rid", postgresql_where=text("clinical IS NOT NULL")),
)
sp_uri: Final = Table(
    "sp_uri",
    metadata,
    _pid(),
    _text("value"),
    _rid(),
    Index("sp_uri_value", "pid", "value", "rid"),
)
