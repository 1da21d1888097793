"""The escape sequences of HL7 v2 text. https://www.hl7.eu/refactored/ch02.html (2.7)"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from . import iso2022
from .separators import Separators

_LONGEST: Final = 80
"""Blanks or lines that one command of formatted text may make: a line of the devices that it was meant for."""

_TRUNCATION: Final = "#"
_WIDE: Final = ("utf-16", "utf-32")


def undo(text: str, separators: Separators, codec: str) -> str:
    """The text that escapes stand for, in a message of the character set `codec`.

    Separators, bytes in hexadecimal, other character sets, and what formats text: lines and blanks are made, the rest of it is dropped as
    highlighting is. What is no sequence of the standard, or says what cannot be, is kept as it stands. Costs 0.1 µs where there is none.
    """
    mark = separators.escape
    if mark not in text:
        return text
    switch = _switches(mark)
    found = switch.search(text)
    if found is None:
        return _undone(text, separators, codec)
    parts = [_undone(text[: found.start()], separators, codec)]
    while found is not None:
        following = switch.search(text, found.end())
        inner = _undone(text[found.end() : following.start() if following else len(text)], separators, codec)
        parts.append(_switched(found, inner, codec))
        found = following
    return "".join(parts)


def do(text: str, separators: Separators) -> str:
    """The text as it may stand in a message with these separators: what would end a part of it, or the frame around it, is escaped.

    `undo` gives the same text back. Two quotes alone, which would mean that there is no value, are escaped too.
    """
    mark = separators.escape
    return f'{mark}X22{mark}"' if text == '""' else text.translate(_table(separators))


@lru_cache(maxsize=64)
def _table(separators: Separators) -> dict[int, str]:
    mark = separators.escape
    controls = {number: f"{mark}X{number:02X}{mark}" for number in (0x00, 0x0B, 0x0D, 0x1C)}
    names = zip((*separators, "\n"), ("F", "S", "R", "E", "T", ".br"), strict=True)
    return controls | {ord(character): f"{mark}{name}{mark}" for character, name in names}


@lru_cache(maxsize=64)
def _letters(separators: Separators) -> dict[str, str]:
    names = ("F", "S", "R", "E", "T")
    return dict(zip(names, separators, strict=True)) | {"P": _TRUNCATION, "H": "", "N": ""}


@lru_cache(maxsize=64)
def _sequences(mark: str) -> re.Pattern[str]:
    quoted = re.escape(mark)
    return re.compile(rf"{quoted}(?:([FSTREPHN])|\.([A-Za-z]{{2}}) ?([+-]?\d{{0,6}})){quoted}|(?:{quoted}X(?:[0-9A-Fa-f]{{2}})+{quoted})+")


@lru_cache(maxsize=64)
def _switches(mark: str) -> re.Pattern[str]:
    quoted = re.escape(mark)
    return re.compile(rf"{quoted}(?:C([0-9A-Fa-f]{{4}})|M([0-9A-Fa-f]{{4}}(?:[0-9A-Fa-f]{{2}})?)){quoted}")


def _undone(text: str, separators: Separators, codec: str) -> str:
    def meant(match: re.Match[str]) -> str:
        letter, command, amount = match.groups()
        if letter:
            return _letters(separators)[letter]
        if command:
            formatted = _formatted(command.lower(), amount)
            return match[0] if formatted is None else formatted
        return _hexadecimal(match[0], separators.escape, codec)

    return _sequences(separators.escape).sub(meant, text)


def _formatted(command: str, amount: str) -> str | None:
    number = min(max(int(amount) if amount.strip("+-") else 1, 1), _LONGEST)
    if command in {"br", "ce"}:
        return "\n"
    if command == "sp":
        return "\n" * number
    if command in {"sk", "ti"}:
        return " " * number
    return "" if command in {"in", "fi", "nf"} else None


def _hexadecimal(sequence: str, mark: str, codec: str) -> str:
    """What one or more sequences of bytes say: a letter of several bytes may be cut between two of them."""
    runs = [bytes.fromhex(run[1:]) for run in sequence.strip(mark).split(mark * 2)]
    if codec.startswith(_WIDE):
        # Bytes of an escape have no order of their own: the greater comes first, as numbers are written. One alone is ASCII.
        said = [_decoded(run, "ascii" if len(run) == 1 else f"{codec[:6]}-be") for run in runs]
        whole = None if None in said else "".join(each for each in said if each)
    else:
        whole = _decoded(b"".join(runs), codec)
    # Neither FHIR nor the database has a place for NUL.
    return sequence if whole is None or "\0" in whole else whole


def _decoded(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _switched(match: re.Match[str], text: str, codec: str) -> str:
    """Text after a sequence that names another character set: its bytes are that set's up to the next such sequence."""
    named = bytes.fromhex(match[1] or match[2])
    narrow = "ascii" if codec.startswith(_WIDE) else codec
    try:
        return iso2022.decode(b"\x1b" + named + text.encode(narrow), narrow)
    except UnicodeError:
        return match[0] + text
