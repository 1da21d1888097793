"""What an id is, and those that the server gives: UUID version 7, so that neighbours in time are neighbours in the index.

https://hl7.org/fhir/R4/datatypes.html#id, https://www.rfc-editor.org/rfc/rfc9562#section-5.7
"""

from __future__ import annotations

import os
import re
import time
from typing import Final
from uuid import UUID

ID_RULE: Final = "1 to 64 of A-Z, a-z, 0-9, '-' and '.'"
"""What an id is, as callers are told."""
# What consists of dots alone is a step in a path: no address would lead there.
_ID: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9\-.]{1,64}")


def is_id(text: str) -> bool:
    """Whether a text can be the id of a resource."""
    return _ID.fullmatch(text) is not None


def new_id() -> str:
    """A UUID of the current millisecond and 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high = (milliseconds << 16) | 0x7000 | (random >> 68)
    low = (0b10 << 62) | (random & ((1 << 62) - 1))
    return str(UUID(int=(high << 64) | low))
