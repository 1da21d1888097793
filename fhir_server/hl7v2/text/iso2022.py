"""Text that changes its character set on the way, by the escape sequences of ISO/IEC 2022 that MSH-18 allows when it repeats.

https://www.itscj-ipsj.jp/ir/ISO-IR.pdf (the registered sequences), https://www.hl7.eu/refactored/segMSH.html (MSH-18)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_SEQUENCE: Final = re.compile(rb"\x1b((?:\$[()]?|[()\-.])[@-~])")
_RUN: Final = re.compile(rb"[\r\n]+|[\x00-\x09\x0b\x0c\x0e-\x7f]+|[\x80-\xff]+")

_Reader = Callable[[bytes], str]


def _by(codec: str) -> _Reader:
    return lambda chunk: chunk.decode(codec)


def _raised(codec: str) -> _Reader:
    # Codecs know these sets in the right half only; in the left one they are the same less the eighth bit.
    return lambda chunk: bytes(byte | 0x80 if byte > 0x20 else byte for byte in chunk).decode(codec)  # noqa: PLR2004 - the blank


def _japanese(sequence: bytes) -> _Reader:
    return lambda chunk: (b"\x1b" + sequence + chunk + b"\x1b(B").decode("iso2022_jp_ext")


def _kana(chunk: bytes) -> str:
    # The Japanese syllables of JIS X 0201, a byte each; the codec would take other bytes for halves of its own letters.
    if min(chunk) < 0xA1 or max(chunk) > 0xDF:  # noqa: PLR2004 - the first and the last
        raise UnicodeDecodeError("jisx0201", chunk, 0, len(chunk), "not a syllable of JIS X 0201")
    return chunk.decode("shift_jis")


_ASCII: Final = _by("ascii")
_LEFT: Final[dict[bytes, _Reader]] = {
    b"(B": _ASCII,
    # JIS X 0201 has a yen sign and an overline where ASCII has two of the separators, which is what senders mean.
    b"(J": _ASCII,
    b"(I": lambda chunk: _kana(bytes(byte | 0x80 for byte in chunk)),
    b"$@": _japanese(b"$@"),
    b"$B": _japanese(b"$B"),
    b"$(D": _japanese(b"$(D"),
    b"$(C": _raised("euc_kr"),
    b"$(A": _raised("gb2312"),
    b"$A": _raised("gb2312"),
}
_LATIN: Final = {b"A": 1, b"B": 2, b"C": 3, b"D": 4, b"L": 5, b"G": 6, b"F": 7, b"H": 8, b"M": 9, b"V": 10, b"T": 11, b"Y": 13, b"_": 14, b"b": 15}
_RIGHT: Final[dict[bytes, _Reader]] = {
    **{b"-" + letter: _by(f"iso8859_{part}") for letter, part in _LATIN.items()},
    **{b"." + letter: _by(f"iso8859_{part}") for letter, part in _LATIN.items()},
    b")I": _kana,
    b"$)C": _by("euc_kr"),
    b"$)A": _by("gb2312"),
}


def decode(raw: bytes, codec: str) -> str:
    """The text of bytes that begin in `codec` and switch by escape sequences; a line's end leads back to where they began.

    `shift_jis` stands for the one-byte part of it, JIS X 0201.
    Raises UnicodeDecodeError where bytes are none of the set that they stand in, or a sequence names a set that is not known.
    """
    start = _kana if codec == "shift_jis" else _by(codec)
    left, right = _ASCII, start
    parts: list[str] = []
    for index, chunk in enumerate(_SEQUENCE.split(raw)):
        if index % 2:
            left, right = _switched(chunk, left, right)
            continue
        if b"\x1b" in chunk:
            raise UnicodeDecodeError("iso2022", chunk, 0, len(chunk), "an escape sequence that is not known")
        for run in _RUN.findall(chunk):
            if run[0] in b"\r\n":
                left, right = _ASCII, start
                parts.append(run.decode("ascii"))
            else:
                parts.append((left if run[0] < 0x80 else right)(run))  # noqa: PLR2004 - the eighth bit
    return "".join(parts)


def _switched(sequence: bytes, left: _Reader, right: _Reader) -> tuple[_Reader, _Reader]:
    if sequence in _LEFT:
        return _LEFT[sequence], right
    if sequence in _RIGHT:
        return left, _RIGHT[sequence]
    raise UnicodeDecodeError("iso2022", sequence, 0, len(sequence), "an escape sequence of no set that is known")
