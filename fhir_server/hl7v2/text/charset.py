"""From the bytes of a message to its text and back, by the character set that MSH-18 names. https://terminology.hl7.org/CodeSystem-v2-0211.html"""

from __future__ import annotations

import codecs
import re
from typing import Final

from . import iso2022
from .unreadable import Unreadable

_UNREADABLE_HERE: Final = ""
"""Stands for a set of the table that Python has no codec for: such messages are read as long as they keep to ASCII."""

_REGISTERED: Final = {100: 1, 101: 2, 109: 3, 110: 4, 144: 5, 127: 6, 126: 7, 138: 8, 148: 9, 203: 15}
"""Parts of ISO 8859 by the numbers of their right halves in the register of ISO/IEC 2022."""

_ASCII: Final = "ascii"
_NAMES: Final[dict[str, str]] = {
    **dict.fromkeys(("ASCII", "USASCII", "ISOIR6", "ISO2022IR6"), _ASCII),
    **dict.fromkeys(("UTF8", "UNICODEUTF8", "UNICODE", "ISOIR192"), "utf-8"),
    **dict.fromkeys(("UTF16", "UNICODEUTF16", "UTF32", "UNICODEUTF32"), _UNREADABLE_HERE),
    **{f"{prefix}8859{part}": f"iso8859_{part}" for prefix in ("", "ISO", "ISOIEC") for part in (*range(1, 12), *range(13, 17))},
    **{f"{prefix}{page}": f"cp{page}" for prefix in ("", "CP", "WINDOWS", "WIN") for page in range(1250, 1259)},
    **{f"{prefix}IR{number}": f"iso8859_{part}" for number, part in _REGISTERED.items() for prefix in ("ISO", "ISO2022")},
    **{f"{prefix}IR{number}": "iso2022_jp_ext" for number in (13, 14, 87, 159) for prefix in ("ISO", "ISO2022")},
    # What senders write under these names is what Windows calls by them: the standard's characters and more.
    **dict.fromkeys(("GB180302000", "GB18030", "GB2312", "GBK"), "gb18030"),
    **dict.fromkeys(("KSX1001", "KSC5601", "EUCKR"), "cp949"),
    **dict.fromkeys(("BIG5", "CP950"), "cp950"),
    **dict.fromkeys(("SHIFTJIS", "SJIS", "CP932", "MS932"), "cp932"),
    "EUCJP": "euc_jp",
    "CNS116431992": _UNREADABLE_HERE,
}
"""Names as senders write them, less all but their letters and digits."""

_IN_HEADERS: Final = ("gb18030", "cp950", "cp949", "cp932")
"""Sets in which a letter may have a separator for its last byte, so that fields of MSH cannot be counted before they are known."""

_MARKED: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_STARTS: Final = ("MSH", "FHS", "BHS")
_WIDE: Final = tuple((start.encode(codec), codec) for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be") for start in _STARTS)
_JAPANESE: Final = "iso2022_jp_ext"
_ODD: Final = re.compile("[^A-Z0-9]")
_TWO_BYTES: Final = re.compile(rb"\x1b\$[(]?[@-~][^\x1b\r\n]*(?:\x1b\([BJ])?")
_HEADER: Final = re.compile(rb"MSH([^\r\n]{1,65536})")
_PLACE: Final = 18
_MIXED: Final = b"\x1b"


def wide(raw: bytes) -> str | None:
    """The codec of text whose characters have two or four bytes, told by its byte-order mark or its first segment; None for all other."""
    for mark, codec in _MARKED:
        if raw.startswith(mark):
            return codec
    for start, codec in _WIDE:
        if raw.startswith(start):
            return codec
    return None


def decode(raw: bytes) -> tuple[str, str]:
    """The text of a message, without byte-order mark, and the Python name of its character set.

    Without MSH-18 it is UTF-8 where the bytes are, else ISO 8859-1; so it is too where MSH-18 says ASCII and they are not, as with analysers that
    cannot be set otherwise: see `belied`. Costs 5 µs and what Python takes to decode.
    Raises Unreadable where MSH-18 names what is not known, or the bytes are not what else it names: no character is left out.
    """
    codec = wide(raw)
    if codec:
        return _strict(raw, codec).removeprefix("\ufeff"), codec
    body = raw.removeprefix(codecs.BOM_UTF8)
    names = _declared(body)
    if not any(names):
        return _likely(body)
    found = [_codec(name) if name else _ASCII for name in names]
    if body.isascii() and _MIXED not in body:
        return body.decode(_ASCII), found[0] or _ASCII
    if _UNREADABLE_HERE in found:
        raise Unreadable("MSH-18 names a character set that is not supported", code="103", field=_PLACE)
    if len(found) > 1 or found[0] == _JAPANESE:
        return _mixed(body, found)
    return _likely(body) if found[0] == _ASCII else (_strict(body, found[0]), found[0])


def belied(name: str, codec: str) -> bool:
    """Whether MSH-18 names ASCII and the text was read by another codec."""
    return bool(name) and codec != _ASCII and _NAMES.get(_ODD.sub("", name.upper())) == _ASCII


def encode(text: str, codec: str) -> bytes:
    """The bytes of an answer in the character set of its message; a character that this set has not becomes a question mark."""
    return text.encode(codec, "replace")


def _likely(body: bytes) -> tuple[str, str]:
    try:
        return body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return body.decode("iso8859_1"), "iso8859_1"


def _strict(raw: bytes, codec: str) -> str:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError as error:
        raise Unreadable(f"From byte {error.start + 1} on the message is not in the character set {codec}", code="102", field=_PLACE) from None


def _mixed(raw: bytes, found: list[str]) -> tuple[str, str]:
    # JIS X 0201, where it is the first, has the Japanese syllables of one byte in its right half.
    start = "shift_jis" if found[0] == _JAPANESE else found[0]
    try:
        return iso2022.decode(raw, start), _JAPANESE if _JAPANESE in found else found[0]
    except UnicodeDecodeError:
        raise Unreadable("The message is not in the character sets that MSH-18 names", code="102", field=_PLACE) from None


def _codec(name: str) -> str:
    codec = _NAMES.get(_ODD.sub("", name.upper()))
    if codec is None:
        raise Unreadable("MSH-18 names a character set that is not known", code="103", field=_PLACE)
    return codec


def _declared(raw: bytes) -> list[str]:
    """The names in MSH-18, an empty first one among them; none where the field is absent."""
    match = _HEADER.search(raw)
    if match is None:
        return []
    line = match[1]
    if _MIXED in line:
        line = _TWO_BYTES.sub(b"", line)
    names = _names(line.decode("iso8859_1"))
    if line.isascii() or (any(names) and all(_ODD.sub("", name.upper()) in _NAMES for name in names if name)):
        return names
    for codec in _IN_HEADERS:
        text = line.decode(codec, "ignore")
        read = _names(text)
        if any(_NAMES.get(_ODD.sub("", name.upper())) == codec for name in read):
            return read
    return names


def _names(header: str) -> list[str]:
    fields = header.split(header[:1] or "|")
    if len(fields) < _PLACE or not fields[_PLACE - 1].strip():
        return []
    component, repetition = fields[1][:1] or "^", fields[1][1:2] or "~"
    return [each.partition(component)[0].strip() for each in fields[_PLACE - 1].split(repetition)]
