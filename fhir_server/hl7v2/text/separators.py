"""The characters that split a message, as each message names its own. https://www.hl7.eu/refactored/ch02.html (2.5.4)"""

from __future__ import annotations

from typing import Final, NamedTuple

from .unreadable import Unreadable

_NAMED: Final = 4  # Component, repetition, escape, subcomponent; a fifth, of 2.7, marks what was cut off.


class Separators(NamedTuple):
    """The characters that a message splits its parts with, as its MSH-1 and MSH-2 say."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


def separators_of(header: str) -> Separators:
    """The separators that MSH, or a header of a batch, names. Raises Unreadable where it names none that messages could be read by."""
    field = header[3:4]
    if not field or field.isalnum() or field.isspace():
        raise Unreadable("MSH-1 names no separator", field=1)
    encoding = header[4:].partition(field)[0]
    if not 1 <= len(encoding) <= _NAMED + 1 or len({field, *encoding}) != len(encoding) + 1 or any(each.isalnum() for each in encoding):
        raise Unreadable("MSH-2 does not name the separators of components, repetitions, escapes and subcomponents")
    # Short ones leave out what their messages do not use; no text has these controls.
    whole = (encoding + "\0\1\2\3")[:4] if len(encoding) < _NAMED else encoding
    return Separators(field, whole[0], whole[1], whole[2], whole[3])
