"""Billing: templates price charges, charges become invoices, and a ledger says what is still due."""
