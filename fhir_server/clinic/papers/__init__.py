"""Papers of the record: gathered as the caller sees it, printed, the first one of each kept, and known again by its code."""

from .accounts import Period
from .issuing import Given, Wanted, give
from .verifying import Verified, verify

__all__ = ["Given", "Period", "Verified", "Wanted", "give", "verify"]
