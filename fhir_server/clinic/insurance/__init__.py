"""Insurance: what is claimed of payers for invoices, and what they answer. Who pays how much of an invoice is in `billing.insured`."""
