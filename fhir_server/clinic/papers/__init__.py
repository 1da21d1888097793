"""Papers of the record: gathered as the caller sees it, printed, and the first one of each kept."""

from .issuing import Given, Wanted, give

__all__ = ["Given", "Wanted", "give"]
