"""Ids that the server gives: UUID version 7, so that neighbours in time are neighbours in the index.

https://www.rfc-editor.org/rfc/rfc9562#section-5.7
"""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> str:
    """A UUID of the current millisecond and 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high = (milliseconds << 16) | 0x7000 | (random >> 68)
    low = (0b10 << 62) | (random & ((1 << 62) - 1))
    return str(UUID(int=(high << 64) | low))
