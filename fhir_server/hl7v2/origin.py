"""The mark of where a change came from, so that it is not told to whoever it came from."""

from __future__ import annotations


def origin(application: str, facility: str) -> str:
    """The `client` of grants under which messages of a sender (MSH-3, MSH-4) are written."""
    return f"HL7 v2 {application}|{facility}"
