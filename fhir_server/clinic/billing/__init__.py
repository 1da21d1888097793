"""Billing: templates price charges, charges become invoices, and a ledger says what is still due.

Each step is one transaction. What others book on an invoice, as payments, they book by `ledger`.
"""

from .adjusting import Asked, adjust, decide
from .charging import apply
from .credits import Wanted, credit
from .invoices import Chosen, cancel, generate
from .issuing import issue

__all__ = ["Asked", "Chosen", "Wanted", "adjust", "apply", "cancel", "credit", "decide", "generate", "issue"]
