"""Money that comes in and goes out: what is paid at the desk or received otherwise, what is given back, what is owed, and the drawers it lies in.

https://hl7.org/fhir/R4/paymentreconciliation.html

Each payment is a PaymentReconciliation, a PaymentNotice for each of its invoices, and entries of the ledger, in one transaction. Credit is no account
of its own: it is what was paid of an invoice beyond what is due of it.
"""

from .credit import Account, accounts
from .receiving import METHODS, Method, Paid, Wanted, pay, pay_several, receive
from .refunds import GIVEN, Given, approve_refund, ask_refund

__all__ = [
    "GIVEN",
    "METHODS",
    "Account",
    "Given",
    "Method",
    "Paid",
    "Wanted",
    "accounts",
    "approve_refund",
    "ask_refund",
    "pay",
    "pay_several",
    "receive",
]
