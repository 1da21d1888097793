"""Sheets to PDF: pages set by Typst from the templates of this package. https://typst.app/docs/reference/pdf/

A sheet is JSON that the template reads as values: no text of it is ever parsed as markup. Figures: docs/decisions/0036-papers-by-typst.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final, Literal

import segno
from segno.helpers import make_epc_qr

from fhir_server.outcome import Outcome

Paper = Literal["a4", "letter"]
PAPERS: Final[tuple[Paper, ...]] = ("a4", "letter")
MAX_ROWS: Final = 2_000
"""Rows of one paper: about forty pages."""
_LARGE: Final = 40
_FORGOTTEN: Final = 11

_STANDARDS: Final[list[Any]] = ["a-2a", "ua-1"]
_LESS: Final[list[Any]] = ["1.7"]


@dataclass(frozen=True, slots=True)
class Look:
    """How a sheet is printed: on which paper, as a copy or not, when, and what its QR code leads to, if it has one.

    The same sheet with the same look gives the same bytes.
    """

    at: datetime
    paper: Paper = "a4"
    copy: bool = False
    link: str | None = None


def press(sheet: dict[str, Any], look: Look) -> bytes:
    """The PDF of a sheet: tagged, with its title and language, all fonts in it; PDF/UA-1 and PDF/A-2a where the fonts have all of its characters.

    What they do not have is set in the machine's fonts, and printed as a box where these lack it too. Takes some 20 ms of one core for a page.
    Raises Outcome `too-costly` beyond MAX_ROWS.
    """
    import typst  # noqa: PLC0415 - 7 MB of memory, for processes that print

    rows = sum(len(value) for value in sheet.values() if isinstance(value, list)) + sum(len(each["rows"]) for each in sheet.get("accounts", ()))
    if rows > MAX_ROWS:
        raise Outcome("too-costly", f"A paper has {MAX_ROWS:,} rows at the most, and this one would have {rows:,}")
    data = {**sheet, "paper": "us-letter" if look.paper == "letter" else "a4", "is_copy": look.copy, "qr": _qr(look.link)}
    if (transfer := sheet.get("transfer")) is not None:
        data["transfer"] = {**transfer, "qr": _giro_code(transfer)}
    folder = files(__package__)
    asked: dict[str, Any] = {
        "root": str(folder.joinpath("templates")),
        "font_paths": _fonts(),
        "ignore_system_fonts": True,
        "format": "pdf",
        "sys_inputs": {"data": json.dumps(data, ensure_ascii=False)},
        "timestamp": int(look.at.timestamp()),
    }
    main = str(folder.joinpath("templates", f"{sheet['kind']}.typ"))
    try:
        made: bytes = typst.compile(main, pdf_standards=_STANDARDS, **asked)
    except typst.TypstError as error:
        if not str(error).startswith("PDF/"):
            raise
        # Both standards refuse a character that no font has. A name in the machine's letters is better than boxes.
        made = _with_all_fonts(main, asked)
    if rows > _LARGE:
        # Typst keeps what it has set until it was not needed in ten papers: 500 MB after ten of 1,000 rows.
        for _ in range(_FORGOTTEN):
            typst.compile(b"", font_paths=_fonts(), ignore_system_fonts=True, format="pdf")
    return made


def _with_all_fonts(main: str, asked: dict[str, Any]) -> bytes:
    import typst  # noqa: PLC0415 - see press

    asked = {**asked, "font_paths": _fonts(of_the_machine=True)}
    try:
        made: bytes = typst.compile(main, pdf_standards=_STANDARDS, **asked)
    except typst.TypstError:
        made = typst.compile(main, pdf_standards=_LESS, **asked)
    return made


@cache
def _fonts(*, of_the_machine: bool = False) -> Any:
    import typst  # noqa: PLC0415 - see press

    # Those of the machine would make another paper on each; those that Typst brings along have what ours lack.
    own = [str(files(__package__).joinpath("fonts"))]
    return typst.Fonts(include_system_fonts=of_the_machine, include_embedded_fonts=True, font_paths=own)


@lru_cache(maxsize=8)  # The first paper and its copy have the same.
def _qr(link: str | None) -> list[str] | None:
    """The modules of a QR code, a text of 0 and 1 for each row."""
    if link is None:
        return None
    return _rows(segno.make(link, error="m", micro=False))


def _giro_code(transfer: Mapping[str, str]) -> list[str]:
    """The QR code that banks' apps read a transfer from, by EPC069-12."""
    return _rows(make_epc_qr(transfer["name"], transfer["iban"], Decimal(transfer["amount"]), text=transfer["text"], encoding="utf-8"))


def _rows(code: segno.QRCode) -> list[str]:
    return ["".join("1" if dark else "0" for dark in row) for row in code.matrix]
