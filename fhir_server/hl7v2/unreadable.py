"""What is said of bytes that are no message."""

from __future__ import annotations


class Unreadable(Exception):  # noqa: N818 - the field's word for it
    """The bytes cannot be read as HL7 v2; the text says why, without a word of what stands in them."""
