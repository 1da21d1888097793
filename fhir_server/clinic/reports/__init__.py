"""Reports for whoever runs the clinic: money, waits, bookings, the laboratory.

    made = make(store, REPORTS["revenue"], Asked(first, last, by=("doctor",)))

Each is a statement or two over rows kept with the resources (`store.rules.reports`, the rows of searches, of Slots, and the ledger), and says of
each figure what it is made of in FHIR, so that anybody can compute it again. docs/decisions/0040-reports-of-rows.md
"""

from .book import REPORTS, make
from .csv import as_csv
from .report import MOST_DAYS, USUAL_DAYS, Asked, Column, Made, Report

__all__ = ["MOST_DAYS", "REPORTS", "USUAL_DAYS", "Asked", "Column", "Made", "Report", "as_csv", "make"]
