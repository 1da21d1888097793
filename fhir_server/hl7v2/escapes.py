"""The escape sequences of HL7 v2 text. https://www.hl7.eu/refactored/ch02.html (2.7)"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import Separators


def undo(text: str, separators: Separators, codec: str) -> str:  # noqa: ARG001 - as its face is
    """The text that escapes stand for; what is no escape sequence of the standard is kept as it stands."""
    mark = separators.escape
    if mark not in text:
        return text
    for letter, meant in (("F", separators.field), ("S", separators.component), ("T", separators.subcomponent), ("R", separators.repetition)):
        text = text.replace(f"{mark}{letter}{mark}", meant)
    return text.replace(f"{mark}.br{mark}", "\n").replace(f"{mark}E{mark}", mark)
