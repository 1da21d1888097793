"""Blocks of the Minimal Lower Layer Protocol out of a stream of bytes, and what else comes: nothing is lost without a word.

A block is `<VT> message <FS><CR>`. Senders leave the VT or the CR away, put line ends between blocks, break off and begin anew; see `Kind`.
https://www.hl7.eu/refactored/ (transport specification: MLLP, release 1)
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

VT: Final = b"\x0b"
FS: Final = b"\x1c"
CR: Final = b"\r"
KEPT: Final = 64 * 1024
"""Bytes that are kept of a block that is too long."""

_ENDS: Final = frozenset(b"\r\n\x0b")
_BLANK: Final = b"\r\n\t \0"
_HEADER: Final = re.compile(rb"[\s\0]*(?:\xef\xbb\xbf)?(?:MSH|FHS|BHS)|\xff\xfeM\0|\xfe\xff\0M")
# A run of VT is tried once, from its beginning, and no blanks are looked at behind two of them: each of 16 million VT would look at all the others.
_ANEW: Final = re.compile(rb"(?<!\x0b)\x0b++(?=[ \t\r\n\f\0]*(?:\xef\xbb\xbf)?(?:MSH|FHS|BHS))")

Kind = Literal["block", "cut", "stray", "long"]
"""What a piece of the stream is.

`block`: a whole block, or what could be one but for a VT that is missing. `cut`: one that breaks off, since another begins in it or the stream ends.
`stray`: other bytes outside of blocks. `long`: the first bytes of a block beyond the limit, whose rest is passed over.
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """What stands between two marks of the protocol, without these."""

    kind: Kind
    raw: bytes


def block(message: bytes) -> bytes:
    """A message as a block."""
    return VT + message + FS + CR


def is_header(raw: bytes) -> bool:
    """Whether the bytes begin as a message or a batch does."""
    return _HEADER.match(raw) is not None


class Framer:
    """The pieces of one stream. Holds no more than the limit and what it was fed last; each byte is looked at once."""

    def __init__(self, limit: int) -> None:
        """`limit` is the largest message, in bytes."""
        self._limit = limit
        self._buffer = bytearray()
        self._seen = 0
        self._ready: deque[Piece] = deque()
        self._passing = False

    @property
    def held(self) -> int:
        """Bytes that wait for their end."""
        return len(self._buffer)

    @property
    def inside(self) -> bool:
        """Whether a block has begun, or something else that should come to an end."""
        return self._passing or bool(self._buffer)

    @property
    def ends(self) -> bool:
        """Whether the last byte is FS: the end of a block, if no more than CR follows."""
        return self._buffer.endswith(FS)

    def feed(self, data: bytes) -> None:
        """Adds what has come."""
        self._buffer += data if self._buffer else data.lstrip(_BLANK)

    def take(self) -> Piece | None:
        """The next piece; None until more has come."""
        while not self._ready:
            end = self._buffer.find(FS, self._seen)
            if end < 0 or end + 1 == len(self._buffer):
                self._seen = max(0, len(self._buffer) - (end >= 0))
                return self._overrun()
            if self._buffer[end + 1] not in _ENDS:
                # It is data. A text of UTF-16 may have such a byte.
                self._seen = end + 1
                continue
            # Of FS VT the VT begins the next block.
            self._cut_off(end, end + 2 - (self._buffer[end + 1] == VT[0]))
        return self._ready.popleft()

    def conclude(self) -> None:
        """Takes the FS at the end for the end of the block, since nothing follows."""
        if self.ends:
            self._cut_off(len(self._buffer) - 1, len(self._buffer))

    def close(self) -> Piece | None:
        """What is left when the stream has ended; None where nothing is. The pieces that are whole are to be taken before."""
        raw = bytes(self._buffer)
        self._buffer.clear()
        self._seen = 0
        if self._passing or not raw.strip(_BLANK + VT):
            return None
        begun = VT in raw or is_header(raw)
        return Piece("cut" if begun else "stray", raw.lstrip(VT) if begun else raw)

    def _cut_off(self, end: int, behind: int) -> None:
        raw = bytes(self._buffer[:end])
        while behind < len(self._buffer) and self._buffer[behind] in _BLANK:
            behind += 1
        del self._buffer[:behind]
        self._seen = 0
        if self._passing:
            self._passing = False
            return
        before, begun, body = raw.partition(VT)
        if not begun and is_header(raw):
            self._ready.append(Piece("block", raw))
            return
        if before.strip(_BLANK):
            self._ready.append(Piece("cut" if is_header(before) else "stray", before))
        if not begun:
            return
        *cut, last = _ANEW.split(body)
        self._ready.extend(Piece("cut", each) for each in cut if each.strip(_BLANK + VT))
        self._ready.append(Piece("block", last))

    def _overrun(self) -> Piece | None:
        if self._passing:
            # Only an FS at the end may matter still.
            del self._buffer[: len(self._buffer) - self.ends]
            self._seen = 0
            return None
        if len(self._buffer) <= self._limit + len(VT):
            return None
        kept = bytes(self._buffer[:KEPT])
        del self._buffer[: len(self._buffer) - self.ends]
        self._seen = 0
        self._passing = True
        return Piece("long", kept.lstrip(VT))
