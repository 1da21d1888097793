"""What is said of bytes that are no message."""

from __future__ import annotations

from .faults import Fault


class Unreadable(Exception):  # noqa: N818 - the field's word for it
    """The bytes cannot be read as HL7 v2; the text says why, without a word of what stands in them.

    `fault` is what AR is answered with: the same message would be refused again.
    """

    def __init__(self, text: str, *, code: str = "199", field: int | None = None) -> None:
        """Takes what is wrong, its code of table 0357, and the field of MSH that is at fault, where it is one."""
        super().__init__(text)
        self.fault = Fault(code, text, "MSH" if field else "", field=field)
