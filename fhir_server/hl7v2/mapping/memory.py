"""Values that come again and again, as codes and units do, are converted once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fhir_server.hl7v2.message import Repetition

from .context import Context

Convert = Callable[[Repetition, Context], Any]
"""Makes of a field's repetition, or of a component, what stands for it in FHIR; None where nothing does."""
_MOST: Final = 1_000
_SHORT: Final = 200


def remembered(convert: Convert, *, lasts: bool) -> Convert:
    """Converts the same text of the same sender once, and gives a copy from then on. For what depends on nothing but these two.

    Only where it `lasts` is a value kept beyond its message, for which it may say nothing of a patient. Up to 1,000 values of 200 characters are
    kept, and none for which something was reported.
    """
    lasting: dict[tuple[object, ...], Any] = {}

    def of(value: Repetition, context: Context) -> Any:
        known = lasting if lasts else context.known
        key = (convert, value.raw, value.separator, context.dialect, context.facility)
        found = known.get(key)
        if found is not None:
            return _copy(found)
        reports = context.reports
        made = convert(value, context)
        if made is not None and context.reports == reports and len(value.raw) <= _SHORT:
            if len(known) >= _MOST:
                known.clear()
            known[key] = _copy(made)
        return made

    return of


def _copy(value: Any) -> Any:
    """A copy whose objects and lists are its own."""
    if isinstance(value, dict):
        copied = value.copy()
        for name, inner in copied.items():
            if not isinstance(inner, str):
                copied[name] = _copy(inner)
        return copied
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
