"""Papers that a clinic prints: resources in, PDF out. Pure: what is shown is what is given.

A function of each kind makes a Sheet of a Record, in some Wording; `press` makes its PDF.
"""

from collections.abc import Callable, Mapping
from typing import Final

from .bills import invoice, receipt
from .press import PAPERS, Look, Paper, press
from .reading import Record
from .report import report
from .sheets import Sheet
from .slip import prescription
from .statement import balances, statement
from .visit import card, summary, token
from .wording import Wording, language_of

KINDS: Final[Mapping[str, Callable[[Record, Wording], Sheet]]] = {
    "invoice": invoice,
    "receipt": receipt,
    "prescription": prescription,
    "report": report,
    "statement": statement,
    "summary": summary,
    "token": token,
    "card": card,
}
"""What makes the sheet of each kind of paper."""

__all__ = ["KINDS", "PAPERS", "Look", "Paper", "Record", "Sheet", "Wording", "balances", "language_of", "press"]
