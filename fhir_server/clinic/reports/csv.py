"""A report as a table for spreadsheets. https://www.rfc-editor.org/rfc/rfc4180

A spreadsheet takes a text that begins like a formula for one, and works it out: such a text gets an apostrophe before it. Numbers are ours.
"""

from __future__ import annotations

import csv
import io
from typing import Final

from .report import Column, Made, Value

TOTAL: Final = "total"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_csv(made: Made) -> str:
    """The names of the columns, the rows, and the totals, whose first cell says so; an empty cell where a column does not apply."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.name for column in made.columns])
    for row in made.rows:
        writer.writerow([_cell(column, value) for column, value in zip(made.columns, row, strict=True)])
    for row in made.totals:
        cells = [_cell(column, value) for column, value in zip(made.columns, row, strict=True)]
        writer.writerow([cells[0] or TOTAL, *cells[1:]])
    return text.getvalue()


def _cell(column: Column, value: Value) -> str:
    if value is None:
        return ""
    text = str(value)
    return f"'{text}" if column.kind == "text" and text.startswith(_FORMULA) else text
