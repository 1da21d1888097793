"""The operations on appointments, as the registry knows them."""

from __future__ import annotations

from typing import Final

from fhir_server.operations.operation import Operation, acting, reading
from fhir_server.settings import CANON

from . import booking, moves
from .find import find

OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("Appointment", "find"): reading(CANON, "Appointment-find", find, frozenset({"type"})),
    ("Appointment", "hold"): acting("Appointment-hold", booking.hold, "type"),
    ("Appointment", "book"): acting("Appointment-book", booking.book, "type"),
    ("Appointment", "confirm"): acting("Appointment-confirm", moves.confirm, "instance"),
    ("Appointment", "decline"): acting("Appointment-decline", moves.decline, "instance"),
    ("Appointment", "cancel"): acting("Appointment-cancel", moves.cancel, "instance"),
    ("Appointment", "reschedule"): acting("Appointment-reschedule", moves.reschedule, "instance"),
    ("Appointment", "no-show"): acting("Appointment-no-show", moves.no_show, "instance"),
}

__all__ = ["OPERATIONS"]
