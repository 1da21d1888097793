"""The files of `mappings/`: rows of CSV with the rows that a site has put in their place. Every fault names its file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Kind = Literal["message", "segment", "datatype", "table", "outbound"]
COLUMNS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "message": ("row", "at", "if", "resource", "map", "link", "key"),
    "segment": ("row", "from", "if", "to", "map", "table", "value"),
    "datatype": ("row", "from", "if", "to", "map", "table", "value"),
    "table": ("row", "code", "to", "system", "display"),
    "outbound": ("row", "field", "if", "from", "as", "table", "value"),
}


class MappingFault(Exception):  # noqa: N818 - said of a file, as a fault of it
    """What is wrong in a mapping file, with its place."""

    def __init__(self, text: str, row: Row | None = None, file: str = "") -> None:
        """Takes the row that is at fault, or the file."""
        super().__init__(f"{row.file}:{row.line}: {text}" if row is not None else f"{file}: {text}")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where it stands, its name in the official map or here, and its cells by column, without blanks around them."""

    kind: Kind
    file: str
    line: int
    name: str
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


def load(kind: Kind, folder: Path, site: Path | None = None) -> dict[str, list[Row]]:
    """The rows of each file of a kind, by the file's name without its end.

    A row of the same name in the site's file of the same name takes the place of ours, one that we do not have is added at the end; a row
    whose cells are all empty but its name takes ours away. Raises MappingFault.
    """
    found = {path.stem: list(_read(kind, path, folder)) for path in sorted((folder / kind).glob("*.csv"))}
    if site is not None:
        for path in sorted((site / kind).glob("*.csv")):
            found[path.stem] = _replaced(found.get(path.stem, []), list(_read(kind, path, site)))
    return found


def _read(kind: Kind, path: Path, folder: Path) -> Iterator[Row]:
    name, columns = str(path.relative_to(folder)), COLUMNS[kind]
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MappingFault(f"cannot be read as UTF-8 ({type(error).__name__})", file=name) from None
    lines = csv.reader(text.splitlines())
    head = tuple(cell.strip() for cell in next(lines, ()))
    if head != columns:
        raise MappingFault(f"the first line has to be {','.join(columns)}", file=f"{name}:1")
    seen: set[str] = set()
    for cells in lines:
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) > len(columns):
            raise MappingFault(
                f"there are {len(cells)} cells, and {len(columns)} columns; put quotes around a cell with a comma", file=f"{name}:{lines.line_num}"
            )
        stripped = [cell.strip() for cell in cells] + [""] * len(columns)
        row = Row(kind, name, lines.line_num, cells[0].strip(), dict(zip(columns, stripped, strict=False)))
        if not row.name or row.name in seen:
            raise MappingFault(f"the row '{row.name}' is there twice" if row.name else "the row has no name", row)
        seen.add(row.name)
        yield row


def _replaced(ours: list[Row], site: list[Row]) -> list[Row]:
    by_name = {row.name: row for row in site}
    kept = [by_name.pop(row.name, row) for row in ours]
    return [row for row in [*kept, *by_name.values()] if any(cell for column, cell in row.cells.items() if column != "row")]
