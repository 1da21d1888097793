"""Numbers of bank accounts. Pure. ISO 13616; check digits by ISO 7064, MOD 97-10.

An Organization has its own as an identifier of SYSTEM, with or without spaces.
"""

from __future__ import annotations

import re
from typing import Final

SYSTEM: Final = "urn:iso:std:iso:13616"
_SHAPE: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", re.ASCII)
_REST: Final = 97
_MOST: Final = 64


def normal(text: object) -> str | None:
    """An IBAN without spaces, in capitals; None for what is none, as where a digit is wrong or two have changed places."""
    if not isinstance(text, str) or len(text) > _MOST:
        return None
    found = text.replace(" ", "").upper()
    if not _SHAPE.fullmatch(found):
        return None
    digits = "".join(str(int(character, 36)) for character in found[4:] + found[:4])
    return found if int(digits) % _REST == 1 else None


def spaced(iban: str) -> str:
    """An IBAN as it is printed, in groups of four."""
    return " ".join(iban[n : n + 4] for n in range(0, len(iban), 4))
