"""Columns as the tables of all packages have them. What is compared is collated as bytes, so that an index serves every comparison."""

from __future__ import annotations

from typing import Any

from sqlalchemy import TIMESTAMP, BigInteger, Boolean, Column, ForeignKey, Identity, Integer, Numeric, Text, text
from sqlalchemy.dialects.postgresql import ARRAY


def string(name: str, *refers: ForeignKey, nullable: bool = False, **options: Any) -> Column[str]:
    """A text that is looked up or compared: an id, a code, a name."""
    return Column(name, Text(collation="C"), *refers, nullable=nullable, **options)


def strings(name: str) -> Column[Any]:
    """Several of these."""
    return Column(name, ARRAY(Text(collation="C")), nullable=False)


def moment(name: str, *, nullable: bool = False, **options: Any) -> Column[Any]:
    """A moment, whatever the zone of who asks."""
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable, **options)


def serial(name: str = "id") -> Column[int]:
    """The number of a row, by which it is known; later rows have higher ones."""
    return Column(name, BigInteger, Identity(), primary_key=True)


def count(name: str) -> Column[int]:
    """How often something was done: none at first."""
    return Column(name, Integer, nullable=False, server_default=text("0"))


def amount(name: str, *, nullable: bool = False) -> Column[Any]:
    """Money, exact to whatever digits its currency has."""
    return Column(name, Numeric, nullable=nullable)


def flag(name: str, default: str = "false") -> Column[bool]:
    """Whether something is so; not at first."""
    return Column(name, Boolean, nullable=False, server_default=text(default))
