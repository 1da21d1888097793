"""Batch and transaction. https://hl7.org/fhir/R4/http.html#transaction"""

from .process import bundle_entries, process, transaction

__all__ = ["bundle_entries", "process", "transaction"]
