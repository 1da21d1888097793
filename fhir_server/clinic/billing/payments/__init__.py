"""Money that comes in and goes out: what is paid at the desk or received otherwise, what is given back, what is owed, and the drawers it lies in.

https://hl7.org/fhir/R4/paymentreconciliation.html

Each payment is a PaymentReconciliation, a PaymentNotice for each of its invoices, and entries of the ledger, in one transaction. Credit is no account
of its own: it is what was paid of an invoice beyond what is due of it.
"""

from .receiving import Paid, Wanted, pay, pay_several, receive, record
from .records import Line, Receipt
from .refunds import approve_refund, ask_refund

__all__ = ["Line", "Paid", "Receipt", "Wanted", "approve_refund", "ask_refund", "pay", "pay_several", "receive", "record"]
